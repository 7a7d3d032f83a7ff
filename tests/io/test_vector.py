"""Tests of eoseg.io.vector."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.features import rasterize

from eoseg.io import vector
from eoseg.io.cog import MapWriter
from eoseg.io.vector import polygons, write_polygons
from eoseg_datasets.classes import Legend
from eoseg_datasets.grid import Grid

LEGEND = Legend.of(['water', 'forest'])
rasters = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.sampled_from([0, 1, 2, 255]),
)


def write_map(
    path: Path, values: Any, crs: CRS | None = None, transform: Affine | None = None
) -> Path:
    array = np.asarray(values, np.uint8)
    height, width = array.shape
    where = Grid(
        CRS.from_epsg(32633) if crs is None else crs,
        transform or Affine(10, 0, 5e5, 0, -10, 5e6),
        width,
        height,
    )
    with MapWriter(path, where) as writer:
        writer.write(array, 0)
    return path


@given(raster=rasters, height=st.integers(1, 12))
@settings(deadline=None, max_examples=50)
def test_polygons_are_the_same_whatever_the_strips(
    raster: NDArray[np.uint8], height: int
) -> None:
    strips = [raster[row : row + height] for row in range(0, len(raster), height)]
    whole = list(polygons([raster], 255))
    found = list(polygons(strips, 255))
    assert len(found) == len(whole)
    for value, polygon in found:
        assert polygon.is_valid
        assert polygon.geom_type == 'Polygon'
        assert any(value == v and polygon.equals(p) for v, p in whole)


@given(raster=rasters)
@settings(deadline=None, max_examples=50)
def test_polygons_drawn_again_give_the_raster(raster: NDArray[np.uint8]) -> None:
    strips = [raster[row : row + 2] for row in range(0, len(raster), 2)]
    drawn = [(polygon, value) for value, polygon in polygons(strips, 255)]
    if drawn:
        again = rasterize(drawn, raster.shape, fill=255, dtype='uint8')
        np.testing.assert_array_equal(again, raster)
    else:
        assert (raster == 255).all()


def test_straight_edges_have_no_corners_where_strips_meet() -> None:
    square = np.zeros((6, 4), np.uint8)
    (_, polygon), *others = polygons([square[:2], square[2:4], square[4:]], 255)
    assert not others
    assert len(polygon.exterior.coords) == 5


def test_polygons_have_value_class_and_area(tmp_path: Path) -> None:
    path = write_map(tmp_path / 'map.tif', [[0, 0, 255], [0, 1, 9]])
    count = write_polygons(path, tmp_path / 'map.gpkg', LEGEND)
    layer = geopandas.read_file(tmp_path / 'map.gpkg', layer='polygons')
    assert count == len(layer) == 3
    assert layer.crs.to_epsg() == 32633
    by_value = layer.set_index('value').sort_index()
    assert by_value['class'].tolist() == ['water', 'forest', '9']
    # The scale of UTM is 0.9996 here, on the central meridian.
    np.testing.assert_allclose(
        by_value['area_ha'], np.array([0.03, 0.01, 0.01]) / 0.9996**2, rtol=1e-5
    )
    np.testing.assert_allclose(by_value.area, [300, 100, 100])
    assert by_value.loc[0].geometry.bounds == (500_000, 4_999_980, 500_020, 5_000_000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['map.gpkg', 'map.tif']


def test_areas_are_true_in_degrees_and_web_mercator(tmp_path: Path) -> None:
    # One degree from 60 to 61 N, by the integral over the ellipsoid of WGS 84.
    degree = write_map(
        tmp_path / 'degree.tif',
        np.zeros((100, 100)),
        CRS.from_epsg(4326),
        Affine(0.01, 0, 15, 0, -0.01, 61),
    )
    a, e2 = 6_378_137.0, 0.00669437999014
    top, bottom = (a * np.arctanh(np.sin(np.radians(lat))) for lat in (61, 60))
    mercator = write_map(
        tmp_path / 'mercator.tif',
        np.zeros((100, 100)),
        CRS.from_epsg(3857),
        Affine(a * np.radians(0.01), 0, 0, 0, (bottom - top) / 100, top),
    )
    areas = []
    for path in (degree, mercator):
        write_polygons(path, tmp_path / 'map.gpkg', LEGEND)
        areas.append(geopandas.read_file(tmp_path / 'map.gpkg')['area_ha'].sum())
    lat = np.radians(np.linspace(60, 61, 10_001))
    radii = a**2 * (1 - e2) * np.cos(lat) / (1 - e2 * np.sin(lat) ** 2) ** 2
    expected = np.radians(1) * np.trapezoid(radii, lat) / 10_000
    np.testing.assert_allclose(areas, expected, rtol=1e-5)


@pytest.mark.parametrize(
    'transform',
    [Affine(10, 0, 5e5, 0, 10, 5e6), Affine(8, 6, 5e5, 6, -8, 5e6)],
    ids=['south-up', 'rotated'],
)
def test_polygons_lie_where_the_map_lies(tmp_path: Path, transform: Affine) -> None:
    path = write_map(tmp_path / 'map.tif', [[255, 0]], transform=transform)
    write_polygons(path, tmp_path / 'map.gpkg', LEGEND)
    (polygon,) = geopandas.read_file(tmp_path / 'map.gpkg').geometry
    x, y = transform @ (1.5, 0.5)
    assert (polygon.centroid.x, polygon.centroid.y) == pytest.approx((x, y))
    assert polygon.area == pytest.approx(100)


def test_a_polygon_can_have_holes_and_its_area_is_without_them(tmp_path: Path) -> None:
    values = np.zeros((5, 5))
    values[1:4, 1:4] = 1
    path = write_map(tmp_path / 'map.tif', values)
    write_polygons(path, tmp_path / 'map.gpkg', LEGEND)
    layer = geopandas.read_file(tmp_path / 'map.gpkg').set_index('value')
    assert layer.loc[0, 'area_ha'] == pytest.approx(0.16, rel=1e-3)


def test_small_polygons_are_left_out_also_across_strips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector, '_STRIP', 1)
    path = write_map(tmp_path / 'map.tif', [[0, 1], [0, 255], [0, 1]])
    assert write_polygons(path, tmp_path / 'map.gpkg', LEGEND, min_area_px=3) == 1
    assert geopandas.read_file(tmp_path / 'map.gpkg')['class'].tolist() == ['water']


def test_many_polygons_are_written_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector, '_BATCH', 3)
    path = write_map(tmp_path / 'map.tif', [[0, 1, 0, 1, 0, 1, 0]])
    assert write_polygons(path, tmp_path / 'map.gpkg', LEGEND) == 7
    assert len(geopandas.read_file(tmp_path / 'map.gpkg')) == 7


def test_a_map_without_classes_gives_an_empty_layer(tmp_path: Path) -> None:
    path = write_map(tmp_path / 'map.tif', [[255, 255]])
    assert write_polygons(path, tmp_path / 'map.gpkg', LEGEND) == 0
    layer = geopandas.read_file(tmp_path / 'map.gpkg')
    assert list(layer.columns) == ['value', 'class', 'area_ha', 'geometry']
    assert len(layer) == 0


def test_a_map_that_lies_nowhere_has_areas_only_if_it_has_metres(
    tmp_path: Path,
) -> None:
    chips = CRS.from_wkt('LOCAL_CS["chips",UNIT["metre",1]]')
    areas = []
    for crs in (chips, CRS()):
        path = write_map(tmp_path / 'map.tif', [[0]], crs)
        write_polygons(path, tmp_path / 'map.gpkg', LEGEND)
        areas += geopandas.read_file(tmp_path / 'map.gpkg')['area_ha'].tolist()
    np.testing.assert_allclose(areas, [0.01, np.nan])


def test_a_broken_map_leaves_the_polygons_that_were_there(tmp_path: Path) -> None:
    path = write_map(
        tmp_path / 'map.tif', np.random.default_rng(0).integers(0, 2, (600, 600))
    )
    gpkg = tmp_path / 'map.gpkg'
    gpkg.write_text('old')
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(RasterioError):
        write_polygons(path, gpkg, LEGEND)
    assert gpkg.read_text() == 'old'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['map.gpkg', 'map.tif']
