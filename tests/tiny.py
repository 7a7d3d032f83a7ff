"""Tiny arrays that can be checked by eye."""

import importlib.util
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


def write_fake(name: str, root: Path) -> Path:
    """Write tiny fake data of a data set in its true layout, and return its folder.

    Args:
        name: Folder in tests/data.
        root: Where to write.
    """
    script = Path(__file__).parent / 'data' / name / 'data.py'
    spec = importlib.util.spec_from_file_location(f'fake_{name}', script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(root)
    return root
