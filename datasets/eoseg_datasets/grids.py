"""Grids of many rasters, kept so that their headers are read only once."""

import hashlib
import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from .cache import cache_folder, code_version
from .grid import Grid
from .handles import open_raster
from .inventory import just_written
from .scene import grid_of

log = logging.getLogger(__name__)

_T = TypeVar('_T')

#: Files that are opened at a time; on a network drive most of the time is waiting.
THREADS = 8

#: Files that one of them opens in a row: handing over each by itself takes as long.
_BATCH = 256

#: What the table depends on: where one of these has changed, it is made anew.
_MODULES = ('grid', 'grids', 'handles', 'scene')


def grids_of(paths: Sequence[Path], root: Path) -> list[Grid]:
    """Where the pixels of rasters lie, in the order of *paths*.

    For data sets of so many small files that opening them all takes minutes. The first
    time every header is read, by several threads, and a table is written to the cache
    of the user. From then on only files are opened that are new or have changed in size
    or time of writing. A table that is damaged, or cannot be written, costs time only.

    Args:
        paths: Rasters below *root*.
        root: Folder of the data set; each has a table of its own.

    Raises:
        ValueError: If a file cannot be opened; the message names it.
    """
    now = time.time_ns()
    states = _states(paths)
    table = _table_path(root)
    known = _read(table)
    names = [os.path.relpath(path, root) for path in paths]
    fresh = [
        i
        for i, (name, state) in enumerate(zip(names, states, strict=True))
        if (row := known.get(name)) is None or row.state != state
    ]
    opened = _open([paths[i] for i in fresh])
    for i, grid in zip(fresh, opened, strict=True):
        known[names[i]] = _Row(states[i], grid)
    if fresh:
        _write(_trusted(known, now), table)
    return [known[name].grid for name in names]


@dataclass(frozen=True, slots=True)
class _Row:
    """A file as it was (bytes and nanoseconds), and its grid."""

    state: tuple[int, int]
    grid: Grid


def _trusted(rows: Mapping[str, _Row], now: int) -> dict[str, _Row]:
    """Rows whose state tells whether the file has changed."""
    return {
        name: row for name, row in rows.items() if not just_written(row.state[1], now)
    }


def _states(paths: Sequence[Path]) -> list[tuple[int, int]]:
    return _threaded(_state_of_each, paths)


def _state_of_each(paths: Iterable[Path]) -> list[tuple[int, int]]:
    statuses = map(os.stat, paths)
    return [(status.st_size, status.st_mtime_ns) for status in statuses]


def _open(paths: Sequence[Path]) -> list[Grid]:
    with warnings.catch_warnings():
        # Each opening silences it, too, but threads restore each other's filters.
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        return _threaded(_grid_of_each, paths)


def _grid_of_each(paths: Iterable[Path]) -> list[Grid]:
    # Sidecars say nothing about the grid of these files, and GDAL would list the whole
    # folder for each file in it to find them.
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN='EMPTY_DIR'):
        return [_grid_in(path) for path in paths]


def _grid_in(path: Path) -> Grid:
    try:
        with open_raster(path) as source:
            grid = grid_of(source)
    except RasterioError as error:
        raise ValueError(
            f'{path} cannot be opened ({error}); copy or download it again'
        ) from error
    crs = None if grid.crs is None else _shared(grid.crs.to_wkt())
    return Grid(crs, grid.transform, grid.width, grid.height)


# Thousands of files have a few reference systems: one object for all files of each.
@lru_cache(maxsize=1024)
def _shared(wkt: str) -> CRS:
    return CRS.from_wkt(wkt)


def _threaded(
    work: Callable[[Sequence[Path]], list[_T]], paths: Sequence[Path]
) -> list[_T]:
    batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
    with ThreadPoolExecutor(THREADS) as threads:
        return list(chain.from_iterable(threads.map(work, batches)))


def _table_path(root: Path) -> Path:
    key = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]
    return cache_folder() / 'grids' / f'{key}.npz'


def _write(rows: Mapping[str, _Row], path: Path) -> None:
    """Write a table, which appears only when complete."""
    places: dict[int, int] = {}
    systems: list[str | None] = []
    for row in rows.values():
        if id(row.grid.crs) not in places:
            places[id(row.grid.crs)] = len(systems)
            systems.append(None if row.grid.crs is None else row.grid.crs.to_wkt())
    grids = [row.grid for row in rows.values()]
    facts = {**_facts(), 'names': list(rows), 'systems': systems}
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: other processes may write the same table now.
        number, part = tempfile.mkstemp(dir=path.parent, suffix='.part')
        with os.fdopen(number, 'wb') as file:
            np.savez_compressed(
                file,
                facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
                state=np.array([row.state for row in rows.values()], np.int64),
                transform=np.array([grid.transform[:6] for grid in grids]),
                size=np.array([(g.width, g.height) for g in grids], np.int32),
                system=np.array([places[id(grid.crs)] for grid in grids], np.int32),
            )
        os.replace(part, path)
    except OSError as error:
        log.debug('the grids of %s are not kept: %s', path, error)
    finally:
        if part is not None:
            with suppress(OSError):
                os.unlink(part)


def _read(path: Path) -> dict[str, _Row]:
    """What :func:`_write` has written; nothing if it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as table:
            facts = json.loads(table['facts'].tobytes())
            names, systems = facts.pop('names'), facts.pop('systems')
            if facts != _facts():
                return {}
            crs = [None if wkt is None else _shared(wkt) for wkt in systems]
            columns = [
                table[column].tolist()
                for column in ('state', 'transform', 'size', 'system')
            ]
        return {
            name: _Row((state[0], state[1]), Grid(crs[system], Affine(*six), *size))
            for name, state, six, size, system in zip(names, *columns, strict=True)
        }
    except FileNotFoundError:
        return {}
    # A damaged table may raise anything, and costs no more than making it again.
    except Exception as error:  # noqa: BLE001
        log.debug('%s cannot be read and is made again: %s', path, error)
        return {}


def _facts() -> dict[str, Any]:
    # Another GDAL may read another grid.
    return {'version': code_version(*_MODULES), 'gdal': rasterio.__gdal_version__}
