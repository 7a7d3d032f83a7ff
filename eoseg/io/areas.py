"""True areas of the classes of a map."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from rasterio.windows import Window

from eoseg_datasets.grid import Grid
from eoseg_datasets.handles import open_raster
from eoseg_datasets.scene import grid_of

from .cog import BLOCK

#: Side of the cells in pixels over which a pixel has one area.
CELL = 64


def value_areas(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """Pixels and area of each value of a map.

    A pixel of UTM is a thousandth larger or smaller than it says, one of Web Mercator at
    60 degrees four times. So areas are those of cells of 64 pixels in an equal-area
    projection around the middle of the map.

    Args:
        path: A map of one uint8 band.

    Returns:
        Numbers of pixels, of shape (256,), and hectares, of shape (256,); None where the
        map does not lie on Earth.
    """
    counts = np.zeros(256, np.int64)
    hectares = np.zeros(256)
    with closing(open_raster(path)) as source:
        cells = cell_areas(grid_of(source))
        for row in range(0, source.height, BLOCK):
            height = min(BLOCK, source.height - row)
            values = source.read(1, window=Window(0, row, source.width, height))
            for top in range(0, height, CELL):
                found = _by_cell(values[top : top + CELL])
                counts += found.sum(axis=0)
                if cells is not None:
                    hectares += cells[(row + top) // CELL] @ found
    return counts, None if cells is None else hectares


def cell_areas(grid: Grid) -> NDArray[np.float64] | None:
    """Hectares of a pixel in each cell of 64 x 64 pixels of a grid.

    Args:
        grid: Any grid.

    Returns:
        Of shape (rows, columns) of cells; None if the grid does not lie on Earth.
    """
    if not grid.is_placed:
        return None
    cols = np.array([*range(0, grid.width, CELL), grid.width], float)
    rows = np.array([*range(0, grid.height, CELL), grid.height], float)
    x, y = grid.transform @ tuple(np.meshgrid(cols, rows))
    crs = CRS.from_wkt(grid.crs.to_wkt())
    to_degrees = Transformer.from_crs(crs, 'OGC:CRS84', always_xy=True)
    middle = grid.transform @ (grid.width / 2, grid.height / 2)
    lon, lat = to_degrees.transform(*middle)
    if not np.isfinite([lon, lat]).all():
        return None
    equal = CRS.from_proj4(f'+proj=laea +lat_0={lat} +lon_0={lon} +datum=WGS84')
    x, y = Transformer.from_crs(crs, equal, always_xy=True).transform(x, y)
    area = np.abs(_shoelace(x, y)) / np.outer(np.diff(rows), np.diff(cols))
    # Beyond the edge of the projection of the map there is nothing.
    return np.where(np.isfinite(area), area, 0) / 10_000


def _shoelace(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Areas of the quadrangles of a grid of points, by their diagonals."""
    one = x[1:, 1:] - x[:-1, :-1], y[1:, 1:] - y[:-1, :-1]
    other = x[1:, :-1] - x[:-1, 1:], y[1:, :-1] - y[:-1, 1:]
    return np.asarray((one[0] * other[1] - one[1] * other[0]) / 2, np.float64)


def _by_cell(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels of each value in each cell of a row of cells, of shape (cells, 256)."""
    width = values.shape[1]
    cells = -(-width // CELL)
    keys = np.arange(width) // CELL * 256 + values
    found = np.bincount(keys.ravel(), minlength=cells * 256)
    return found.reshape(cells, 256)
