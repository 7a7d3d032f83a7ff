"""Landsat scene folders: one file a band, with an MTL file."""

import re
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from .grid import Grid
from .handles import open_raster
from .scene import Band, Scene, band_of, check_complete, grid_of, scene_name

#: Level 1 ends in _B4.TIF, level 2 in _SR_B4.TIF or _ST_B10.TIF.
_BAND_FILE = re.compile(r'_(?:(?:SR|ST)_)?B(?P<number>\d{1,2})\.tif$', re.IGNORECASE)
_ACQUIRED = re.compile(r'DATE_ACQUIRED\W+(\d{4}-\d{2}-\d{2})')
#: Numbers of collection 2, level 2 (USGS): reflectance = number x 2.75e-5 - 0.2,
#: temperature in kelvin = number x 0.00341802 + 149; nodata is 0.
_LEVEL_2 = {'SR': (2.75e-5, -0.2), 'ST': (0.00341802, 149.0)}


def is_landsat_folder(path: Path) -> bool:
    """Whether a folder holds an MTL file and band files."""
    return (
        path.is_dir()
        and any(path.glob('*_MTL.*'))
        and any(_BAND_FILE.search(file.name) for file in path.iterdir())
    )


def open_landsat(folder: Path, root: Path | None = None) -> Scene:
    """A Landsat folder as a scene.

    Bands of another pixel size than most (the panchromatic band) are left out.

    Args:
        folder: Folder with ``*_B1.TIF`` … and ``*_MTL.txt``.
        root: Folder that the name of the scene is relative to.

    Raises:
        RasterioIOError: If a band cannot be opened.
        ValueError: If the end of a band is missing.
    """
    found = [
        _open_band(path, int(match['number']))
        for path in sorted(folder.iterdir())
        if (match := _BAND_FILE.search(path.name))
    ]
    grid = Counter(grid for _, grid in found).most_common(1)[0][0]
    bands = sorted(
        (band for band, its_grid in found if its_grid == grid),
        key=lambda band: int(band.name[1:]),
    )
    return Scene(
        name=scene_name(folder, root),
        path=folder,
        grid=grid,
        bands=tuple(bands),
        acquired=_acquired(folder),
    )


def _open_band(path: Path, number: int) -> tuple[Band, Grid]:
    with open_raster(path) as source:
        check_complete(source, path)
        band = band_of(source, path, 1, f'B{number}')
        grid = grid_of(source)
    for level, (scale, offset) in _LEVEL_2.items():
        if f'_{level}_B' in path.name.upper() and band.scale is None:
            band = replace(band, scale=scale, offset=offset)
    # Fill is 0 in every collection; files of level 1 often do not say so.
    return replace(band, nodata=0 if band.nodata is None else band.nodata), grid


def _acquired(folder: Path) -> datetime | None:
    for path in folder.glob('*_MTL.*'):
        if match := _ACQUIRED.search(path.read_text(errors='replace')):
            return datetime.fromisoformat(match[1])
    return None
