"""From feature maps to logits: neck and heads."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def resize(feature: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize that keeps the borders of the image in place.

    Args:
        feature: Maps of shape (B, C, h, w).
        size: Height and width of the result.

    Returns:
        Maps of shape (B, C, *size).
    """
    height, width = size
    if feature.shape[-2:] == (height, width):
        return feature
    return F.interpolate(feature, (height, width), mode='bilinear', align_corners=False)


class MultiLevelNeck(nn.Module):
    """Give each feature map a resolution of its own.

    Per map a 1x1 convolution, a bilinear resize and a 3x3 convolution, all linear.
    Follows the neck of that name in mmsegmentation, which KTDA uses to make a pyramid of
    maps of one size.
    """

    def __init__(
        self, in_channels: int, channels: int, scales: Sequence[float]
    ) -> None:
        """Initialize a new MultiLevelNeck instance.

        Args:
            in_channels: Channels of every map before.
            channels: Channels of every map after.
            scales: Size of each map after, relative to before.
        """
        super().__init__()
        self.scales = tuple(scales)
        self.lateral = nn.ModuleList(
            nn.Conv2d(in_channels, channels, 1) for _ in scales
        )
        self.output = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in scales
        )
        self.apply(_init_xavier)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Rescale feature maps.

        Args:
            features: One map per scale, of shapes (B, in_channels, h_i, w_i).

        Returns:
            As many maps, of shapes (B, channels, h_i * scale_i, w_i * scale_i), rounded
            down.
        """
        return [
            output(_rescale(lateral(feature), scale))
            for lateral, output, feature, scale in zip(
                self.lateral, self.output, features, self.scales, strict=True
            )
        ]


class PyramidPooling(nn.Module):
    """Context of a feature map from averages over its parts (PPM)."""

    def __init__(
        self, in_channels: int, channels: int, sizes: Sequence[int] = (1, 2, 3, 6)
    ) -> None:
        """Initialize a new PyramidPooling instance.

        Args:
            in_channels: Channels of the map.
            channels: Channels of the context at each size.
            sizes: Into how many parts, down and across, the map is divided.
        """
        super().__init__()
        self.pools = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(size), conv_norm_relu(in_channels, channels, 1)
            )
            for size in sizes
        )
        self.out_channels = in_channels + channels * len(sizes)

    def forward(self, feature: Tensor) -> Tensor:
        """Append the context to a feature map.

        Args:
            feature: Maps of shape (B, in_channels, h, w).

        Returns:
            Maps of shape (B, out_channels, h, w), the given ones first.
        """
        context = [resize(pool(feature), feature.shape[-2:]) for pool in self.pools]
        return torch.cat([feature, *context], dim=1)


class UPerHead(nn.Module):
    """Logits from a pyramid of feature maps.

    Pyramid pooling on the coarsest map, a top-down path to the finest, and all levels
    together give the logits.

    If you use this module in your research, please cite the following paper:

    * https://arxiv.org/abs/1807.10221
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int = 512,
        dropout: float = 0.1,
    ) -> None:
        """Initialize a new UPerHead instance.

        Args:
            in_channels: Channels of each map, finest first.
            num_classes: Number of classes, K.
            channels: Channels inside of the head.
            dropout: Rate at which channels are dropped before the last layer.
        """
        super().__init__()
        *finer, coarsest = in_channels
        self.pooling = PyramidPooling(coarsest, channels)
        self.bottleneck = conv_norm_relu(self.pooling.out_channels, channels, 3)
        self.lateral = nn.ModuleList(conv_norm_relu(c, channels, 1) for c in finer)
        self.output = nn.ModuleList(
            conv_norm_relu(channels, channels, 3) for _ in finer
        )
        self.fusion = conv_norm_relu(channels * len(in_channels), channels, 3)
        self.classifier = _classifier(channels, num_classes, dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute the logits.

        Args:
            features: Maps of shapes (B, C_i, h_i, w_i), finest first.

        Returns:
            Logits of shape (B, K, h_0, w_0).
        """
        *finer, coarsest = features
        context = self.bottleneck(self.pooling(coarsest))
        levels = self._top_down(finer, context)
        smooth = [o(level) for o, level in zip(self.output, levels, strict=True)]
        logits: Tensor = self.classifier(self.fusion(_stacked([*smooth, context])))
        return logits

    def _top_down(self, finer: Sequence[Tensor], context: Tensor) -> list[Tensor]:
        levels: list[Tensor] = []
        above = context
        for lateral, feature in zip(self.lateral[::-1], finer[::-1], strict=True):
            above = lateral(feature) + resize(above, feature.shape[-2:])
            levels.insert(0, above)
        return levels


class SegFormerHead(nn.Module):
    """Logits from a pyramid of feature maps, by layers of one cell alone.

    If you use this module in your research, please cite the following paper:

    * https://arxiv.org/abs/2105.15203
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int = 256,
        dropout: float = 0.1,
    ) -> None:
        """Initialize a new SegFormerHead instance.

        Args:
            in_channels: Channels of each map, finest first.
            num_classes: Number of classes, K.
            channels: Channels inside of the head.
            dropout: Rate at which channels are dropped before the last layer.
        """
        super().__init__()
        self.lateral = nn.ModuleList(
            conv_norm_relu(c, channels, 1) for c in in_channels
        )
        self.fusion = conv_norm_relu(channels * len(in_channels), channels, 1)
        self.classifier = _classifier(channels, num_classes, dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute the logits.

        Args:
            features: Maps of shapes (B, C_i, h_i, w_i), finest first.

        Returns:
            Logits of shape (B, K, h_0, w_0).
        """
        levels = [
            lateral(feature)
            for lateral, feature in zip(self.lateral, features, strict=True)
        ]
        logits: Tensor = self.classifier(self.fusion(_stacked(levels)))
        return logits


class FCNHead(nn.Module):
    """Logits from one feature map."""

    def __init__(
        self, in_channels: int, num_classes: int, channels: int, dropout: float = 0.1
    ) -> None:
        """Initialize a new FCNHead instance.

        Args:
            in_channels: Channels of the map.
            num_classes: Number of classes, K.
            channels: Channels inside of the head.
            dropout: Rate at which channels are dropped before the last layer.
        """
        super().__init__()
        self.convolution = conv_norm_relu(in_channels, channels, 3)
        self.classifier = _classifier(channels, num_classes, dropout)

    def forward(self, feature: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            feature: Maps of shape (B, in_channels, h, w).

        Returns:
            Logits of shape (B, K, h, w).
        """
        logits: Tensor = self.classifier(self.convolution(feature))
        return logits


class AuxiliaryHeads(nn.ModuleList):
    """Heads on single feature maps, which help to train and do not predict.

    Attributes:
        source: Which maps they read: those of the ``modulation`` (as published; in the
            figure of the paper it is the alignment), of the ``neck`` or of the
            ``alignment``.
        levels: The maps they read, one head each, counted from 0 as the finest.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int,
        dropout: float = 0.1,
        source: Literal['modulation', 'neck', 'alignment'] = 'modulation',
        levels: Sequence[int] | None = None,
    ) -> None:
        """Initialize a new AuxiliaryHeads instance.

        Args:
            in_channels: Channels of each map, finest first.
            num_classes: Number of classes, K.
            channels: Channels inside of a head.
            dropout: Rate at which channels are dropped before the last layer.
            source: See above.
            levels: See above. By default the third map, as published, or the only one.

        Raises:
            ValueError: If *source* is none of the above or a level is none of the maps.
        """
        if source not in ('modulation', 'neck', 'alignment'):
            raise ValueError(
                "source must be 'modulation', 'neck' or 'alignment' (auxiliary heads), "
                f'got {source!r}'
            )
        count = len(in_channels)
        chosen = [min(2, count - 1)] if levels is None else list(levels)
        if not chosen or not set(chosen) <= set(range(count)):
            raise ValueError(
                f'levels must be numbers from 0 to {count - 1} (auxiliary heads), '
                f'got {chosen}'
            )
        super().__init__(
            FCNHead(in_channels[level], num_classes, channels, dropout)
            for level in chosen
        )
        self.source = source
        self.levels = chosen

    def forward(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Compute the logits of every head.

        Args:
            features: Maps of shapes (B, C_i, h_i, w_i), finest first.
            size: Height and width of the result, H and W.

        Returns:
            Logits of shape (A B, K, H, W), one head after the other.
        """
        logits = [
            resize(head(features[level]), size)
            for head, level in zip(self, self.levels, strict=True)
        ]
        return torch.cat(logits)


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that also trains where a batch holds one value per channel.

    One value has no variance, and torch refuses it: pyramid pooling of a batch of one
    image would stop the training, as would the last, short batch of an epoch. Such a
    batch is normalised by the running statistics, and leaves them as they are.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise maps.

        Args:
            input: Maps of shape (B, C, h, w).

        Returns:
            Maps of the same shape.
        """
        if not self.training or input.numel() > input.shape[1]:
            return super().forward(input)
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            eps=self.eps,
        )


def conv_norm_relu(in_channels: int, out_channels: int, kernel_size: int) -> nn.Module:
    """Convolution that keeps the size, batch norm and ReLU.

    Args:
        in_channels: Channels before.
        out_channels: Channels after.
        kernel_size: Side of the kernel, odd.
    """
    convolution = nn.Conv2d(
        in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False
    )
    nn.init.kaiming_normal_(convolution.weight, mode='fan_out', nonlinearity='relu')
    return nn.Sequential(convolution, BatchNorm(out_channels), nn.ReLU(inplace=True))


def _stacked(levels: Sequence[Tensor]) -> Tensor:
    """Maps as channels of one, at the size of the first."""
    return torch.cat([resize(level, levels[0].shape[-2:]) for level in levels], dim=1)


def _classifier(channels: int, num_classes: int, dropout: float) -> nn.Module:
    convolution = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(convolution.weight, std=0.01)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # there is a bias
    return nn.Sequential(nn.Dropout2d(dropout), convolution)


def _init_xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # there is a bias


def _rescale(feature: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return feature
    height, width = feature.shape[-2:]
    if min(height, width) * scale < 1:  # a side of one cell cannot be halved
        return resize(feature, [max(1, int(side * scale)) for side in (height, width)])
    # The factor and not the size, as mmsegmentation has it: half of 19 cells are then 9
    # cells that cover 18, where a resize to 9 would cover 19.
    return F.interpolate(
        feature, scale_factor=scale, mode='bilinear', align_corners=False
    )
