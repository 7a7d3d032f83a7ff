"""An area of interest lies where it lies, whatever the grid."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from earth import positions
from pyproj import Geod
from rasterio.crs import CRS
from rasterio.windows import Window
from shapely import MultiPolygon, Point, Polygon, box

from eoseg.inference.area import Area
from eoseg_datasets.grid import Grid

UTM32 = CRS.from_epsg(32632)
DEGREES = CRS.from_epsg(4326)
GRID = Grid(UTM32, Affine(10, 0, 600_000, 0, -10, 5_300_000), 100, 80)


def area_of(shape: Polygon, crs: CRS = UTM32) -> Area:
    return Area(Path('area.gpkg'), MultiPolygon([shape]), crs)


def test_a_pixel_belongs_to_the_area_if_its_centre_does() -> None:
    clip = area_of(box(600_014, 5_299_940, 600_036, 5_299_984)).on(GRID)
    assert clip is not None
    rows, cols = np.nonzero(clip.mask(Window(0, 0, 10, 10)))
    assert set(rows.tolist()) == {2, 3, 4, 5}
    assert set(cols.tolist()) == {1, 2, 3}
    assert not clip.mask(Window(20, 20, 5, 5)).any()


def test_a_window_touches_the_area_also_a_pixel_beside_it() -> None:
    clip = area_of(box(600_200, 5_299_500, 600_300, 5_299_600)).on(GRID)
    assert clip is not None
    touched = {col for col in range(0, 100, 5) if clip.touches(Window(col, 40, 5, 5))}
    assert touched == {15, 20, 25, 30}
    assert not clip.touches(Window(20, 10, 5, 5))


@pytest.mark.parametrize('block', [16, 64, 512])
def test_blocks_around_the_area_hold_it_and_end_with_the_raster(block: int) -> None:
    clip = area_of(box(600_330, 5_299_000, 600_700, 5_299_650)).on(GRID)
    assert clip is not None
    left, top, width, height = clip.window(block).flatten()
    assert left == 33 // block * block
    assert top == 35 // block * block
    assert left + width == min(-(-70 // block) * block, 100)
    assert top + height == 80


#: Grids on which a circle around a place lies, and that place.
PLACES = {
    'utm': (GRID, (10.345, 47.84)),
    'degrees': (
        Grid(DEGREES, Affine(1e-4, 0, 10.34, 0, -1e-4, 47.845), 100, 80),
        (10.345, 47.841),
    ),
    'rotated': (
        Grid(UTM32, GRID.transform @ Affine.rotation(33), 100, 80),
        (10.345, 47.84),
    ),
    'south-up': (
        Grid(UTM32, Affine(10, 0, 600_000, 0, 10, 5_299_200), 100, 80),
        (10.345, 47.84),
    ),
    'mercator over the antimeridian': (
        Grid(CRS.from_epsg(3857), Affine(10, 0, 20_037_008, 0, -10, 300), 100, 60),
        (180, 0),
    ),
    'utm over the antimeridian': (
        Grid(CRS.from_epsg(32660), Affine(10, 0, 833_500, 0, -10, 300), 100, 60),
        (180, 0),
    ),
    'pole': (
        Grid(CRS.from_epsg(3031), Affine(10, 0, -400, 0, -10, 400), 80, 80),
        (0, -90),
    ),
}


@pytest.mark.parametrize(
    ('place', 'epsg'),
    [(place, None) for place in PLACES]
    # Where a circle is one ring in degrees and on the web, too.
    + [(place, epsg) for place in list(PLACES)[:4] for epsg in (4326, 3857)],
)
def test_a_circle_is_where_the_distance_is_less_than_its_radius(
    place: str, epsg: int | None
) -> None:
    grid, (lon, lat) = PLACES[place]
    around = CRS.from_proj4(f'+proj=aeqd +lat_0={lat} +lon_0={lon}')
    frame = gpd.GeoSeries([Point(0, 0).buffer(200, 64)], crs=around)
    frame = frame.to_crs(epsg) if epsg else frame
    clip = area_of(frame[0], CRS.from_wkt(frame.crs.to_wkt())).on(grid)
    assert clip is not None
    mask = clip.mask(Window(0, 0, grid.width, grid.height))
    x, y = positions(grid)
    _, _, metres = Geod(ellps='WGS84').inv(
        np.full_like(x, lon), np.full_like(y, lat), x, y
    )
    assert mask[metres < 199].all()
    assert not mask[metres > 201].any()
    assert (metres < 199).sum() > 1000


def test_polygons_beyond_180_degrees_lie_on_the_other_side() -> None:
    grid = Grid(DEGREES, Affine(0.01, 0, -180, 0, -0.01, 10), 50, 50)
    clip = area_of(box(179.9, 9.6, 180.1, 9.9), DEGREES).on(grid)
    assert clip is not None
    np.testing.assert_allclose(clip.shape.bounds, (-180, 9.6, -179.9, 9.9))


def test_an_area_elsewhere_does_not_meet_the_raster() -> None:
    beside = box(601_000, 5_299_000, 602_000, 5_300_000)  # shares a side
    assert area_of(beside).on(GRID) is None
    antipode = Point(-170, -48).buffer(1)
    assert area_of(antipode, DEGREES).on(GRID) is None
    assert area_of(beside).on(Grid(DEGREES, Affine(1, 0, -170, 0, -1, 0), 9, 9)) is None


def test_half_the_earth_holds_a_scene_in_a_zone() -> None:
    """Most of it lies where the zone is not defined."""
    clip = area_of(box(-180, 0, 180, 90), DEGREES).on(GRID)
    assert clip is not None
    assert clip.mask(Window(0, 0, 100, 80)).all()


def test_edges_of_a_large_area_are_straight_in_its_own_crs() -> None:
    """The parallel of 47.84 degrees bends by two pixels within the scene."""
    wide = Grid(UTM32, Affine(100, 0, 550_000, 0, -100, 5_320_000), 900, 400)
    clip = area_of(box(-180, 0, 180, 47.84), DEGREES).on(wide)
    assert clip is not None
    mask = clip.mask(Window(0, 0, 900, 400))
    _, lat = positions(wide)
    assert mask[lat < 47.8399].all()
    assert not mask[lat > 47.8401].any()


def test_areas_are_told_apart() -> None:
    shape = box(0, 0, 1, 1)
    assert area_of(shape).digest == area_of(box(0, 0, 1, 1)).digest
    assert area_of(shape).digest != area_of(shape, DEGREES).digest
    assert area_of(shape).digest != area_of(box(0, 0, 1, 2)).digest
