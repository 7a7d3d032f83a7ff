"""Tell what is of one domain in features from what is of both (DDM)."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

#: Channels in the middle of a gate, at least, and how many of the map's are one of them.
LEAST_DIM, REDUCTION = 8, 8


class Pyramids(NamedTuple):
    """Feature maps of one image in the styles of two domains, finest first."""

    source: list[Tensor]
    target: list[Tensor]


class DistinctGate(nn.Module):
    """Share each channel out between two domains, by what both say of the image.

    Called DSM in the paper. The averages of both maps over their cells, added up, give
    one weight per channel and domain; both weights of a channel add up to 1.
    """

    def __init__(self, channels: int) -> None:
        """Initialize a new DistinctGate instance.

        Args:
            channels: Channels of a map.
        """
        super().__init__()
        dim = inner_dim(channels)
        self.squeeze = nn.Linear(channels, dim)
        self.source = nn.Linear(dim, channels)
        self.target = nn.Linear(dim, channels)

    def weights(self, source: Tensor, target: Tensor) -> Tensor:
        """Weight of each domain in each channel.

        Args:
            source: Maps of shape (B, C, h, w).
            target: Maps of the same shape.

        Returns:
            Weights of shape (2, B, C, 1, 1), those of the source first.
        """
        squeezed = self.squeeze((source + target).mean(dim=(2, 3)))
        both = torch.stack([self.source(squeezed), self.target(squeezed)])
        return both.softmax(dim=0)[..., None, None]

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Weigh the maps of one image.

        Args:
            source: Maps of shape (B, C, h, w).
            target: Maps of the same shape.

        Returns:
            Both, of the same shapes.
        """
        share = self.weights(source, target)
        return share[0] * source, share[1] * target


class UniversalAttention(nn.Module):
    """What two domains have in common, by attention between channels.

    Called DUM in the paper. Each channel is made of those that it resembles least, by
    the mean of what both domains say. Energies are in float32: they are sums of products
    over all cells.
    """

    def __init__(
        self,
        channels: int,
        dim: int | None = None,
        invert: bool = True,
    ) -> None:
        """Initialize a new UniversalAttention instance.

        Args:
            channels: Channels of a map.
            dim: Channels that a 1x1 convolution leaves before the rest; None for all, as
                published. The cost is that of their square.
            invert: Whether attention goes to what is not alike, as in the authors' code;
                without, to what is, as in the figure of the paper.
        """
        super().__init__()
        self.out_channels = inner_dim(channels)
        self.invert = invert
        self.bottleneck = nn.Identity() if dim is None else nn.Conv2d(channels, dim, 1)
        inside = channels if dim is None else dim
        self.key = _conv_relu(inside, inside)
        self.source = _conv_relu(inside, self.out_channels)
        self.target = _conv_relu(inside, self.out_channels)

    def attention(self, source: Tensor, target: Tensor) -> Tensor:
        """Of what each channel is made.

        Args:
            source: Maps of shape (B, C, h, w), behind the bottleneck.
            target: Maps of the same shape.

        Returns:
            Shares of shape (B, C, C); those of a row add up to 1.
        """
        with torch.autocast(source.device.type, enabled=False):
            key = self.key((source.float() + target.float()) / 2).flatten(2)
            each = [self._shares(map.float(), key) for map in (source, target)]
        return (each[0] + each[1]) / 2

    def _shares(self, feature: Tensor, key: Tensor) -> Tensor:
        energy = feature.flatten(2) @ key.transpose(1, 2)
        if self.invert:
            energy = energy.max(dim=2, keepdim=True).values - energy
        return energy.softmax(dim=2)

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Find what is common in the maps of one image.

        Args:
            source: Maps of shape (B, C, h, w).
            target: Maps of the same shape.

        Returns:
            Two maps of shape (B, out_channels, h, w).
        """
        source, target = self.bottleneck(source), self.bottleneck(target)
        attention = self.attention(source, target).to(source.dtype)
        mixed = [
            (attention @ feature.flatten(2)).view_as(feature)
            for feature in (source, target)
        ]
        return self.source(mixed[0]), self.target(mixed[1])


class DomainDisentangle(nn.Module):
    """Domain disentangled module: distinct parts of all levels, common ones of the last.

    No loss says that the parts are what they are called: segmentation and self-training
    alone train it, as published.

    Follows the authors' implementation (https://github.com/cv516Buaa/ST-DASegNet,
    cbad2f5).

    If you use this module in your research, please cite the following paper:

    * https://arxiv.org/abs/2301.05526

    Attributes:
        out_channels: Channels of each map of either pyramid after.
    """

    def __init__(
        self,
        channels: Sequence[int],
        parts: Literal['full', 'distinct', 'none'] = 'full',
        dim: int | None = None,
        invert: bool = True,
    ) -> None:
        """Initialize a new DomainDisentangle instance.

        Args:
            channels: Channels of each map, finest first.
            parts: ``full``, the ``distinct`` ones alone, or ``none``, which leaves the
                maps as they are.
            dim: See :class:`UniversalAttention`.
            invert: See :class:`UniversalAttention`.

        Raises:
            ValueError: If *parts* is none of these.
        """
        super().__init__()
        if parts not in ('full', 'distinct', 'none'):
            raise ValueError(
                f"parts must be 'full', 'distinct' or 'none' (disentangle), got {parts!r}"
            )
        gates = () if parts == 'none' else channels
        self.gates = nn.ModuleList(DistinctGate(count) for count in gates)
        self.universal = None
        self.out_channels = list(channels)
        if parts == 'full':
            self.universal = UniversalAttention(channels[-1], dim, invert)
            self.out_channels[-1] += self.universal.out_channels

    def forward(self, source: Sequence[Tensor], target: Sequence[Tensor]) -> Pyramids:
        """Disentangle the maps of one image.

        Args:
            source: Maps of the source's backbone, of shapes (B, C_i, h_i, w_i).
            target: Maps of the target's backbone, of the same shapes.

        Returns:
            Both pyramids, for the heads of source and target.
        """
        ours, theirs = list(source), list(target)
        for level, gate in enumerate(self.gates):
            ours[level], theirs[level] = gate(source[level], target[level])
        if self.universal is not None:
            common = self.universal(source[-1], target[-1])
            ours[-1] = torch.cat([ours[-1], common[0]], dim=1)
            theirs[-1] = torch.cat([theirs[-1], common[1]], dim=1)
        return Pyramids(ours, theirs)


def inner_dim(channels: int) -> int:
    """Channels in the middle of a gate, and of what is common.

    Args:
        channels: Channels of the map.
    """
    return max(channels // REDUCTION, LEAST_DIM)


def _conv_relu(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU())
