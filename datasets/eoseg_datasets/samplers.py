"""Patches of scenes, in whole pixels of each scene's own grid.

Under Lightning both samplers are shared among processes as they are: its wrapper lets each
process take every n-th patch of the same epoch, and passes the number of the epoch on.
"""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import distributed
from torch.utils.data import Sampler

from .census import Density, windows_of
from .scene import ScenePatch


class RandomSceneSampler(Sampler[ScenePatch]):
    """Random patches inside regions.

    A pixel is drawn, then a patch from all those that show it and stay in its region.
    So pixels near the edge of a region are seen almost as often as the others. A region
    smaller than a patch is not dropped: its patch reaches beyond it, where samples are
    not valid.
    """

    def __init__(
        self,
        regions: Sequence[ScenePatch],
        size: int,
        length: int,
        seed: int = 0,
        density: Density | None = None,
    ) -> None:
        """Initialize a new RandomSceneSampler instance.

        Args:
            regions: Windows of scenes that patches are drawn from. One that is smaller
                than a patch must be a whole scene in that direction.
            size: Side of a patch in pixels.
            length: Patches per epoch.
            seed: At least 0. Each epoch draws other patches, each run the same. An epoch
                depends on nothing but its number, so that a resumed run goes on as it
                would have.
            density: Where pixels are drawn, see :class:`~.census.Census`; by default
                anywhere. With one, each patch shows a valid pixel.

        Raises:
            ValueError: If there is nothing to draw from, or *density* is about other
                regions or too coarse.
        """
        if not regions:
            raise ValueError(
                'there is no region to draw patches from; give at least one'
            )
        self.regions = regions
        self.size = size
        self.length = length
        self.seed = seed
        self.epoch = 0
        self._windows = windows_of(regions)
        self.density = _anywhere(self._windows) if density is None else density
        _check(self.density, self._windows, size)
        # Not torch.multinomial(), which ends at 16 million boxes.
        self._cumulative = np.cumsum(self.density.weight)

    def __len__(self) -> int:
        """Patches per epoch."""
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is drawn next; Lightning does so by itself.

        Args:
            epoch: Its number from the start of the training. Without this call, each
                iteration is followed by the next epoch.
        """
        self.epoch = epoch

    def __iter__(self) -> Iterator[ScenePatch]:
        """Patches of one epoch."""
        rng = np.random.default_rng((self.seed, self.epoch))
        self.epoch += 1
        return self._draw(rng)

    def _draw(self, rng: np.random.Generator) -> Iterator[ScenePatch]:
        drawn = rng.random(self.length) * self._cumulative[-1]
        box = np.searchsorted(self._cumulative, drawn, side='right')
        region = self.density.region[box]
        offset, extent = self.density.box[box, :2], self.density.box[box, 2:]
        pixel = offset + rng.integers(0, extent)
        first = self._windows[region, 1:3]
        last = np.maximum(first + self._windows[region, 3:] - self.size, first)
        earliest = np.maximum(pixel - self.size + 1, first)
        corners = rng.integers(earliest, np.minimum(pixel, last), endpoint=True)
        for i, (row, col) in zip(region.tolist(), corners.tolist(), strict=True):
            window = Window(col, row, self.size, self.size)
            yield ScenePatch(self.regions[i].scene, window)


class GridSceneSampler(Sampler[ScenePatch]):
    """Patches that cover each region, row by row.

    The last patch of a row or column is moved back to end with the region, so that none
    shows pixels of another split; the pixels it shares with its neighbour are shown twice
    but labelled once (:attr:`ScenePatch.fresh`), so that a score counts each pixel once.
    A region smaller than a patch gets one, which reaches beyond it without labels.

    Among several processes the number of patches is made a multiple of theirs by patches
    of which nothing is fresh. Otherwise the wrapper would repeat some, and they would be
    scored twice.
    """

    def __init__(self, regions: Sequence[ScenePatch], size: int) -> None:
        """Initialize a new GridSceneSampler instance.

        Args:
            regions: Windows of scenes to cover.
            size: Side of a patch in pixels.
        """
        self.regions = regions
        self.size = size
        extents = windows_of(regions)[:, 3:]
        self._number = int((-(-extents // size)).prod(axis=1).sum())

    def __len__(self) -> int:
        """Number of patches."""
        return self._number + self._missing

    @property
    def _missing(self) -> int:
        """Patches to a multiple of the processes; these start after the sampler is made."""
        ready = distributed.is_available() and distributed.is_initialized()
        return -self._number % distributed.get_world_size() if ready else 0

    def __iter__(self) -> Iterator[ScenePatch]:
        """All patches."""
        for region in self.regions:
            yield from _cover(region, self.size)
        for _ in range(self._missing):
            first = next(_cover(self.regions[0], self.size))
            at = first.window
            yield first._replace(fresh=Window(at.col_off, at.row_off, 0, 0))


def _cover(region: ScenePatch, size: int) -> Iterator[ScenePatch]:
    window = region.window
    rows = _steps(window.row_off, window.height, size)
    cols = _steps(window.col_off, window.width, size)
    for (row, top, bottom), (col, left, right) in product(rows, cols):
        yield ScenePatch(
            region.scene,
            Window(col, row, size, size),
            fresh=Window(left, top, right - left, bottom - top),
        )


def _steps(first: int, length: int, size: int) -> list[tuple[int, int, int]]:
    """Start of each patch along a line, and from where to where it is fresh."""
    first, length = int(first), int(length)
    last = max(length - size, 0)
    return [
        (first + min(offset, last), first + offset, first + min(offset + size, length))
        for offset in range(0, length, size)
    ]


def _anywhere(windows: NDArray[np.int64]) -> Density:
    """Every pixel of every region, with the same chance."""
    area = windows[:, 3].astype(np.float64) * windows[:, 4]
    return Density(np.arange(len(windows)), windows[:, 1:], area)


def _check(density: Density, windows: NDArray[np.int64], size: int) -> None:
    if density.side > size:
        raise ValueError(
            f'the density is of cells of {density.side} px, more than a patch of {size} '
            f'px, which would leave pixels undrawn; take a census with side={size} or less'
        )
    inside = not density.region.size or density.region.max() < len(windows)
    if inside:
        first, extent = density.box[:, :2], density.box[:, 2:]
        start = windows[density.region, 1:3]
        stop = start + windows[density.region, 3:]
        inside = bool((first >= start).all() and (first + extent <= stop).all())
    if not inside:
        raise ValueError(
            f'the density is about other regions than the {len(windows)} given; take it '
            'from census.of(regions)'
        )
    if not density.weight.sum() > 0:
        raise ValueError('the density is zero everywhere; there is nothing to draw')
