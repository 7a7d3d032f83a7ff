"""Weighted mean of the windows that cover a raster, held for one row of windows only."""

import numpy as np
from numpy.typing import NDArray

from .windows import WindowGrid


class BandBlender:
    """Blend rows of windows as they come, from top to bottom.

    Holds one band of the raster, as high as a window. When a row of windows is complete,
    the pixel rows that no later window touches are given out and forgotten.
    """

    def __init__(self, num_classes: int, windows: WindowGrid) -> None:
        """Initialize a new BandBlender instance.

        Args:
            num_classes: Number of classes, K.
            windows: Windows that cover the raster.
        """
        self.windows = windows
        width = max(windows.width, windows.size)
        self._band = np.zeros((num_classes, windows.size, width), np.float32)
        self._top = 0

    def add(self, probabilities: NDArray[np.float32], row: int, col: int) -> None:
        """Add a window of the present row of windows.

        Args:
            probabilities: Class probabilities, of shape (K, size, size).
            row: Which row of windows.
            col: Which window of that row.
        """
        down = self.windows.rows.weights[row][:, None]
        across = self.windows.cols.weights[col]
        left = self.windows.cols.offsets[col]
        inside = self._band[:, :, left : left + self.windows.size]
        inside += probabilities * (down * across)

    def finish(self, row: int) -> NDArray[np.float32]:
        """Give out what is complete once all windows of a row are added.

        Args:
            row: Which row of windows.

        Returns:
            Class probabilities of the next rows of pixels, of shape (K, rows, width).
        """
        offsets = self.windows.rows.offsets
        is_last = row + 1 == len(offsets)
        bottom = self.windows.height if is_last else offsets[row + 1]
        done = bottom - self._top
        complete = self._band[:, :done, : self.windows.width].copy()
        self._band[:, : self.windows.size - done] = self._band[:, done:].copy()
        self._band[:, self.windows.size - done :] = 0
        self._top = bottom
        return complete
