"""Areas are those on the ellipsoid, whatever the projection says."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod
from rasterio.crs import CRS
from tiny import WriteRaster

from eoseg.io.areas import cell_areas, value_areas
from eoseg_datasets.grid import Grid

GEOD = Geod(ellps='WGS84')


@given(
    lat=st.floats(-80, 80),
    lon=st.floats(-179.9, 179.9),
    step=st.sampled_from([1e-4, 1e-3, 1e-2]),
)
@settings(deadline=None, max_examples=30)
def test_degrees_are_as_large_as_the_ellipsoid_says(
    lat: float, lon: float, step: float
) -> None:
    grid = Grid(CRS.from_epsg(4326), Affine(step, 0, lon, 0, -step, lat), 100, 70)
    cells = cell_areas(grid)
    assert cells is not None
    assert cells.shape == (2, 2)
    sides = np.array([64, 6])[:, None] * np.array([64, 36])
    west, east, north, south = lon, lon + 100 * step, lat, lat - 70 * step
    x = np.concatenate([np.linspace(west, east, 200), np.linspace(east, west, 200)])
    y = np.repeat([north, south], 200)
    true = abs(GEOD.polygon_area_perimeter(x, y)[0]) / 10_000
    assert (cells * sides).sum() == pytest.approx(true, rel=1e-3)


def test_web_mercator_is_four_times_too_large_at_60_degrees(
    write_raster: WriteRaster,
) -> None:
    values = np.zeros((100, 90), np.uint8)
    values[:50] = 2
    values[:, :9] = 255
    place = Affine(10, 0, 1e6, 0, -10, 8_399_738)
    path = write_raster('map.tif', values, crs='EPSG:3857', transform=place, nodata=255)
    counts, hectares = value_areas(path)
    assert hectares is not None
    assert counts[[0, 2, 255]].tolist() == [4050, 4050, 900]
    assert hectares[2] == pytest.approx(4050 * 0.01 / 4, rel=0.01)
    assert hectares.sum() == pytest.approx(9000 * 0.01 / 4, rel=0.01)


def test_a_map_of_utm_has_the_area_it_says_within_a_thousandth(
    write_raster: WriteRaster,
) -> None:
    path = write_raster('map.tif', np.ones((600, 700), np.uint8))
    counts, hectares = value_areas(path)
    assert hectares is not None
    assert counts[1] == 420_000
    assert hectares[1] == pytest.approx(4200, rel=1e-3)


def test_what_lies_nowhere_has_no_area(tmp_path: Path) -> None:
    local = CRS.from_wkt('LOCAL_CS["nowhere",UNIT["metre",1]]')
    assert cell_areas(Grid(local, Affine.scale(1), 5, 5)) is None
