"""Feature modulation (FMM): blocks that adapt feature maps to the task."""

import math
from collections.abc import Sequence
from itertools import count
from typing import Literal

from timm.layers.mlp import Mlp
from torch import Tensor, nn
from torch.nn import functional as F

#: Kinds of blocks of :class:`FeatureModulation`.
Kind = Literal['vit', 'pooled', 'window', 'mlp']


class FeatureModulation(nn.Module):
    """Adapt feature maps to the task, each by a stack of blocks of its own.

    Called FMM in the paper. There are four kinds of blocks:

    * ``vit`` is as published: blocks of a vision transformer, in which every cell looks
      at all cells of its map. Their cost grows with the square of the number of cells,
      so the finest map takes most of the time of the whole network.
    * ``pooled``: every cell looks at a copy of its map that is averaged to at most
      *side* x *side* cells.
    * ``window``: every cell looks at a window of at most *side* x *side* cells around
      it. The windows of every other block are shifted by half of one.
    * ``mlp``: two linear layers with a bottleneck, cell by cell and without a residual,
      as in the ablations of the paper.

    The first three differ in where a cell looks and not in their parameters: weights of
    one are weights of the others, and on maps of at most *side* x *side* cells they
    compute the same. None has a position embedding.

    If you use this module in your research, please cite the following paper:

    * https://arxiv.org/abs/2412.06664
    """

    def __init__(
        self,
        dim: int,
        levels: int = 4,
        kind: Kind = 'vit',
        depth: int = 4,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        rank: int = 4,
        side: int = 20,
    ) -> None:
        """Initialize a new FeatureModulation instance.

        Args:
            dim: Channels of every map.
            levels: Number of maps.
            kind: Kind of the blocks.
            depth: Blocks per map.
            heads: Heads of the attention (all but ``mlp``).
            mlp_ratio: Hidden channels per channel (all but ``mlp``).
            rank: Channels per hidden channel (``mlp``).
            side: Side of what a cell looks at, in cells (``pooled`` and ``window``).

        Raises:
            ValueError: If *kind* is none of the above, *dim* cannot be divided, or
                *side* is smaller than 1.
        """
        super().__init__()
        if kind not in ('vit', 'pooled', 'window', 'mlp'):
            raise ValueError(
                "modulation must be 'vit', 'pooled', 'window' or 'mlp' (in KTDA also "
                f"'none'), got {kind!r}"
            )
        divisor = rank if kind == 'mlp' else heads
        if dim % divisor:
            raise ValueError(f'dim must be a multiple of {divisor}, got {dim}')
        if side < 1:
            raise ValueError(f'side must be at least 1, got {side}')

        def block(index: int) -> nn.Module:
            match kind:
                case 'vit':
                    return Block(Attention(dim, heads), mlp_ratio)
                case 'pooled':
                    return Block(PooledAttention(dim, heads, side), mlp_ratio)
                case 'window':
                    shifted = index % 2 == 1
                    return Block(WindowAttention(dim, heads, side, shifted), mlp_ratio)
                case 'mlp':
                    return Mlp(dim, dim // rank)

        self.levels = nn.ModuleList(
            nn.Sequential(*map(block, range(depth))) for _ in range(levels)
        )
        self.apply(_init_linear)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Modulate feature maps.

        Args:
            features: One map per level, of shapes (B, dim, h_i, w_i).

        Returns:
            As many maps, of the same shapes.
        """
        return [
            blocks(feature.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            for blocks, feature in zip(self.levels, features, strict=True)
        ]


class Block(nn.Module):
    """Block of a vision transformer, with the norms before attention and layers."""

    def __init__(self, attention: 'Attention', mlp_ratio: float = 4.0) -> None:
        """Initialize a new Block instance.

        Args:
            attention: Lets cells look at each other.
            mlp_ratio: Hidden channels per channel.
        """
        super().__init__()
        dim = attention.dim
        # The names are those of timm, as weights have them.
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, cells: Tensor) -> Tensor:
        """Modulate cells.

        Args:
            cells: Of shape (B, h, w, C).

        Returns:
            Cells of the same shape.
        """
        cells = cells + self.attn(self.norm1(cells))
        modulated: Tensor = cells + self.mlp(self.norm2(cells))
        return modulated


class Attention(nn.Module):
    """Every cell looks at all cells of its map."""

    def __init__(self, dim: int, heads: int) -> None:
        """Initialize a new Attention instance.

        Args:
            dim: Channels.
            heads: Number of heads, a divisor of *dim*.
        """
        super().__init__()
        self.dim, self.heads = dim, heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, cells: Tensor) -> Tensor:
        """What each cell gathers.

        Args:
            cells: Of shape (B, h, w, C).

        Returns:
            Cells of the same shape.
        """
        tokens = cells.flatten(1, 2)  # (B, h * w, C)
        gathered = self._attend(*self.qkv(tokens).chunk(3, dim=-1))
        found: Tensor = self.proj(gathered).view_as(cells)
        return found

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Attention of tokens (B, n, C) to tokens (B, m, C); *mask* says which count."""
        q, k, v = (
            tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)
            for tokens in (query, key, value)
        )  # (B, heads, n, C / heads)
        gathered = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return gathered.transpose(1, 2).flatten(2)


class PooledAttention(Attention):
    """Every cell looks at a coarser copy of its map."""

    def __init__(self, dim: int, heads: int, side: int) -> None:
        """Initialize a new PooledAttention instance.

        Args:
            dim: Channels.
            heads: Number of heads, a divisor of *dim*.
            side: The copy has at most *side* x *side* cells.
        """
        super().__init__(dim, heads)
        self.side = side

    def forward(self, cells: Tensor) -> Tensor:
        """What each cell gathers, as :meth:`Attention.forward` says."""
        height, width = cells.shape[1:3]
        factor = next(
            step
            for step in count(1)
            if math.ceil(height / step) * math.ceil(width / step) <= self.side**2
        )
        if factor == 1:
            return super().forward(cells)
        pooled = F.avg_pool2d(
            cells.permute(0, 3, 1, 2), factor, ceil_mode=True, count_include_pad=False
        )
        # A layer of the mean is the mean of the layer: keys and values are pooled.
        weight, bias = self.qkv.weight, self.qkv.bias
        query = F.linear(cells.flatten(1, 2), weight[: self.dim], bias[: self.dim])
        coarse = pooled.flatten(2).transpose(1, 2)
        key, value = F.linear(coarse, weight[self.dim :], bias[self.dim :]).chunk(2, -1)
        gathered = self._attend(query, key, value)
        found: Tensor = self.proj(gathered).view_as(cells)
        return found


class WindowAttention(Attention):
    """Every cell looks at the window in which it lies."""

    def __init__(self, dim: int, heads: int, side: int, shifted: bool) -> None:
        """Initialize a new WindowAttention instance.

        Args:
            dim: Channels.
            heads: Number of heads, a divisor of *dim*.
            side: Windows have at most *side* x *side* cells, and are equally large.
            shifted: Windows begin half a window before the map.
        """
        super().__init__(dim, heads)
        self.side = side
        self.shifted = shifted

    def forward(self, cells: Tensor) -> Tensor:
        """What each cell gathers, as :meth:`Attention.forward` says."""
        height, width = cells.shape[1:3]
        if max(height, width) <= self.side:
            return super().forward(cells)
        (rows, top, bottom), (columns, left, right) = map(self._fit, (height, width))
        margins = (0, 0, left, right, top, bottom)
        qkv = F.pad(self.qkv(cells), margins)
        query, key, value = _windows(qkv, rows, columns).chunk(3, dim=-1)
        mask = None
        if any(margins):
            inside = F.pad(cells.new_ones(len(cells), height, width, 1), margins) > 0
            mask = _windows(inside, rows, columns).transpose(1, 2)[:, None]
        gathered = self._attend(query, key, value, mask)
        whole = _whole(gathered, qkv.shape, rows, columns)
        found: Tensor = self.proj(whole[:, top : top + height, left : left + width])
        return found

    def _fit(self, length: int) -> tuple[int, int, int]:
        """Length of a window along a side of the map, and the margins around the side."""
        windows = math.ceil(length / self.side)
        step = math.ceil(length / windows)
        before = step // 2 if self.shifted and windows > 1 else 0
        return step, before, -(length + before) % step


def _windows(cells: Tensor, rows: int, columns: int) -> Tensor:
    """Windows of whole maps (B, h, w, C), of shape (B * windows, rows * columns, C)."""
    batch, height, width, channels = cells.shape
    split = cells.reshape(
        batch, height // rows, rows, width // columns, columns, channels
    )
    return split.transpose(2, 3).reshape(-1, rows * columns, channels)


def _whole(windows: Tensor, shape: Sequence[int], rows: int, columns: int) -> Tensor:
    """The inverse of :func:`_windows`, for maps of the first three sizes of *shape*."""
    batch, height, width = shape[:3]
    split = windows.reshape(batch, height // rows, width // columns, rows, columns, -1)
    return split.transpose(2, 3).reshape(batch, height, width, -1)


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
