"""Scenes and labels in HDF5 files, one array each."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from .classes import IGNORE_INDEX
from .grid import Grid
from .labels import decoded
from .scene import Scene


@dataclass(frozen=True)
class HDF5Scene(Scene):
    """A scene whose bands lie in HDF5 files, as arrays of shape (H, W, C).

    The files have no header that GDAL would read: grid and bands are what the data set
    says they are, and an array of another shape is an error when it is read.
    """

    #: Name of the array in each file.
    key: str = 'img'

    def _read_file(
        self, path: Path, positions: Sequence[int], window: Window
    ) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        indexes = [self.bands[i].index for i in positions]
        with _array(path, self.key, self.grid.shape) as stored:
            if stored.ndim != 3 or stored.shape[2] < max(indexes, default=0):
                raise ValueError(
                    f'{path} has {self.key} of shape {stored.shape}, expected is '
                    f'(height, width, bands) with at least {max(indexes)} bands; it is '
                    'damaged or another file'
                )
            # All bands: they are interleaved, and h5py is slow at choosing.
            values = np.moveaxis(stored[window.toslices()], 2, 0)
        there = np.ones(values.shape[1:], np.bool_)
        return values[[i - 1 for i in indexes]].astype(np.float32), there

    def _valid_inside(self, window: Window) -> NDArray[np.bool_]:
        return self._read_inside(window)[1]


class HDF5Labels:
    """Labels in an HDF5 file, an array of shape (H, W)."""

    def __init__(self, path: Path, meaning: Mapping[int, int], key: str) -> None:
        """Initialize a new HDF5Labels instance.

        Args:
            path: The file.
            meaning: Class index of each stored value, 255 for no label.
            key: Name of the array in the file.
        """
        self.path = path
        self.key = key
        self._meaning = {IGNORE_INDEX: IGNORE_INDEX} | dict(meaning)

    def read(self, grid: Grid, window: Window) -> NDArray[np.uint8]:
        """Classes in a window, as :class:`~eoseg_datasets.labels.Labels` says.

        Raises:
            ValueError: If the array has another size than the scene, or if a value is
                of no class.
        """
        with _array(self.path, self.key, grid.shape) as stored:
            return decoded(stored[window.toslices()], self._meaning, self.path)


def require_h5py() -> Any:
    """The module h5py, or an error that says how to get it.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'HDF5 files are read with h5py, which is not installed; get it with '
            "pip install 'eoseg[h5]'",
            name='h5py',
        ) from error
    return h5py


@contextmanager
def _array(path: Path, key: str, shape: tuple[int, int]) -> Iterator[Any]:
    """An array of an HDF5 file, as long as it is needed.

    Opened anew for each window: an HDF5 handle must not be used after a fork, and these
    files hold one patch each.
    """
    h5py = require_h5py()
    try:
        file = h5py.File(path, 'r')
    except OSError as error:
        # Without this one, h5py's message has an address in memory but not the path.
        raise OSError(f'{path} cannot be read ({error}); get it again') from error
    with file:
        yield _inside(file, path, key, shape)


def _inside(file: Any, path: Path, key: str, shape: tuple[int, int]) -> Any:
    """The array, if its numbers are in this very file and have the right size."""
    h5py = require_h5py()
    link = file.get(key, getlink=True)
    if link is None:
        raise ValueError(
            f'{path} has no array {key}, but {", ".join(file) or "nothing"}; it is '
            'not a file of this data set'
        )
    # An HDF5 file may name any file of the machine to read from.
    stored = file[key] if isinstance(link, h5py.HardLink) else None
    if not isinstance(stored, h5py.Dataset) or stored.is_virtual or stored.external:
        raise ValueError(
            f'{path} has its array {key} in another file, which is not read; copy it '
            'with h5repack'
        )
    if stored.shape[:2] != shape:
        raise ValueError(
            f'{path} has {key} of {stored.shape[:2]} pixels, expected are {shape}; it '
            'is damaged or another file'
        )
    return stored
