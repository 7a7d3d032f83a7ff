"""Convolutional networks of timm as pyramids of feature maps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import timm
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

from .weights import load_pretrained

#: Pixels of the image per cell of each map, finest first.
STRIDES = (4, 8, 16, 32)

#: Share of a batch in the running statistics of BatchNorm. Networks ported from
#: TensorFlow have 0.01, made for a million steps: after the hundred of a small folder
#: they still validate with the statistics of ImageNet.
MOMENTUM = 0.1


class Backbone(nn.Module):
    """Four feature maps of an image, with strides 4, 8, 16 and 32.

    Each map passes a layer norm of its own over the channels, as in the ConvNeXt of
    mmpretrain: networks differ by orders of magnitude in the scale of their maps. The
    last norm begins with the weights that a file of ConvNeXt has for it.

    Attributes:
        channels: Channels of each map, finest first.
        strides: Pixels of the image per cell of each map.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        weights: Path | None = None,
        drop_path_rate: float = 0.0,
        norm: bool = True,
    ) -> None:
        """Initialize a new Backbone instance.

        Args:
            name: Name of a convolutional network of timm.
            in_channels: Channels of the image.
            weights: File of pretrained weights. None for random ones.
            drop_path_rate: Rate of stochastic depth in the last block; it grows from
                zero in the first one. Not every network has it.
            norm: False leaves the maps as the network gives them.

        Raises:
            ValueError: If timm has no such network, or it has no such maps.
            CheckpointError: If *weights* are those of another network.
        """
        super().__init__()
        if not timm.is_model(name):
            raise ValueError(
                f'timm has no network {name!r}. List its networks with '
                "timm.list_models('*resnet*'), for example."
            )
        self.network = timm.create_model(
            name,
            features_only=True,
            in_chans=in_channels,
            # timm leaves out None: many networks do not know the argument
            drop_path_rate=drop_path_rate or None,
        )
        self.strides = STRIDES
        self._levels = _pyramid_levels(name, self.network)
        channels = _feature_info(self.network).channels()
        self.channels: list[int] = [channels[level] for level in self._levels]
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = MOMENTUM
        self.norms = nn.ModuleList(
            LayerNorm2d(channels, eps=1e-6) if norm else nn.Identity()
            for channels in self.channels
        )
        self._frozen = False
        if weights is not None:
            spare = load_pretrained(self.network, weights, in_channels)
            if norm:
                _load_norm(self.norms[-1], spare)

    def freeze(self) -> Self:
        """Keep the network as it is; the norms after it go on learning.

        Returns:
            Itself.
        """
        self._frozen = True
        self.network.requires_grad_(False)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Change between training and evaluation; a frozen network only evaluates.

        Args:
            mode: Whether to train.

        Returns:
            Itself.
        """
        super().train(mode)
        if self._frozen:
            self.network.eval()
        return self

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            image: Images of shape (B, C, H, W). H and W need not be multiples of 32.

        Returns:
            Four maps of shapes (B, C_i, H_i, W_i), finest first.

        Raises:
            ValueError: If the image is smaller than one cell of the coarsest map.
        """
        height, width = image.shape[-2:]
        if min(height, width) < STRIDES[-1]:
            raise ValueError(
                f'The network needs images of at least {STRIDES[-1]} x {STRIDES[-1]} '
                f'pixels, got {height} x {width}. Use larger patches or windows.'
            )
        maps = cast(list[Tensor], self.network(image))
        return [
            norm(maps[level])
            for norm, level in zip(self.norms, self._levels, strict=True)
        ]


def _load_norm(norm: nn.Module, spare: Mapping[str, Tensor]) -> None:
    """Weights of the norm before the classifier, where a file of ConvNeXt has them."""
    if 'head.norm.weight' in spare:
        parts = {part: spare[f'head.norm.{part}'] for part in ('weight', 'bias')}
        norm.load_state_dict(parts)


def _pyramid_levels(name: str, network: nn.Module) -> list[int]:
    """Where the network has each stride; the last place if in several."""
    strides: list[int] = _feature_info(network).reduction()
    channels_last = str(getattr(network, 'output_fmt', 'NCHW')).endswith('NHWC')
    if channels_last or not set(STRIDES) <= set(strides):
        given = ' with the channels last' if channels_last else ''
        raise ValueError(
            f'{name} gives maps of strides {", ".join(map(str, strides))}{given}; needed '
            'are 4, 8, 16, 32, channels first. Use a convolutional network such as '
            'resnet18, tf_efficientnet_lite0 or convnext_tiny.'
        )
    return [len(strides) - 1 - strides[::-1].index(stride) for stride in STRIDES]


def _feature_info(network: nn.Module) -> Any:
    return network.feature_info
