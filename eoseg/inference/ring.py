"""The rows of a scene that windows still need."""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eoseg_datasets.scene import Band

from .reader import Rows


class RowRing:
    """Rows of a scene, read when they are needed and forgotten when they are not.

    Holds them as they are stored, a few blocks more than a window is high.
    """

    def __init__(self, rows: Iterator[Rows], bands: Sequence[Band], left: int) -> None:
        """Initialize a new RowRing instance.

        Args:
            rows: From top to bottom.
            bands: Bands of the rows.
            left: Column of the scene on which the rows begin.
        """
        self.left = left
        self._source = rows
        self._rows: deque[Rows] = deque()
        self._masks: deque[tuple[int, NDArray[np.bool_]]] = deque()
        self._bottom: int | None = None
        self._scale = _column([band.scale for band in bands], 1)
        self._offset = _column([band.offset for band in bands], 0)

    def read_to(self, bottom: int) -> None:
        """Read until all rows above *bottom* are there, or the scene ends."""
        while self._bottom is None or self._bottom < bottom:
            rows = next(self._source, None)
            if rows is None:
                return
            self._rows.append(rows)
            self._masks.append((rows.top, rows.valid))
            self._bottom = rows.bottom

    def forget(self, top: int) -> None:
        """Forget the numbers above *top*; validity stays until it is taken."""
        while self._rows and self._rows[0].bottom <= top:
            self._rows.popleft()

    def fill(self, patch: Tensor, top: int, left: int) -> bool:
        """Copy a window as the network sees it, unless none of its pixels is valid.

        Stored numbers are converted, scaled and masked on the device in one go.

        Args:
            patch: Where to, of shape (C, size, size); NaN where a pixel is not valid.
            top: First row of the window.
            left: First column of the window.

        Returns:
            Whether a pixel is valid; if none is, *patch* is left as it was.
        """
        size = patch.shape[-1]
        cols = slice(left - self.left, left - self.left + size)
        parts = [
            (rows, slice(max(top - rows.top, 0), top + size - rows.top))
            for rows in self._rows
            if rows.top < top + size and rows.bottom > top
        ]
        if not any(rows.valid[lines, cols].any() for rows, lines in parts):
            return False
        covered = 0
        for rows, lines in parts:
            numbers = rows.numbers[:, lines, cols]
            height, width = numbers.shape[1:]
            there = patch[:, covered : covered + height, :width]
            covered += height
            there.copy_(numbers)
            self._to_values(there)
            if not rows.valid[lines, cols].all():
                hidden = ~rows.mask[lines, cols].to(there.device)
                there.masked_fill_(hidden, torch.nan)
        # What a window has outside of the scene.
        patch[:, covered:] = torch.nan
        patch[:, :, width:] = torch.nan
        return True

    def take_valid(self, top: int, bottom: int) -> NDArray[np.bool_]:
        """Validity of rows, from *top* to above *bottom*; what is above is forgotten."""
        self.read_to(bottom)
        while self._masks[0][0] + len(self._masks[0][1]) <= top:
            self._masks.popleft()
        parts = [
            mask[max(top - row, 0) : bottom - row]
            for row, mask in self._masks
            if row < bottom
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _to_values(self, numbers: Tensor) -> None:
        if self._scale is not None:
            self._scale = self._scale.to(numbers.device)
            numbers *= self._scale
        if self._offset is not None:
            self._offset = self._offset.to(numbers.device)
            numbers += self._offset


def _column(numbers: Sequence[float | None], otherwise: float) -> Tensor | None:
    """A number for each band, to be applied to (C, H, W); None if no band has one."""
    if all(number is None for number in numbers):
        return None
    known = [otherwise if number is None else number for number in numbers]
    return torch.tensor(known, dtype=torch.float32).view(-1, 1, 1)
