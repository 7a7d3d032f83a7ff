"""Footprints lie where the raster lies, on one map of the Earth."""

import pytest
from affine import Affine
from rasterio.crs import CRS
from shapely import MultiPolygon, Point, Polygon

from eoseg_datasets.footprint import footprint
from eoseg_datasets.grid import Grid


def grid(code: int, transform: Affine, width: int = 30, height: int = 20) -> Grid:
    return Grid(CRS.from_epsg(code), transform, width, height)


def test_a_footprint_follows_curved_edges() -> None:
    # The upper edge of a wide UTM raster bends by more than a tenth of a degree.
    wide = grid(32633, Affine(1000, 0, 200_000, 0, -1000, 7_000_000), 600, 400)
    shape = footprint(wide)
    assert isinstance(shape, Polygon)
    assert shape.is_valid
    assert shape.covers(Point(15, 63.12))
    left, right = shape.exterior.coords[0], shape.exterior.coords[16]
    assert max(left[1], right[1]) < 63.05


@pytest.mark.parametrize(
    'where',
    [
        pytest.param(grid(4326, Affine(1, 0, 170, 0, -1, 20)), id='beyond 180'),
        pytest.param(grid(4326, Affine(1, 0, -190, 0, -1, 20)), id='before -180'),
        pytest.param(
            grid(3832, Affine(111_319.49, 0, 2_226_389.8, 0, -111_319.49, 2_258_423)),
            id='Pacific',
        ),
    ],
)
def test_a_footprint_is_cut_at_the_antimeridian(where: Grid) -> None:
    shape = footprint(where)
    assert isinstance(shape, MultiPolygon)
    west, east = sorted(part.bounds[::2] for part in shape.geoms)
    assert west == pytest.approx((-180, -160), abs=0.01)
    assert east == pytest.approx((170, 180), abs=0.01)


@pytest.mark.parametrize(('code', 'pole'), [(3413, 90), (3031, -90)])
def test_a_footprint_round_a_pole_holds_it(code: int, pole: int) -> None:
    shape = footprint(grid(code, Affine(1e5, 0, -1e6, 0, -1e5, 1e6), 20, 20))
    assert shape is not None
    assert shape.is_valid
    for longitude in range(-180, 181, 15):
        assert shape.covers(Point(longitude, pole * 0.95))
        assert not shape.covers(Point(longitude, pole * 0.7))


def test_what_lies_nowhere_has_no_footprint() -> None:
    local = CRS.from_wkt('LOCAL_CS["Nowhere",UNIT["metre",1]]')
    for crs in (None, local):
        assert footprint(Grid(crs, Affine.identity(), 4, 4)) is None


def test_neighbours_meet_on_their_edges_but_not_inside_them() -> None:
    left = grid(32632, Affine(10, 0, 600_000, 0, -10, 5_300_000))
    right = grid(32632, Affine(10, 0, 600_300, 0, -10, 5_300_000))
    for inset, meet in ((0, True), (0.5, False)):
        one, other = footprint(left, inset), footprint(right, inset)
        assert one is not None
        assert other is not None
        assert (one.distance(other) < 1e-9) is meet
