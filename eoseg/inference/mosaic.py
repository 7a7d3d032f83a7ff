"""Several maps onto one grid: probabilities are blended, classes never averaged."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from rtree.index import Index
from shapely import MultiPolygon, Polygon, box
from torch import Tensor

from eoseg_datasets.classes import NODATA
from eoseg_datasets.grid import Grid

from .area import inside
from .fading import Fading
from .map_source import MapSource, probabilities, shown
from .modes import Contribution, Merged, Mode, alone, blend
from .resources import Budget, Resources, torch_threads
from .target import bounds_in, ground_res
from .threads import ahead
from .warp import Footprint, period

#: Side of a block that is not divided further, whatever it needs.
_SMALLEST = 32


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
    #: Scenes that have data; where several reach, 0 if the mode does not count.
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


def block_windows(target: Grid, size: int = 512) -> Iterator[Window]:
    """Cut a mosaic into blocks, from left to right, then from top to bottom.

    Args:
        target: Grid of the mosaic.
        size: Side of a block in pixels.
    """
    for row, col in product(
        range(0, target.height, size), range(0, target.width, size)
    ):
        yield Window(
            col, row, min(size, target.width - col), min(size, target.height - row)
        )


def mosaic_blocks(
    sources: Sequence[MapSource],
    target: Grid,
    mode: Mode = blend,
    feather: float | None = None,
    *,
    windows: Iterable[Window] | None = None,
    area: Polygon | MultiPolygon | None = None,
    resources: Resources = Resources(),  # noqa: B008  # frozen
) -> Iterator[Block]:
    """Mosaic maps, block by block.

    The probabilities of every scene are warped to the target with a weight that falls off
    towards the edge of the scene's valid data; the mode says what becomes of them. Maps
    of classes alone are warped to the nearest pixel, and are sure of their class.

    Only scenes that touch a block are read for it, from their overviews where the target
    is much coarser. What a scene shows is copied where it is alone on its own grid.

    Args:
        sources: Maps with the same classes.
        target: Grid of the mosaic.
        mode: What becomes of pixels that several scenes see.
        feather: Width over which a scene fades out towards its edge, in metres; by
            default that of 64 pixels of the mosaic.
        windows: Blocks to work out; by default :func:`block_windows` of *target*.
        area: In the CRS of *target*; outside of it there is no data, and blocks outside
            of it are not computed.
        resources: What may be taken of the machine.

    Yields:
        Blocks in the order of *windows*, however many are at work at a time.
    """
    if feather is None:
        feather = 64 * min(ground_res(target))
    worker = _Worker(
        sources,
        mode,
        Fading(feather),
        Budget(resources.memory),
        torch.device(resources.device),
    )
    touching = _footprints(sources, target)
    tasks = (
        _Task(window, grid := target.crop(window), touching(grid), area)
        for window in (block_windows(target) if windows is None else windows)
    )
    if resources.workers == 1:
        yield from map(worker.block, tasks)
        return
    with torch_threads() as threads:

        def block(task: _Task) -> Block:
            # Or else the threads of one block stop those of another.
            torch.set_num_threads(max(threads // resources.workers, 1))
            return worker.block(task)

        yield from ahead(block, tasks, 2 * resources.workers, resources.workers)


@dataclass(frozen=True)
class _Task:
    """A block to fill."""

    window: Window
    grid: Grid
    #: Positions of the scenes that may touch it.
    hits: Sequence[int]
    area: Polygon | MultiPolygon | None


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
    """Fills blocks, in any number of threads."""

    sources: Sequence[MapSource]
    mode: Mode
    fading: Fading
    budget: Budget
    device: torch.device

    def block(self, task: _Task) -> Block:
        """Work out a block."""
        block = Block.empty(task.window)
        if task.area is None or task.area.intersects(box(*task.grid.bounds)):
            self.fill(block, task.grid, task.hits, (0, 0))
            if task.area is not None:
                block.clear(~inside(task.area, task.grid))
        return block

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
        needs = self._needs(found, grid)
        if needs > self.budget.total and max(grid.shape) > _SMALLEST:
            for window in _quarters(grid):
                corner = at[0] + int(window.row_off), at[1] + int(window.col_off)
                self.fill(block, grid.crop(window), list(found), corner)
            return
        with self.budget.take(needs):
            merged = self._merged(found, grid)
        height, width = grid.shape
        place = slice(at[0], at[0] + height), slice(at[1], at[1] + width)
        block.paste(merged, place)

    def _needs(self, found: dict[int, Footprint], grid: Grid) -> int:
        """Bytes of one scene, as stored, as float32 and sampled, and of the sum."""
        bands = self.sources[0].num_classes + 1
        largest = max(footprint.pixels for footprint in found.values())
        return bands * (9 * largest + 8 * grid.height * grid.width)

    def _merged(self, found: dict[int, Footprint], grid: Grid) -> Merged:
        if len(found) > 1:
            return self.mode(self._contributions(found, grid))
        [(i, footprint)] = found.items()
        return alone(i, *shown(self.sources[i], footprint, grid, self.device))

    def _contributions(
        self, found: dict[int, Footprint], grid: Grid
    ) -> Iterator[Contribution]:
        for i, footprint in found.items():
            source = self.sources[i]
            values, there = probabilities(source, footprint, grid, self.device)
            edge = self.fading(source, footprint.centres, self.device)
            yield Contribution(i, values, there * edge * source.priority)


def _quarters(grid: Grid) -> Iterator[Window]:
    rows, cols = (
        [(0, side)] if side <= _SMALLEST else [(0, side // 2), (side // 2, side)]
        for side in grid.shape
    )
    for (top, bottom), (left, right) in product(rows, cols):
        yield Window(left, top, right - left, bottom - top)
