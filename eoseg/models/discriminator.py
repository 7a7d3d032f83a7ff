"""Tell the domain of a feature map."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

#: Convolutions of stride 2, at most; as published for a backbone of stride 32.
MOST_DOWNS = 2

#: Channels after the first convolution; they double with each one that follows.
_CHANNELS = 64


class FeatureDiscriminator(nn.Module):
    """Logits that a feature map is of a domain: positive is real, negative a fake.

    Each channel is a softmax over the cells first, so that it says where in the patch
    something is and not how much of it there is. Convolutions of 4 x 4 cells, *downs* of
    which halve the map, with leaky ReLUs and instance norms between them. With none of
    them, convolutions are of 3 x 3 cells and keep the size, for maps of few cells; the
    authors have 2, and 3 where the backbone has stride 8.

    Follows the authors' implementation (https://github.com/cv516Buaa/ST-DASegNet,
    cbad2f5), except that the logits stay as they are, where there they are resized to
    the image before their mean is taken.

    If you use this module in your research, please cite the following paper:

    * https://arxiv.org/abs/2301.05526
    """

    def __init__(self, in_channels: int, downs: int = MOST_DOWNS) -> None:
        """Initialize a new FeatureDiscriminator instance.

        Args:
            in_channels: Channels of the map.
            downs: Convolutions that halve the map.

        Raises:
            ValueError: If *downs* is negative.
        """
        super().__init__()
        if downs < 0:
            raise ValueError(f'downs must be at least 0, got {downs}')
        self.downs = downs
        #: Cells that a map needs, down and across.
        self.least = least_cells(downs)
        self.layers = nn.Sequential(*_layers(in_channels, downs))

    def forward(self, feature: Tensor) -> Tensor:
        """Judge feature maps.

        Args:
            feature: Maps of shape (B, in_channels, h, w).

        Returns:
            Logits of shape (B, 1, h', w').

        Raises:
            ValueError: If the maps are too small.
        """
        height, width = feature.shape[-2:]
        if min(height, width) < self.least:
            raise ValueError(
                f'a discriminator that halves {self.downs} times needs maps of at least '
                f'{self.least} x {self.least} cells, got {height} x {width}. Use larger '
                'patches or fewer downs'
            )
        with torch.autocast(feature.device.type, enabled=False):
            places = feature.float().flatten(2).softmax(dim=2).view_as(feature)
            logits: Tensor = self.layers(places)
        return logits


def least_cells(downs: int) -> int:
    """Side of the smallest map for a discriminator.

    The norm before the last convolution needs two cells to have a variance.

    Args:
        downs: Convolutions that halve the map.
    """
    return 2 if downs == 0 else 3 * 2**downs


def choose_downs(
    downs: int | Literal['auto'], patch_size: int, stride: int = 32
) -> int:
    """Convolutions that halve the map of a patch.

    Args:
        downs: How many, or ``auto`` for 2, as published, or as many as the patch allows.
        patch_size: Side of a patch in pixels.
        stride: Pixels per cell.

    Raises:
        ValueError: If the patch is too small for *downs*; it says which is not.
    """
    cells = patch_size // stride
    fitting = [n for n in range(MOST_DOWNS + 1) if least_cells(n) <= cells]
    chosen: int = max(fitting, default=0) if downs == 'auto' else downs
    least = least_cells(chosen)
    if cells < least:
        raise ValueError(
            f'patches of {patch_size} pixels give maps of {cells} x {cells} cells, and a '
            f'discriminator that halves {chosen} times needs at least {least} x {least}. '
            f'Use patches of at least {least * stride} pixels'
            + (', or downs auto' if fitting else '')
        )
    return chosen


def _layers(in_channels: int, downs: int) -> Iterator[nn.Module]:
    """Convolutions, of which the first *downs* halve the map."""
    kernel = 4 if downs else 3
    channels = _CHANNELS
    yield nn.Conv2d(in_channels, channels, kernel, 2 if downs else 1, padding=1)
    yield nn.LeakyReLU(0.2)
    for number in range(1, max(downs, 1) + 1):
        stride = 2 if number < downs else 1
        yield nn.Conv2d(channels, channels * 2, kernel, stride, padding=1)
        yield nn.InstanceNorm2d(channels * 2)
        yield nn.LeakyReLU(0.2)
        channels *= 2
    yield nn.Conv2d(channels, 1, kernel, padding=1)
