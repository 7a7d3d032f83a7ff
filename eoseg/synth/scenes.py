"""Files of a generated country: scenes with labels, scenes to map, and the truth."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.io import DatasetWriter

from eoseg_datasets.grid import Grid

from .atmosphere import make_atmosphere, sun_at
from .render import CLASSES, COLORS, NODATA, Acquisition, positions, render
from .world import BANDS, make_world


@dataclass(frozen=True)
class SyntheticScenes:
    """Where the files are."""

    #: Folder with images, labels and classes.csv.
    train: Path
    #: Folder with scenes to map.
    scenes: Path
    #: Folder with a raster of the same stem for every scene: what a perfect map says.
    truth: Path


@dataclass(frozen=True)
class _Site:
    """A piece of country."""

    lon: float
    lat: float
    #: Height and width in nodes 10 m apart.
    shape: tuple[int, int]


@dataclass(frozen=True)
class _Shot:
    """What is decided about a scene; the rest is left to chance."""

    name: str
    epsg: int
    #: Metres from the centre of the site to the east and to the north.
    centre: tuple[float, float]
    #: Height and width in pixels.
    shape: tuple[int, int]
    date: str
    #: Fraction under clouds.
    clouds: float
    #: Side of a pixel in metres.
    res: float = 10
    #: As in Acquisition.
    edge: tuple[float, float] = (0, math.inf)

    @property
    def when(self) -> datetime:
        """The time, in UTC, at which Sentinel-2 passes over."""
        return datetime.fromisoformat(f'{self.date} 10:08')

    @property
    def stem(self) -> str:
        """Name of the files."""
        return f'{self.name}_{self.date}'


#: On the border of two UTM zones.
_TARGET = _Site(lon=12.0, lat=46.0, shape=(1155, 1300))
_SCENES = (
    _Shot('west', 32632, (-2300, -100), (781, 743), '2023-06-02', 0.13, 10, (100, 500)),
    _Shot('east', 32633, (2400, 900), (727, 769), '2023-08-14', 0.10, 10, (100, 5200)),
    _Shot(
        'south', 32632, (350, -1500), (653, 661), '2023-09-21', 0.02, 12, (280, 2900)
    ),
)

#: Elsewhere in the same kind of country.
_SOURCE = _Site(lon=11.4, lat=46.2, shape=(880, 1300))
_TRAIN = (
    _Shot('train', 32632, (-4400, 2150), (384, 384), '2023-05-09', 0.12),
    _Shot('train', 32632, (-100, 2300), (384, 400), '2023-06-18', 0.16),
    _Shot('train', 32632, (4300, 2200), (392, 384), '2023-07-05', 0.09),
    _Shot('train', 32632, (-4300, -2250), (384, 384), '2023-07-20', 0.02),
    _Shot('train', 32632, (100, -2300), (384, 384), '2023-08-26', 0.12),
    _Shot('train', 32632, (4400, -2200), (376, 384), '2023-09-18', 0.08),
)


def write_scenes(folder: Path, seed: int = 0) -> SyntheticScenes:
    """Write generated scenes with known truth.

    The scenes to map overlap, lie in two UTM zones and on grids that do not match; the
    labelled ones are from elsewhere in the same kind of country::

        folder/
        ├── train/
        │   ├── classes.csv
        │   ├── images/*.tif
        │   └── labels/*.tif
        ├── scenes/*.tif
        └── truth/*.tif

    Images hold reflectance x 10000 in the bands B2, B3, B4 and B8, and 0 where there is
    no data. Labels and truth hold the index of a class, and 255 there.

    Args:
        folder: Made if it does not exist. Files of the same names are replaced.
        seed: The same seed gives the same files.

    Raises:
        ValueError: If *seed* is negative.
    """
    if seed < 0:
        raise ValueError(f'seed must be 0 or greater, got {seed}')
    files = SyntheticScenes(folder / 'train', folder / 'scenes', folder / 'truth')
    _write_site(
        _SOURCE, _TRAIN, (seed, 0), files.train / 'images', files.train / 'labels'
    )
    _write_site(_TARGET, _SCENES, (seed, 1), files.scenes, files.truth)
    _write_classes(files.train / 'classes.csv')
    return files


def _write_site(
    site: _Site,
    shots: Sequence[_Shot],
    seed: tuple[int, int],
    images: Path,
    truths: Path,
) -> None:
    world = make_world(site.lon, site.lat, site.shape, np.random.default_rng(seed))
    # From 1: to a seed sequence (seed, 0) is the same as (seed, 0, 0).
    for number, shot in enumerate(shots, 1):
        grid = _grid(shot, world.grid.crs)
        rng = np.random.default_rng((*seed, number))
        acquisition = _acquire(shot, site, grid, world.grid.crs, rng)
        image, truth = render(world, acquisition, grid)
        _write_image(images / f'{shot.stem}.tif', image, grid, shot.when)
        _write_truth(truths / f'{shot.stem}.tif', truth, grid)


def _grid(shot: _Shot, world: CRS) -> Grid:
    """Whole metres, so that the grids of two scenes do not match but by chance."""
    crs = CRS.from_epsg(shot.epsg)
    transformer = Transformer.from_crs(world.to_wkt(), crs.to_wkt(), always_xy=True)
    x, y = transformer.transform(*shot.centre)
    height, width = shot.shape
    left, top = round(x - width / 2 * shot.res), round(y + height / 2 * shot.res)
    return Grid(crs, Affine(shot.res, 0, left, 0, -shot.res, top), width, height)


def _acquire(
    shot: _Shot, site: _Site, grid: Grid, world: CRS, rng: np.random.Generator
) -> Acquisition:
    x, y = positions(grid, world)
    bounds = float(x.min()), float(y.min()), float(x.max()), float(y.max())
    return Acquisition(
        sun=sun_at(shot.when, site.lon, site.lat),
        atmosphere=make_atmosphere(world, bounds, shot.clouds, rng),
        gain=tuple(rng.normal(1, 0.02, len(BANDS)).tolist()),
        noise=rng.uniform(0.0015, 0.003),
        seed=int(rng.integers(2**32)),
        edge=shot.edge,
    )


def _write_image(
    path: Path, image: NDArray[np.uint16], grid: Grid, when: datetime
) -> None:
    with _create(path, grid, count=len(BANDS), dtype='uint16', nodata=0) as file:
        file.write(image)
        file.descriptions = BANDS
        file.update_tags(TIFFTAG_DATETIME=f'{when:%Y:%m:%d %H:%M:%S}')


def _write_truth(path: Path, truth: NDArray[np.uint8], grid: Grid) -> None:
    with _create(path, grid, count=1, dtype='uint8', nodata=NODATA) as file:
        file.write(truth, 1)
        file.write_colormap(1, {i: _rgb(color) for i, color in enumerate(COLORS)})


def _create(path: Path, grid: Grid, **options: Any) -> DatasetWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    return rasterio.open(
        path,
        'w',
        driver='GTiff',
        crs=grid.crs,
        transform=grid.transform,
        width=grid.width,
        height=grid.height,
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress='deflate',
        predictor=2,
        **options,
    )


def _write_classes(path: Path) -> None:
    with path.open('w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['value', 'name', 'color'])
        writer.writerows(zip(range(len(CLASSES)), CLASSES, COLORS, strict=True))


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color.removeprefix('#'))
    return red, green, blue
