"""Finished parts of a map, kept until the whole is there."""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from eoseg_datasets.classes import NODATA
from eoseg_datasets.handles import open_raster

from .atomic import complete
from .cog import BLOCK, scratch_compression

#: Beside the maps while some are unfinished.
FOLDER = '.units'


class Journal:
    """Finished units of one scene: a file for each, and a line in ``manifest.jsonl``.

    A unit counts as done if the manifest names it, under the key of all that its pixels
    depend on, and its file reads as it was written: a GeoTIFF that was cut short may open
    and read as nodata. The line is written after the file has reached the disk.
    """

    def __init__(self, root: Path, key: str, bands: int) -> None:
        """Initialize a new Journal instance.

        Args:
            root: Folder of the maps.
            key: All that the pixels depend on: scene, weights, settings.
            bands: Number of bands of a unit, of uint8.
        """
        self.key = hashlib.sha256(key.encode()).hexdigest()[:16]
        self.folder = root / FOLDER / self.key
        self.manifest = root / FOLDER / 'manifest.jsonl'
        self.bands = bands
        self._known = {
            tuple(entry['window']): entry
            for entry in _entries(self.manifest)
            if entry.get('key') == self.key
        }

    def is_done(self, window: Window) -> bool:
        """Whether a unit is there and reads as it was written."""
        try:
            self.load(window)
        except (OSError, RasterioError):
            return False
        return True

    def save(self, unit: tuple[Window, NDArray[np.uint8]]) -> Window:
        """Keep a unit.

        Args:
            unit: Window and bands, of shape (bands, h, w).

        Returns:
            The window.

        Raises:
            OSError: If the disk is full or does not read as it was written.
        """
        window, values = unit
        place = _place(window)
        entry = {
            'key': self.key,
            'window': list(place),
            'valid': int(np.count_nonzero(values[0] != NODATA)),
            'crc': _checksum(values),
        }
        path = self._path(window)
        with complete(path) as part:
            _write(part, values)
            _read(part, entry)
        _append(self.manifest, entry)
        self._known[place] = entry
        return window

    def load(self, window: Window) -> NDArray[np.uint8]:
        """The bands of a unit.

        Raises:
            OSError: If it is not there, or not as it was written.
        """
        entry = self._known.get(_place(window))
        if entry is None:
            raise FileNotFoundError(f'{self.manifest} does not name {window}')
        return _read(self._path(window), entry)

    def forget(self) -> None:
        """Remove all units: the map is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, window: Window) -> Path:
        return self.folder / f'{int(window.row_off)}_{int(window.col_off)}.tif'


def forget_others(root: Path, kept: Iterable[str]) -> None:
    """Remove units that no unfinished scene has, and all traces if there are none.

    Args:
        root: Folder of the maps.
        kept: Keys of journals, hashed, whose scenes are unfinished.
    """
    keys = frozenset(kept)
    folder = root / FOLDER
    for path in folder.glob('*/'):
        if path.name not in keys:
            shutil.rmtree(path, ignore_errors=True)
    if not keys and folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)


def _place(window: Window) -> tuple[int, ...]:
    return tuple(int(side) for side in window.flatten())


def _checksum(values: NDArray[np.uint8]) -> int:
    return zlib.crc32(np.ascontiguousarray(values).data)


def _entries(manifest: Path) -> list[dict[str, Any]]:
    if not manifest.is_file():
        return []
    entries = []
    for line in manifest.read_text(encoding='utf-8').splitlines():
        # A line that was cut short is as if it were not there.
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries


def _append(manifest: Path, entry: dict[str, Any]) -> None:
    with manifest.open('a', encoding='utf-8') as file:
        # What follows a line that was cut short begins a line of its own.
        file.write('\n' + json.dumps(entry))
        file.flush()
        os.fsync(file.fileno())


def _write(path: Path, values: NDArray[np.uint8]) -> None:
    count, height, width = values.shape
    profile = {
        'driver': 'GTiff',
        # Any but the identity, at which rasterio warns.
        'transform': Affine.scale(2),
        'count': count,
        'height': height,
        'width': width,
        'dtype': 'uint8',
        'tiled': True,
        'blockxsize': BLOCK,
        'blockysize': BLOCK,
        'interleave': 'band',
        **scratch_compression(),
    }
    with closing(rasterio.open(path, 'w', **profile)) as target:
        target.write(values)


def _read(path: Path, entry: dict[str, Any]) -> NDArray[np.uint8]:
    with closing(open_raster(path)) as source:
        values: NDArray[np.uint8] = source.read()
    valid = int(np.count_nonzero(values[0] != NODATA))
    if (valid, _checksum(values)) != (entry['valid'], entry['crc']):
        raise OSError(
            f'{path} does not read as it was written ({valid} valid pixels of '
            f'{entry["valid"]}); is the disk full?'
        )
    return values
