"""Cover a scene with overlapping windows."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
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

    def touching(self, start: int, stop: int) -> range:
        """Which intervals reach into the pixels from *start* to before *stop*."""
        ends = [offset + self.size for offset in self.offsets]
        return range(bisect_right(ends, start), bisect_left(self.offsets, stop))

    @cached_property
    def weights(self) -> list[NDArray[np.float32]]:
        """Weight of each pixel of each interval, of shape (size,), summing to 1.

        A weight falls off towards the ends of its interval, where a network sees less
        around a pixel. Over the last quarter of the overlap it is 0: a network that looks
        no further than that shows no seam at all. The ends of the line are different, as
        there is no more to be seen. At every pixel of the line the weights of the
        intervals that cover it sum to 1, whatever their overlap, so that blending needs
        no count and no division.
        """
        unseen = self.overlap // 4
        # At most as long as what two intervals share and both see well.
        ramp = np.arange(1 - unseen, self.size + 1 - unseen)
        ramp = ramp.clip(0, max(self.overlap - 2 * unseen, 1)).astype(np.float64)
        flat = np.full(self.size, ramp.max())
        last = len(self.offsets) - 1
        weights = [
            np.minimum(ramp if i > 0 else flat, ramp[::-1] if i < last else flat)
            for i in range(last + 1)
        ]
        total = np.zeros(max(self.length, self.size))
        for offset, weight in zip(self.offsets, weights, strict=True):
            total[offset : offset + self.size] += weight
        return [
            (weight / total[offset : offset + self.size]).astype(np.float32)
            for offset, weight in zip(self.offsets, weights, strict=True)
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
    #: Which windows are to be computed; by default all.
    wanted: Callable[[Window], bool] = lambda _: True

    @cached_property
    def rows(self) -> Axis:
        """Intervals from top to bottom."""
        return Axis(self.height, self.size, self.overlap)

    @cached_property
    def cols(self) -> Axis:
        """Intervals from left to right."""
        return Axis(self.width, self.size, self.overlap)

    def wants(self, row: int, col: int) -> bool:
        """Whether the window of a row and a column is to be computed."""
        left, top = self.cols.offsets[col], self.rows.offsets[row]
        return self.wanted(Window(left, top, self.size, self.size))

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.rows.offsets) * len(self.cols.offsets)

    def __iter__(self) -> Iterator[Window]:
        """Windows row by row."""
        for row in self.rows.offsets:
            for col in self.cols.offsets:
                yield Window(col, row, self.size, self.size)
