"""Cover a scene with overlapping windows."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window


@dataclass(frozen=True)
class Axis:
    """Overlapping intervals of one size that cover a line of pixels.

    Neighbours share at least *overlap* pixels. The last interval is moved back to end
    with the line, so that none leaves it and none is smaller than the others. A line
    shorter than *size* gets one interval that leaves it; the reader pads it.
    """

    length: int
    size: int
    overlap: int

    def __post_init__(self) -> None:
        """Check the overlap.

        Raises:
            ValueError: If *overlap* is negative or not less than *size*.
        """
        if not 0 <= self.overlap < self.size:
            raise ValueError(
                f'overlap must be at least 0 and less than size={self.size}, '
                f'got {self.overlap}'
            )

    @cached_property
    def offsets(self) -> list[int]:
        """First pixel of each interval."""
        last = max(self.length - self.size, 0)
        return [*range(0, last, self.size - self.overlap), last]

    @cached_property
    def weights(self) -> list[NDArray[np.float32]]:
        """Weight of each pixel of each interval, of shape (size,), summing to 1.

        A weight falls off towards the ends of its interval, where a network sees less
        around a pixel, and is never 0. At every pixel of the line the weights of the
        intervals that cover it sum to 1, whatever their overlap, so that blending needs
        no count and no division.
        """
        ramp = np.minimum(np.arange(1, self.size + 1), np.arange(self.size, 0, -1))
        ramp = np.minimum(ramp, max(self.overlap, 1)).astype(np.float64)
        total = np.zeros(max(self.length, self.size))
        for offset in self.offsets:
            total[offset : offset + self.size] += ramp
        return [
            (ramp / total[offset : offset + self.size]).astype(np.float32)
            for offset in self.offsets
        ]


@dataclass(frozen=True)
class WindowGrid:
    """Overlapping square windows that cover a raster; a plan, no pixel is read.

    >>> grid = WindowGrid(height=100, width=150, size=64, overlap=16)
    >>> len(grid), grid.rows.offsets, grid.cols.offsets
    (6, [0, 36], [0, 48, 86])
    """

    height: int
    width: int
    size: int
    overlap: int

    @cached_property
    def rows(self) -> Axis:
        """Intervals from top to bottom."""
        return Axis(self.height, self.size, self.overlap)

    @cached_property
    def cols(self) -> Axis:
        """Intervals from left to right."""
        return Axis(self.width, self.size, self.overlap)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.rows.offsets) * len(self.cols.offsets)

    def __iter__(self) -> Iterator[Window]:
        """Windows row by row."""
        for row in self.rows.offsets:
            for col in self.cols.offsets:
                yield Window(col, row, self.size, self.size)
