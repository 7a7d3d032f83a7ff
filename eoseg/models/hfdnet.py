"""A network in the style of HFD-Net, which an optical teacher and a SAR student share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d  # type: ignore[import-untyped]  # no stubs

from .backbone import Backbone
from .heads import resize

#: Maps that a teacher and a student can be compared in: four of the backbone, finest
#: first, and the one that all of them are aggregated in.
LEVELS = ('f1', 'f2', 'f3', 'f4', 'z')

#: Taps of a deformable convolution of 3 x 3.
_TAPS = 9

#: How a coarse map is brought to a finer one.
Align = Literal['flow', 'bilinear', 'deform']


class BilinearAlign(nn.Module):
    """Enlarge a coarse map to the size of a finer one, whatever they show."""

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Enlarge a map.

        Args:
            low: Fine map of shape (B, C, H, W).
            high: Coarse map of shape (B, C, h, w).

        Returns:
            *high* with the shape of *low*.
        """
        return resize(high, low.shape[-2:])


class FlowAlign(nn.Module):
    """Enlarge a coarse map along a field of flow that both maps tell.

    Where edges of the coarse map have moved against those of the fine one, they are
    moved back. The flow begins as zero, which is the bilinear enlargement.

    Semantic flow as in SFNet; that a last layer begins with zeros is from AlignSeg:

    * https://arxiv.org/abs/2002.10120
    * https://arxiv.org/abs/2003.00872
    """

    def __init__(self, channels: int) -> None:
        """Initialize a new FlowAlign instance.

        Args:
            channels: Channels of both maps, C.
        """
        super().__init__()
        width = max(channels // 2, 1)
        self.low = nn.Conv2d(channels, width, 1, bias=False)
        self.high = nn.Conv2d(channels, width, 1, bias=False)
        self.flow = nn.Conv2d(2 * width, 2, 3, padding=1, bias=False)
        nn.init.zeros_(self.flow.weight)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Enlarge a map, as :meth:`BilinearAlign.forward` says.

        Args:
            low: Fine map of shape (B, C, H, W).
            high: Coarse map of shape (B, C, h, w).
        """
        enlarged = resize(self.high(high), low.shape[-2:])
        return warped(high, self.flow(torch.cat([self.low(low), enlarged], dim=1)))


class DeformAlign(nn.Module):
    """Enlarge a coarse map, then convolve it at places that both maps tell.

    A deformable convolution as in FaPN; its offsets begin as zero:

    * https://arxiv.org/abs/2108.07058
    """

    def __init__(self, channels: int) -> None:
        """Initialize a new DeformAlign instance.

        Args:
            channels: Channels of both maps, C.
        """
        super().__init__()
        self.offset = nn.Conv2d(2 * channels, 2 * _TAPS, 3, padding=1, bias=False)
        nn.init.zeros_(self.offset.weight)
        self.convolution = DeformConv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Enlarge a map, as :meth:`BilinearAlign.forward` says.

        Args:
            low: Fine map of shape (B, C, H, W).
            high: Coarse map of shape (B, C, h, w).
        """
        enlarged = resize(high, low.shape[-2:])
        offset = self.offset(torch.cat([low, enlarged], dim=1))
        aligned: Tensor = self.convolution(enlarged, offset)
        return aligned


class HeterogeneousFeatureAlignment(nn.Module):
    """Aggregate maps of several scales, each aligned to the finer one.

    Called HFAM in the letter that followed the paper, which both say aggregates
    multi-scale features by aligning them. How is not known to us: top-down, with
    :class:`FlowAlign` between neighbours and again into the finest, is our design.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int, align: Align = 'flow'
    ) -> None:
        """Initialize a new HeterogeneousFeatureAlignment instance.

        Args:
            in_channels: Channels of each map, finest first.
            channels: Channels of all maps from here on.
            align: How a coarse map is brought to a finer one.

        Raises:
            ValueError: If there is no such way.
        """
        super().__init__()
        coarser = range(len(in_channels) - 1)
        self.laterals = nn.ModuleList(_block(c, channels, 1) for c in in_channels)
        self.down = nn.ModuleList(_align(align, channels) for _ in coarser)
        self.smooth = nn.ModuleList(_block(channels, channels, 3) for _ in coarser)
        self.gather = nn.ModuleList(_align(align, channels) for _ in coarser)
        self.aggregate = _block(len(in_channels) * channels, channels, 3)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Aggregate maps.

        Args:
            features: Maps of shapes (B, C_i, H_i, W_i), finest first.

        Returns:
            A map of shape (B, channels, H_1, W_1).
        """
        maps = [
            lateral(feature)
            for lateral, feature in zip(self.laterals, features, strict=True)
        ]
        for i in reversed(range(len(maps) - 1)):
            aligned = self.down[i](maps[i], maps[i + 1])
            maps[i] = self.smooth[i](maps[i] + aligned)
        finest, *coarser = maps
        gathered = [
            align(finest, feature)
            for align, feature in zip(self.gather, coarser, strict=True)
        ]
        aggregated: Tensor = self.aggregate(torch.cat([finest, *gathered], dim=1))
        return aggregated


class HFDOutput(NamedTuple):
    """What a training step compares with the mask and with the teacher."""

    #: Logits of shape (B, K, H, W).
    logits: Tensor
    #: Maps by name: ``f1`` to ``f4``, ``z``, and ``logits`` before they are enlarged.
    maps: dict[str, Tensor]


class HFDNet(nn.Module):
    """A segmentation network in the style of HFD-Net, for any bands.

    ::

        image ─► backbone ─► alignment ─► head ─► logits
          │         │            │      │
          │    f1, f2, f3, f4    z      │     compared between teacher and student
          └──────────► detail ──────────┘

    The paper has two of one architecture, with weights of their own: a teacher that sees
    optical bands and a student that sees radar. Here they differ in the
    convolutions that see the image alone. Backbone, channels, alignment, head and the
    path for detail are our design, as the details of the paper are not known to us.

    If you use this model in your research, please cite the following papers:

    * https://arxiv.org/abs/2210.08988
    * https://doi.org/10.1109/LGRS.2023.3293160
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        backbone: str = 'resnet50',
        backbone_weights: str | None = None,
        channels: int = 256,
        align: Align = 'flow',
        detail: int = 0,
    ) -> None:
        """Initialize a new HFDNet instance.

        All arguments are plain values, so that a checkpoint can name them.

        Args:
            in_channels: Channels of the image.
            num_classes: Number of classes, K.
            backbone: Name of a convolutional network of timm.
            backbone_weights: File of its pretrained weights. None for random ones.
            channels: Channels of the maps after the backbone.
            align: How a coarse map is brought to a finer one: along a ``flow``,
                ``bilinear``, or by a convolution whose taps move (``deform``).
            detail: Channels of a path from the image past the backbone to the head,
                which keeps what is smaller than the 4 x 4 pixels of the finest map. 0
                for none.

        Raises:
            ValueError: If *align* is none of these, or *backbone* is no network of timm
                with maps of strides 4, 8, 16 and 32.
            CheckpointError: If *backbone_weights* are those of another network.
        """
        super().__init__()
        weights = None if backbone_weights is None else Path(backbone_weights)
        self.backbone = Backbone(backbone, in_channels, weights, norm=False)
        self.alignment = HeterogeneousFeatureAlignment(
            self.backbone.channels, channels, align
        )
        self.detail = _detail(in_channels, detail) if detail else None
        self.head = nn.Conv2d(channels + detail, num_classes, 1)
        #: Channels of ``f1`` to ``f4`` and of ``z``.
        self.channels = dict(
            zip(LEVELS, [*self.backbone.channels, channels], strict=True)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            image: Images of shape (B, C, H, W).

        Returns:
            Logits of shape (B, K, H, W).
        """
        return self.forward_train(image).logits

    def forward_train(self, image: Tensor) -> HFDOutput:
        """Compute what the losses need.

        Args:
            image: Images of shape (B, C, H, W).

        Returns:
            Logits, and the maps that teacher and student are compared in.
        """
        size = image.shape[-2:]
        features = self.backbone(image)
        aggregated = self.alignment(features)
        seen = aggregated
        if self.detail is not None:
            seen = torch.cat([resize(aggregated, size), self.detail(image)], dim=1)
        logits = self.head(seen)
        maps = dict(zip(LEVELS, [*features, aggregated], strict=True))
        return HFDOutput(resize(logits, size), maps | {'logits': logits})


def warped(feature: Tensor, flow: Tensor) -> Tensor:
    """Sample a map where a flow points to.

    Args:
        feature: Map of shape (B, C, h, w).
        flow: Of shape (B, 2, H, W): how far to the right and down from the centre of
            each pixel of the result its value is, in pixels of the result.

    Returns:
        A map of shape (B, C, H, W); beyond the border it goes on as at the border. A
        flow of zero is the bilinear resize.
    """
    height, width = flow.shape[-2:]

    def centers(count: int) -> Tensor:
        # From -1 to 1 between the outer edges, as grid_sample has it without
        # align_corners.
        places = torch.arange(count, device=flow.device, dtype=torch.float32)
        return (2 * places + 1) / count - 1

    size = torch.tensor([width, height], device=flow.device, dtype=torch.float32)
    y, x = torch.meshgrid(centers(height), centers(width), indexing='ij')
    moved = torch.stack([x, y], dim=-1) + 2 * flow.float().permute(0, 2, 3, 1) / size
    return F.grid_sample(
        feature.float(), moved, 'bilinear', padding_mode='border', align_corners=False
    )


def _detail(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        _block(in_channels, channels, 3), _block(channels, channels, 3)
    )


def _align(name: str, channels: int) -> nn.Module:
    match name:
        case 'flow':
            return FlowAlign(channels)
        case 'bilinear':
            return BilinearAlign()
        case 'deform':
            return DeformAlign(channels)
        case _:
            raise ValueError(
                f"align must be 'flow', 'bilinear' or 'deform', got {name!r}"
            )


def _block(in_channels: int, out_channels: int, side: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, side, padding=side // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
