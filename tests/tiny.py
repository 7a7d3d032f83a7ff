"""Tiny arrays that can be checked by eye."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: The fixture of this name: name, array and profile to path.
WriteRaster = Callable[..., Path]


def ramp(count: int, height: int, width: int) -> NDArray[np.uint16]:
    """Values that say where they are: band x 10000 + row x 100 + column + 1."""
    bands, rows, cols = np.indices((count, height, width))
    return np.asarray(bands * 10000 + rows * 100 + cols + 1, np.uint16)
