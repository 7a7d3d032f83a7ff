"""Weighted mean of the windows that cover a raster, held for one row of windows only."""

import torch
from rasterio.windows import Window
from torch import Tensor

from .windows import WindowGrid


class BandBlender:
    """Blend rows of windows as they come, from top to bottom.

    Holds one band of the raster, as high as a window. When a row of windows is complete,
    the pixel rows that no later window touches are given out and forgotten.

    A part of the raster comes out as it would in the whole: windows and their weights are
    those of the raster.
    """

    def __init__(
        self,
        num_classes: int,
        windows: WindowGrid,
        part: Window | None = None,
        device: torch.device | str = 'cpu',
    ) -> None:
        """Initialize a new BandBlender instance.

        Args:
            num_classes: Number of classes, K.
            windows: Windows that cover the raster.
            part: What to give out of the raster; by default all of it.
            device: Where to add up.
        """
        self.windows = windows
        self.part = part or Window(0, 0, windows.width, windows.height)
        self.device = torch.device(device)
        left, right = int(self.part.col_off), int(self.part.col_off + self.part.width)
        top, bottom = int(self.part.row_off), int(self.part.row_off + self.part.height)
        #: Rows and columns of the windows that touch the part.
        self.rows = windows.rows.touching(top, bottom)
        self.cols = windows.cols.touching(left, right)
        #: Row of windows that is being added up.
        self.row = self.rows.start
        offsets = windows.cols.offsets
        self._left = offsets[self.cols.start]
        width = offsets[self.cols.stop - 1] + windows.size - self._left
        self._inside = slice(left - self._left, right - self._left)
        self._band = torch.zeros((num_classes, windows.size, width), device=self.device)
        self._top, self._bottom = top, bottom
        # Windows are blended in float32: 0 labels differ from sums in float64.
        self._down = [torch.from_numpy(w).to(self.device) for w in windows.rows.weights]
        self._across = [
            torch.from_numpy(w).to(self.device) for w in windows.cols.weights
        ]

    def add(self, probabilities: Tensor, col: int) -> None:
        """Add a window of the present row of windows.

        Args:
            probabilities: Class probabilities, of shape (K, size, size).
            col: Which window of that row.
        """
        weights = self._down[self.row][:, None] * self._across[col]
        left = self.windows.cols.offsets[col] - self._left
        inside = self._band[:, :, left : left + self.windows.size]
        inside.addcmul_(probabilities.to(self.device), weights)

    def finish(self) -> tuple[int, Tensor]:
        """Give out what is complete once all windows of the present row are added.

        Returns:
            First row of pixels, and class probabilities of the next rows of the part, of
            shape (K, rows, width).
        """
        size, offsets = self.windows.size, self.windows.rows.offsets
        begin = offsets[self.row]
        is_last = self.row + 1 == self.rows.stop
        end = min(self._bottom, begin + size) if is_last else offsets[self.row + 1]
        # A part may begin below what only this row of windows sees.
        top = self._top
        done = max(min(end, self._bottom), top)
        complete = self._band[:, top - begin : done - begin, self._inside].clone()
        if not is_last:
            step = end - begin
            self._band[:, : size - step] = self._band[:, step:].clone()
            self._band[:, size - step :] = 0
        self.row += 1
        self._top = done
        return top, complete
