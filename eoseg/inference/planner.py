"""How a scene is mapped in bounded memory: parts of its width, and units of work."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from eoseg_datasets.grid import Grid

from ..io.cog import BLOCK
from .layers import Layers
from .reader import AHEAD, CACHE
from .resolution import ROWS, seen_from
from .scene import Strip
from .windows import WindowGrid

#: Units that are being written while others are computed.
WRITING = 2


@dataclass(frozen=True)
class Demand:
    """What mapping a scene takes, beside what the network itself needs."""

    windows: WindowGrid
    #: Number of bands, C, and the bytes that all of them take for a pixel as stored.
    bands: int
    stored: int
    #: Rows that are read at once.
    rows: int
    #: Number of classes, K, and of the bands that are written.
    num_classes: int
    layers: int
    batch_size: int
    #: Grids of the scene and of what the windows see, where it is read at another
    #: resolution.
    resampled: tuple[Grid, Grid] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the scene."""
        if self.resampled:
            return self.resampled[0].shape
        return self.windows.height, self.windows.width

    def bytes_for(self, part: Window) -> int:
        """Bytes that mapping a part of the scene takes.

        Args:
            part: What is given out; its windows see more.
        """
        size, width = self.windows.size, int(part.width)
        inside = seen_from(part, *self.resampled) if self.resampled else part
        left, right = int(inside.col_off), int(inside.col_off + inside.width)
        at = self.windows.cols.touching(left, right)
        offsets = self.windows.cols.offsets
        seen = offsets[at.stop - 1] + size - offsets[at.start]
        # One more is being taken apart where bands come from several files.
        held = size + (AHEAD + 2) * self.rows
        band = 2 * size + size - self.windows.overlap
        written = (WRITING + 1) * BLOCK * self.layers * width
        # What a batch is copied to on its way: images, logits, probabilities.
        batch = self.batch_size * size**2 * 4 * (2 * self.bands + 3 * self.num_classes)
        across = held * (self.stored + 1) + band * self.num_classes * 4
        total = seen * across + written + batch + CACHE
        return total + (self._to_resample(seen, width) if self.resampled else 0)

    def _to_resample(self, seen: int, width: int) -> int:
        assert self.resampled
        ours, theirs = (grid.height * grid.width for grid in self.resampled)
        # GDAL takes means of all pixels that rows are made of.
        read = self.rows * seen * self.stored * max(ours / theirs, 1)
        # With their weights: strips and a copy, rows between them, rows of the scene.
        back = (2 * self.windows.size + 3 * ROWS) * seen + 4 * ROWS * width
        return round(read) + back * (self.num_classes + 1) * 4


def plan_parts(
    demand: Demand, memory: int, within: Window | None = None
) -> list[Window]:
    """Divide a scene into parts from left to right that fit into memory.

    Parts begin and end on blocks of the map, and there are as few as possible, because
    neighbours see the same pixels at their border.

    Args:
        demand: What mapping takes.
        memory: Bytes that a part may take.
        within: What to divide, in whole blocks of the map; by default all of it.

    Raises:
        ValueError: If a single column of blocks takes more.
    """
    whole = within or Window(0, 0, *demand.shape[::-1])
    col, row, width, height = (int(side) for side in whole.flatten())
    blocks = -(-width // BLOCK)
    for count in range(1, blocks + 1):
        borders = [i * blocks // count * BLOCK for i in range(count)]
        parts = [
            Window(col + left, row, right - left, height)
            for left, right in zip(borders, [*borders[1:], width], strict=True)
        ]
        needed = max(map(demand.bytes_for, parts))
        if needed <= memory:
            return parts
    raise ValueError(
        f'{memory / 1e6:.0f} MB of memory are too little for windows of '
        f'{demand.windows.size} pixels; give --memory {-(-needed // 10**6)}MB or more, '
        'a smaller --window or a smaller --batch-size'
    )


def units_of(part: Window) -> list[Window]:
    """Rows of blocks of a part, from top to bottom: what is kept of an interrupted run."""
    bottom = int(part.row_off + part.height)
    return [
        Window(part.col_off, top, part.width, min(BLOCK, bottom - top))
        for top in range(int(part.row_off), bottom, BLOCK)
    ]


def units(
    strips: Iterable[Strip], layers: Layers, part: Window
) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    """Cut strips into units.

    Args:
        strips: Of the part, from top to bottom.
        layers: What is stored of them.
        part: Begins on a block of the map.

    Yields:
        Units and their bands, of shape (layers, rows, width).
    """
    plan = iter(units_of(part))
    unit, filled = next(plan), 0
    values = np.empty((layers.count, int(unit.height), int(unit.width)), np.uint8)
    for strip in strips:
        bands = layers(strip.probabilities, strip.valid)
        while bands.shape[1]:
            taken = bands[:, : int(unit.height) - filled]
            values[:, filled : filled + taken.shape[1]] = taken
            filled += taken.shape[1]
            bands = bands[:, taken.shape[1] :]
            if filled == unit.height:
                yield unit, values
                unit, filled = next(plan, unit), 0
                shape = layers.count, int(unit.height), int(unit.width)
                values = np.empty(shape, np.uint8)
