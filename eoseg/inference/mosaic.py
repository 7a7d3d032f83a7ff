"""Several maps onto one grid: probabilities are blended, classes never averaged."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.features import geometry_mask
from rasterio.windows import Window
from rtree.index import Index
from scipy.ndimage import distance_transform_edt
from shapely import MultiPolygon, Polygon, box
from torch import Tensor
from torch.nn.functional import one_hot

from eoseg_datasets.classes import NODATA
from eoseg_datasets.grid import Grid
from eoseg_datasets.handles import handle
from eoseg_datasets.warp import aligned_window

from .modes import Contribution, Merged, Mode, blend
from .target import bounds_in, ground_res
from .warp import (
    Footprint,
    Positions,
    bilinear,
    coarser,
    mean_footprint,
    nearest,
    nearest_footprint,
    period,
    warp,
)

#: Pixels along the longer side of the mask in which distances to the edge are measured.
_DISTANCE_SIDE = 1024

#: Scenes whose distances are kept, of up to 1 MB each.
_KEPT = 64

#: Weight at the very edge, where a scene that is alone counts in full.
_LEAST = 1e-3

#: Side of a block that is not divided further, whatever it needs.
_SMALLEST = 32


@dataclass(frozen=True)
class MapSource:
    """A map of one scene, to be mosaicked."""

    name: str
    #: Probabilities, one band per class, or classes in one band.
    path: Path
    grid: Grid
    num_classes: int
    has_probabilities: bool
    #: Value of pixels without a class; None if every pixel has one.
    nodata: float | None = NODATA
    #: What to multiply stored probabilities by.
    scale: float = 1 / 254

    def read(self, window: Window, step: int = 1) -> NDArray[Any]:
        """Stored numbers, from an overview if the map has one that fits.

        Args:
            window: In pixels of an overview whose pixels are *step* pixels wide.
            step: 1 for the map itself.

        Returns:
            Of shape (bands, H, W).
        """
        if step == 1:
            return np.asarray(handle(self.path).read(window=window))
        coarse = coarser(self.grid, step)
        across = self.grid.width / coarse.width
        down = self.grid.height / coarse.height
        resampling = Resampling.average if self.has_probabilities else Resampling.mode
        source = handle(self.path)
        return np.asarray(
            source.read(
                window=Window(
                    window.col_off * across,
                    window.row_off * down,
                    window.width * across,
                    window.height * down,
                ),
                out_shape=(source.count, int(window.height), int(window.width)),
                resampling=resampling,
            )
        )

    def valid(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Where one band of stored numbers is a class or a probability."""
        there = np.isfinite(stored)
        if self.nodata is not None and np.isfinite(self.nodata):
            there &= stored != self.nodata
        if not self.has_probabilities:
            there &= (stored >= 0) & (stored < self.num_classes)
        return np.asarray(there)

    def footprint(self, target: Grid) -> Footprint:
        """What to read for a block of the mosaic."""
        plan = mean_footprint if self.has_probabilities else nearest_footprint
        return plan(self.grid, target)


@dataclass(frozen=True)
class Block:
    """A finished part of the mosaic."""

    window: Window
    #: Classes, of shape (H, W); 255 where no scene has data.
    classes: NDArray[np.uint8]
    #: Probability of that class, 0 to 1, of shape (H, W).
    confidence: NDArray[np.float32]
    #: Position of the scene with the largest share of each pixel; -1 where none.
    source: NDArray[np.int32]
    #: Scenes that have data; 0 where none was counted.
    count: NDArray[np.int32]
    #: Share of these whose own class is the one shown; 0 where none was counted.
    agreement: NDArray[np.float32]

    @classmethod
    def empty(cls, window: Window) -> 'Block':
        """A block that no scene touches."""
        shape = int(window.height), int(window.width)
        return cls(
            window,
            classes=np.full(shape, NODATA, np.uint8),
            confidence=np.zeros(shape, np.float32),
            source=np.full(shape, -1, np.int32),
            count=np.zeros(shape, np.int32),
            agreement=np.zeros(shape, np.float32),
        )

    def paste(self, merged: Merged, place: tuple[slice, slice]) -> None:
        """Fill in a part."""
        for field in fields(merged):
            values: Tensor | None = getattr(merged, field.name)
            if values is not None:
                getattr(self, field.name)[place] = values.cpu().numpy()

    def clear(self, outside: NDArray[np.bool_]) -> None:
        """Take back what lies outside of an area."""
        nothing = self.empty(self.window)
        for field in fields(self):
            if field.name != 'window':
                mine, empty = getattr(self, field.name), getattr(nothing, field.name)
                mine[outside] = empty[outside]


def mosaic_blocks(
    sources: Sequence[MapSource],
    target: Grid,
    mode: Mode = blend,
    feather: float | None = None,
    *,
    area: Polygon | MultiPolygon | None = None,
    size: int = 512,
    memory: int = 2**29,
    device: torch.device | str = 'cpu',
) -> Iterator[Block]:
    """Mosaic maps, block by block.

    The probabilities of every scene are warped to the target with a weight that falls off
    towards the edge of the scene's valid data; the mode says what becomes of them. Maps
    of classes alone are warped to the nearest pixel, and are sure of their class.

    Only scenes that touch a block are read for it, from their overviews where the target
    is much coarser.

    Args:
        sources: Maps with the same classes.
        target: Grid of the mosaic.
        mode: What becomes of pixels that several scenes see.
        feather: Width over which a scene fades out towards its edge, in metres; by
            default that of 64 pixels of the mosaic.
        area: In the CRS of *target*; outside of it there is no data, and blocks outside
            of it are not computed.
        size: Side of a block in pixels of *target*.
        memory: Bytes that the probabilities of a block may take; one that needs more is
            worked out in parts.
        device: Where to compute.

    Yields:
        Blocks from left to right, then from top to bottom, that together are *target*.
    """
    if feather is None:
        feather = 64 * min(ground_res(target))
    worker = _Worker(sources, mode, Fading(feather), memory, torch.device(device))
    touching = _footprints(sources, target)
    for row, col in product(
        range(0, target.height, size), range(0, target.width, size)
    ):
        window = Window(
            col, row, min(size, target.width - col), min(size, target.height - row)
        )
        block, grid = Block.empty(window), target.crop(window)
        if area is None or area.intersects(box(*grid.bounds)):
            worker.fill(block, grid, touching(grid), (0, 0))
            if area is not None:
                block.clear(_outside(area, grid))
        yield block


def _outside(area: Polygon | MultiPolygon, grid: Grid) -> NDArray[np.bool_]:
    """Where the centres of pixels do not lie in an area."""
    return np.asarray(geometry_mask([area], grid.shape, grid.transform))


def _footprints(
    sources: Sequence[MapSource], target: Grid
) -> Callable[[Grid], list[int]]:
    """Function from a block to the positions of the scenes that may touch it."""
    turn = period(target.crs)
    index = Index()
    for i, source in enumerate(sources):
        left, bottom, right, top = bounds_in(source.grid, target.crs)
        # The bounds are found from points a twentieth of a side apart.
        x, y = (right - left) / 400, (top - bottom) / 400
        for shift in (0,) if turn is None else (-turn, 0, turn):
            index.insert(i, (left - x + shift, bottom - y, right + x + shift, top + y))
    return lambda grid: sorted(set(index.intersection(grid.bounds)))


@dataclass(frozen=True)
class _Worker:
    """Fills blocks."""

    sources: Sequence[MapSource]
    mode: Mode
    fading: 'Fading'
    memory: int
    device: torch.device

    def fill(
        self, block: Block, grid: Grid, hits: Sequence[int], at: tuple[int, int]
    ) -> None:
        """Fill the part of a block that is *grid*, whose first pixel is *at*."""
        found = {i: self.sources[i].footprint(grid) for i in hits}
        found = {
            i: footprint for i, footprint in found.items() if not footprint.is_empty
        }
        if not found:
            return
        if self._needs(found, grid) > self.memory and max(grid.shape) > _SMALLEST:
            for window in _quarters(grid):
                corner = at[0] + int(window.row_off), at[1] + int(window.col_off)
                self.fill(block, grid.crop(window), list(found), corner)
            return
        merged = self.mode(self._contributions(found, grid))
        height, width = grid.shape
        place = slice(at[0], at[0] + height), slice(at[1], at[1] + width)
        block.paste(merged, place)

    def _needs(self, found: dict[int, Footprint], grid: Grid) -> int:
        """Bytes of one scene, as stored, as float32 and sampled, and of the sum."""
        bands = self.sources[0].num_classes + 1
        largest = max(footprint.pixels for footprint in found.values())
        return bands * (9 * largest + 8 * grid.height * grid.width)

    def _contributions(
        self, found: dict[int, Footprint], grid: Grid
    ) -> Iterator[Contribution]:
        for i, footprint in found.items():
            source = self.sources[i]
            probabilities, there = _probabilities(source, footprint, grid, self.device)
            weight = there.float()
            # Where a scene is alone, it counts in full.
            if len(found) > 1:
                weight *= self.fading(source, footprint.centres, self.device)
            yield Contribution(i, probabilities, weight)


def _quarters(grid: Grid) -> Iterator[Window]:
    rows, cols = (
        [(0, side)] if side <= _SMALLEST else [(0, side // 2), (side // 2, side)]
        for side in grid.shape
    )
    for (top, bottom), (left, right) in product(rows, cols):
        yield Window(left, top, right - left, bottom - top)


def _probabilities(
    source: MapSource, footprint: Footprint, grid: Grid, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Class probabilities of a scene on a block, and where it has any."""
    if not source.has_probabilities:
        return _votes(source, footprint, device)
    if (window := aligned_window(source.grid, grid)) is not None:
        return _copied(source, window, device)
    stored = source.read(footprint.window, footprint.step)
    there = source.valid(stored[0])
    valid = None if there.all() else torch.from_numpy(there).to(device)
    values = torch.from_numpy(stored).to(device).float()
    total, weight = warp(values, valid, footprint)
    # Half the weight: a pixel counts as valid if most of what it is made of is.
    return total * (source.scale / weight.clamp(min=1e-6)), weight >= 0.5


def _votes(
    source: MapSource, footprint: Footprint, device: torch.device
) -> tuple[Tensor, Tensor]:
    stored = source.read(footprint.window, footprint.step)[0]
    labels = np.where(source.valid(stored), stored, NODATA).astype(np.uint8)
    shown = nearest(torch.from_numpy(labels).to(device), NODATA, footprint.positions)
    there = shown != NODATA
    votes = one_hot(torch.where(there, shown, 0).long(), source.num_classes)
    return votes.permute(2, 0, 1).float(), there


def _copied(
    source: MapSource, window: Window, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What a map has in a window that may reach beyond it."""
    rows = _overlap(window.row_off, source.grid.height, window.height)
    cols = _overlap(window.col_off, source.grid.width, window.width)
    height, width = rows[0].stop - rows[0].start, cols[0].stop - cols[0].start
    stored = source.read(Window(cols[0].start, rows[0].start, width, height))
    shape = int(window.height), int(window.width)
    values = torch.zeros((len(stored), *shape), device=device)
    there = torch.zeros(shape, dtype=torch.bool, device=device)
    values[:, rows[1], cols[1]] = torch.from_numpy(stored).to(device).float()
    there[rows[1], cols[1]] = torch.from_numpy(source.valid(stored[0])).to(device)
    return values * source.scale, there


def _overlap(offset: float, source: int, target: float) -> tuple[slice, slice]:
    """Where two lines of pixels meet, in each of them."""
    first, last = max(int(offset), 0), min(int(offset) + int(target), source)
    last = max(first, last)
    return slice(first, last), slice(first - int(offset), last - int(offset))


class Fading:
    """Weight of a scene, which falls off towards the edge of its valid data.

    Nodata inside the scene (a lake masked out) is an edge too.
    """

    def __init__(self, width: float) -> None:
        """Initialize a new Fading instance.

        Args:
            width: Metres over which a scene fades out.
        """
        self.width = width
        # Neighbouring blocks ask for the same scenes.
        self._kept = lru_cache(_KEPT)(self._measure)

    def __call__(
        self, source: MapSource, centres: Positions, device: torch.device
    ) -> Tensor:
        """Weight on a block, of shape (H, W), above 0 also at the edge.

        Args:
            source: The scene.
            centres: Where the pixels of the block lie in it.
            device: Where to compute.
        """
        share = self._kept(source)
        height, width = share.shape
        scale = width / source.grid.width, height / source.grid.height
        at = centres.moved(scale, (0, 0))
        window = at.window((height, width))
        at = at.moved((1, 1), (-window.col_off, -window.row_off))
        part = share[window.toslices()].to(device).float()[None] / 255
        return bilinear(part, at, 'border')[0].clamp(min=_LEAST)

    def _measure(self, source: MapSource) -> Tensor:
        """Distance to the edge on a coarse grid, in 255ths of the width."""
        step = -(-max(source.grid.shape) // _DISTANCE_SIDE)
        coarse = coarser(source.grid, step)
        stored = handle(source.path).read(
            1, out_shape=coarse.shape, resampling=Resampling.nearest
        )
        across, down = ground_res(coarse)
        # A frame of nodata: the border of the raster is an edge.
        inside = np.pad(source.valid(stored), 1)
        distance = distance_transform_edt(inside, sampling=(down, across))[1:-1, 1:-1]
        share = np.rint(255 * np.minimum(distance / self.width, 1))
        return torch.from_numpy(share.astype(np.uint8))
