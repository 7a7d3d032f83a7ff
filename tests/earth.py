"""Maps of fields on the Earth, and their mosaics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.windows import Window
from shapely import MultiPolygon, Polygon

from eoseg.inference.map_source import Finished, MapSource
from eoseg.inference.modes import Mode, blend
from eoseg.inference.mosaic import Block, block_windows, mosaic_blocks
from eoseg.inference.resources import Resources
from eoseg_datasets.footprint import moved
from eoseg_datasets.grid import Grid

UTM32, UTM33 = CRS.from_epsg(32632), CRS.from_epsg(32633)
#: At 12 degrees east, where the two zones meet.
WEST = Grid(UTM32, Affine(10, 0, 718_003, 0, -10, 5_322_007), 90, 80)
EAST = Grid(UTM33, Affine(10, 0, 271_101, 0, -10, 5_322_409), 90, 80)

#: From longitude and latitude to a probability.
Field = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def plane(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth in the ground, from 0 to 1 over the two scenes."""
    return np.asarray(0.5 + 0.4 * np.sin((lon - 12) * 400) * np.cos((lat - 48) * 500))


def wide(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth on the whole Earth, at the antimeridian and the poles too."""
    x, y = np.deg2rad(lon), np.deg2rad(lat)
    return np.asarray(0.5 + 0.4 * np.cos(y) * np.sin(x * 5) * np.cos(y * 3))


def centres(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of the centres of all pixels."""
    cols, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = moved(np.stack([cols, rows]), grid.transform)
    return x, y


def positions(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude of the centres of all pixels."""
    to_degrees = Transformer.from_crs(grid.crs, 4326, always_xy=True).transform
    lon, lat = to_degrees(*centres(grid))
    return lon, lat


def within(grid: Grid, bounds: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    """Which pixels have their centre in left, bottom, right and top."""
    x, y = centres(grid)
    left, bottom, right, top = bounds
    return np.asarray((x > left) & (x < right) & (y > bottom) & (y < top))


def write(
    path: Path, grid: Grid, bands: NDArray[np.uint8], nodata: int = 255, **profile: Any
) -> MapSource:
    """A map of one band of classes, or of two of probabilities."""
    with rasterio.open(
        path, 'w', driver='GTiff', dtype='uint8', nodata=nodata, count=len(bands),
        width=grid.width, height=grid.height, crs=grid.crs, transform=grid.transform,
        **profile,
    ) as target:  # fmt: skip
        target.write(bands)
    return MapSource(
        path.stem, path, grid, 2, has_probabilities=len(bands) == 2, nodata=nodata
    )


def probabilities(path: Path, grid: Grid, field: Field = plane) -> MapSource:
    """A map of a field: its value is the probability of class 1."""
    share = np.rint(254 * field(*positions(grid)))
    return write(path, grid, np.stack([254 - share, share]).astype(np.uint8))


def finished(source: MapSource, classes: NDArray[np.uint8]) -> Finished:
    """Classes and confidence beside probabilities, as predict writes them."""
    files = Finished(
        source.path.with_suffix('.classes.tif'),
        source.path.with_suffix('.confidence.tif'),
    )
    write(files.classes, source.grid, classes[None])
    with rasterio.open(source.path) as stored:
        write(files.confidence, source.grid, stored.read().max(axis=0)[None])
    with rasterio.open(files.confidence, 'r+') as confidence:
        confidence.scales = (1 / 254,)
    return files


def certain(path: Path, grid: Grid, label: int, sure: int = 254) -> MapSource:
    """A map of one class everywhere."""
    bands = np.full((2, *grid.shape), 254 - sure, np.uint8)
    bands[label] = sure
    return write(path, grid, bands)


def two_zones(folder: Path, field: Field = plane) -> list[MapSource]:
    """One field, seen by scenes in two UTM zones."""
    return [
        probabilities(folder / 'west.tif', WEST, field),
        probabilities(folder / 'east.tif', EAST, field),
    ]


def assemble(
    sources: list[MapSource],
    target: Grid,
    feather: float = 160,
    size: int = 64,
    mode: Mode = blend,
    area: Polygon | MultiPolygon | None = None,
    **resources: Any,
) -> Block:
    """The whole mosaic; *feather* is in metres."""
    whole = Block.empty(Window(0, 0, target.width, target.height))
    written = np.zeros(target.shape, int)
    windows, means = block_windows(target, size), Resources(**resources)
    for block in mosaic_blocks(
        sources, target, mode, feather, windows=windows, area=area, resources=means
    ):
        place = block.window.toslices()
        written[place] += 1
        for name in ('classes', 'confidence', 'source', 'count', 'agreement'):
            getattr(whole, name)[place] = getattr(block, name)
    assert (written == 1).all()
    return whole


def share_of_one(mosaic: Block) -> NDArray[np.float32]:
    """Probability of class 1 of two."""
    return np.where(mosaic.classes == 1, mosaic.confidence, 1 - mosaic.confidence)
