"""Tests of eoseg.io.cog."""

import json
import shutil
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window

from eoseg.io import cog
from eoseg.io.areas import value_areas
from eoseg.io.cog import BLOCK, MapWriter, read_legend
from eoseg_datasets.classes import Legend
from eoseg_datasets.grid import Grid

with warnings.catch_warnings():
    # rio-cogeo brings libraries that warn when they are imported; not our concern.
    warnings.simplefilter('ignore')
    from rio_cogeo.cogeo import cog_validate

UTM33 = CRS.from_epsg(32633)
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_000_000)
LEGEND = Legend(('water', 'a <b> & "c"'), ('#0072b2', '#e69f00'))


def grid(height: int, width: int, transform: Affine = NORTH_UP) -> Grid:
    return Grid(UTM33, transform, width, height)


def classes(height: int, width: int) -> NDArray[np.uint8]:
    """Classes 0 and 1 with a nodata corner."""
    values = np.random.default_rng(0).integers(0, 2, (height, width)).astype(np.uint8)
    values[: height // 3, : width // 4] = 255
    return values


def write(path: Path, values: NDArray[Any], where: Grid, **options: Any) -> MapWriter:
    with MapWriter(path, where, **options) as writer:
        for row in range(0, where.height, 300):
            writer.write(values[..., row : row + 300, :], row)
    return writer


def read(path: Path) -> NDArray[Any]:
    with closing(rasterio.open(path)) as dataset:
        values: NDArray[Any] = dataset.read()
    return values


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ('height', 'width'), [(1, 1), (7, 5), (512, 512), (513, 511), (1100, 1300)]
)
def test_a_map_of_any_size_is_a_valid_cog_with_the_values_written(
    tmp_path: Path, height: int, width: int
) -> None:
    values = classes(height, width)
    write(tmp_path / 'map.tif', values, grid(height, width), legend=LEGEND)
    np.testing.assert_array_equal(read(tmp_path / 'map.tif')[0], values)
    is_valid, errors, warned = cog_validate(tmp_path / 'map.tif', strict=True)
    assert is_valid, (errors, warned)
    assert files(tmp_path) == ['map.tif', 'map.tif.aux.xml']


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(heights=st.lists(st.integers(0, 700), min_size=1, max_size=6))
def test_strips_of_any_height_give_the_same_map(
    tmp_path: Path, heights: list[int]
) -> None:
    height = sum(heights) + 1
    values = classes(height, 20)
    with MapWriter(tmp_path / 'map.tif', grid(height, 20)) as writer:
        row = 0
        for taken in [*heights, 1]:
            writer.write(values[row : row + taken], row)
            row += taken
    np.testing.assert_array_equal(read(tmp_path / 'map.tif')[0], values)
    assert writer.valid == np.count_nonzero(values != 255)
    assert writer.counts.tolist() == np.bincount(values.ravel(), minlength=256).tolist()


def test_blocks_in_any_order_give_the_same_map(tmp_path: Path) -> None:
    values = classes(1100, 1300)
    windows = [
        Window(col, row, min(BLOCK, 1300 - col), min(BLOCK, 1100 - row))
        for row in range(0, 1100, BLOCK)
        for col in range(0, 1300, BLOCK)
    ]
    np.random.default_rng(0).shuffle(windows)
    with MapWriter(tmp_path / 'map.tif', grid(1100, 1300)) as writer:
        for window in windows:
            writer.write_block(values[window.toslices()], window)
    np.testing.assert_array_equal(read(tmp_path / 'map.tif')[0], values)


@pytest.mark.parametrize(
    'transform',
    [
        Affine(10, 0, 500_000, 0, 10, 5_000_000),
        Affine(8, 5, 500_000, 5, -8, 5_000_000),
        Affine(0.1, 0, 1e6 / 3, 0, -0.3, 2e6 / 3),
    ],
    ids=['south-up', 'rotated', 'uneven'],
)
def test_crs_and_transform_survive(tmp_path: Path, transform: Affine) -> None:
    values = classes(40, 30)
    write(tmp_path / 'map.tif', values, grid(40, 30, transform))
    with closing(rasterio.open(tmp_path / 'map.tif')) as dataset:
        assert dataset.crs == UTM33
        assert dataset.transform.almost_equals(transform, 1e-9)
        np.testing.assert_array_equal(dataset.read(1), values)


def test_a_map_says_what_its_values_mean(tmp_path: Path) -> None:
    path = tmp_path / 'map.tif'
    write(path, classes(9, 9), grid(9, 9), legend=LEGEND, tags={'CHECKPOINT': 'x'})
    with closing(rasterio.open(path)) as dataset:
        assert dataset.nodata == 255
        assert dataset.descriptions == ('class',)
        assert dataset.colormap(1)[1] == (230, 159, 0, 255)
        assert dataset.colormap(1)[255][3] == 0
        tags = dataset.tags()
    assert tags['AREA_OR_POINT'] == 'Area'
    assert tags['CHECKPOINT'] == 'x'
    assert json.loads(tags['CLASSES']) == list(LEGEND.classes)
    assert read_legend(path) == LEGEND


def test_gdal_finds_the_names_of_the_classes(tmp_path: Path) -> None:
    write(tmp_path / 'map.tif', classes(9, 9), grid(9, 9), legend=LEGEND)
    # rasterio does not tell category names, but a VRT of the map lists them.
    rasterio.shutil.copy(tmp_path / 'map.tif', tmp_path / 'map.vrt', driver='VRT')
    found = ElementTree.parse(tmp_path / 'map.vrt').iterfind('.//Category')
    assert [category.text for category in found] == list(LEGEND.classes)


def test_overviews_of_classes_hold_the_most_frequent_class(tmp_path: Path) -> None:
    values = np.zeros((1024, 1024), np.uint8)
    values[::2, ::2] = 2
    write(tmp_path / 'map.tif', values, grid(1024, 1024))
    with closing(rasterio.open(tmp_path / 'map.tif')) as dataset:
        assert dataset.overviews(1) == [2]
        assert not dataset.read(1, out_shape=(512, 512)).any()


def test_probabilities_keep_names_scale_and_mean_overviews(tmp_path: Path) -> None:
    values = np.zeros((2, 1024, 1024), np.uint8)
    values[1, :, ::2] = 200
    path = tmp_path / 'probabilities.tif'
    names = ('water', 'forest')
    write(
        path, values, grid(1024, 1024), bands=names, scale=1 / 254, overviews='average'
    )
    with closing(rasterio.open(path)) as dataset:
        assert dataset.descriptions == names
        assert dataset.scales == (1 / 254, 1 / 254)
        np.testing.assert_array_equal(dataset.read(), values)
        assert np.all(dataset.read(2, out_shape=(512, 512)) == 100)
    assert read_legend(path) is None
    assert cog_validate(path, strict=True)[0]


def test_maps_of_numbers_with_nan_as_nodata_are_counted(tmp_path: Path) -> None:
    values = np.array([[0.5, np.nan], [-1, np.nan]], np.float32)
    writer = write(
        tmp_path / 'map.tif', values, grid(2, 2), dtype='float32', nodata=np.nan
    )
    assert writer.valid == 2
    np.testing.assert_array_equal(read(tmp_path / 'map.tif')[0], values)


def test_a_map_without_nodata_is_valid_everywhere(tmp_path: Path) -> None:
    writer = write(tmp_path / 'map.tif', classes(9, 9), grid(9, 9), nodata=None)
    assert writer.valid == 81
    with closing(rasterio.open(tmp_path / 'map.tif')) as dataset:
        assert dataset.nodata is None


def test_the_values_of_a_finished_map_can_be_counted(tmp_path: Path) -> None:
    writer = write(tmp_path / 'map.tif', classes(600, 700), grid(600, 700))
    assert writer.counts.sum() == 600 * 700
    counts, _ = value_areas(tmp_path / 'map.tif')
    np.testing.assert_array_equal(counts, writer.counts)


def test_an_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    values = classes(600, 700)
    with (
        pytest.raises(KeyboardInterrupt),
        MapWriter(tmp_path / 'map.tif', grid(600, 700), legend=LEGEND) as writer,
    ):
        writer.write(values[:512], 0)
        raise KeyboardInterrupt
    assert files(tmp_path) == []


def test_a_map_with_a_missing_row_does_not_appear(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r'2 of 4 blocks of map\.tif were not written'),
        MapWriter(tmp_path / 'map.tif', grid(600, 700)) as writer,
    ):
        writer.write(classes(599, 700), 0)
    assert files(tmp_path) == []


def test_a_failing_run_keeps_the_map_that_was_there(tmp_path: Path) -> None:
    write(tmp_path / 'map.tif', classes(9, 9), grid(9, 9), legend=LEGEND)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with (
        pytest.raises(ValueError, match='not written'),
        MapWriter(tmp_path / 'map.tif', grid(9, 9)),
    ):
        pass
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_map_without_a_legend_drops_the_class_names_of_the_one_before(
    tmp_path: Path,
) -> None:
    write(tmp_path / 'map.tif', classes(9, 9), grid(9, 9), legend=LEGEND)
    write(tmp_path / 'map.tif', classes(9, 9), grid(9, 9))
    assert files(tmp_path) == ['map.tif']


@pytest.mark.parametrize('changed', [0, 255], ids=['one pixel', 'all to nodata'])
def test_a_copy_that_reads_otherwise_than_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: int
) -> None:
    def bad_copy(tiled: Path, part: Path, **options: str) -> None:
        with closing(rasterio.open(tiled, 'r+')) as dataset:
            values = dataset.read(1)
            values[values == 1] = 255
            dataset.write(values if changed else np.flipud(values), 1)
        shutil.copy(tiled, part)

    monkeypatch.setattr(cog, 'copy', bad_copy)
    with pytest.raises(OSError, match='does not read as it was written'):
        write(tmp_path / 'map.tif', classes(9, 9), grid(9, 9))
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ('shape', 'row_off', 'dtype', 'message'),
    [
        ((4, 20), 4, 'uint8', 'expected row_off=0, got 4'),
        ((4, 19), 0, 'uint8', '4 rows of 19 pixels from row 0'),
        ((31, 20), 0, 'uint8', 'do not fit into a map of 30 rows of 20 pixels'),
        ((4, 20), 0, 'int64', 'values must be uint8, got int64'),
        ((2, 4, 20), 0, 'uint8', r'of shape \(1, h, w\), got \(2, 4, 20\)'),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    tmp_path: Path, shape: tuple[int, ...], row_off: int, dtype: str, message: str
) -> None:
    with (
        pytest.raises(ValueError, match=message),
        MapWriter(tmp_path / 'map.tif', grid(30, 20)) as writer,
    ):
        writer.write(np.zeros(shape, dtype), row_off)


@pytest.mark.parametrize(
    'window',
    [
        Window(0, 100, 512, 512),
        Window(0, 0, 512, 400),
        Window(512, 512, 512, 512),
        Window(0, 0, 0, 512),
    ],
    ids=['begins in a block', 'ends in a block', 'leaves the map', 'is empty'],
)
def test_a_window_that_cuts_blocks_is_refused(tmp_path: Path, window: Window) -> None:
    with (
        pytest.raises(ValueError, match='made of whole blocks of 512 x 512'),
        MapWriter(tmp_path / 'map.tif', grid(700, 700)) as writer,
    ):
        writer.write_block(np.zeros((window.height, window.width), np.uint8), window)


def test_a_block_is_not_written_twice(tmp_path: Path) -> None:
    block = np.zeros((9, 9), np.uint8)
    with (
        pytest.raises(ValueError, match='written already'),
        MapWriter(tmp_path / 'map.tif', grid(9, 9)) as writer,
    ):
        writer.write(block, 0)
        writer.write_block(block, Window(0, 0, 9, 9))


def test_a_colour_table_needs_one_uint8_band(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'got 2 band\(s\) of uint8'):
        MapWriter(tmp_path / 'map.tif', grid(9, 9), bands=('a', 'b'), legend=LEGEND)


@pytest.mark.parametrize(
    'name', ['a b.tif', 'a#b%20?c.tif', 'é:!.tif', '-a.tif', 'new\nline.tif']
)
def test_maps_can_have_any_file_name(tmp_path: Path, name: str) -> None:
    values = classes(9, 9)
    write(tmp_path / name, values, grid(9, 9), legend=LEGEND)
    assert files(tmp_path) == [name, f'{name}.aux.xml']
    np.testing.assert_array_equal(read(tmp_path / name)[0], values)


def test_a_map_can_be_written_by_another_thread_than_opened_it(tmp_path: Path) -> None:
    values = classes(600, 20)

    def work(writer: MapWriter) -> None:
        writer.write(values, 0)
        writer.__exit__(None, None, None)

    writer = MapWriter(tmp_path / 'map.tif', grid(600, 20)).__enter__()
    thread = threading.Thread(target=work, args=[writer])
    thread.start()
    thread.join()
    np.testing.assert_array_equal(read(tmp_path / 'map.tif')[0], values)


@pytest.fixture(scope='module')
def noise() -> Iterator[NDArray[np.uint8]]:
    yield np.random.default_rng(0).integers(0, 5, (1024, 1024)).astype(np.uint8)


def test_thin_strips_do_not_inflate_the_file(
    tmp_path: Path, noise: NDArray[np.uint8]
) -> None:
    with MapWriter(tmp_path / 'thin.tif', grid(1024, 1024)) as writer:
        for row in range(1024):
            writer.write(noise[row : row + 1], row)
        tiled = next(tmp_path.glob('.*.tiled'))
        thin = tiled.stat().st_size
    with MapWriter(tmp_path / 'whole.tif', grid(1024, 1024)) as writer:
        writer.write(noise, 0)
        whole = next(tmp_path.glob('.*.tiled')).stat().st_size
    assert thin == whole
    assert files(tmp_path) == ['thin.tif', 'whole.tif']
    assert (tmp_path / 'thin.tif').read_bytes() == (tmp_path / 'whole.tif').read_bytes()


@pytest.mark.parametrize('limit', [100_000, 300_000], ids=['first file', 'copy'])
def test_a_full_disk_is_an_error_and_leaves_nothing(
    tmp_path: Path, noise: NDArray[np.uint8], limit: int
) -> None:
    resource = pytest.importorskip('resource')
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with (
            pytest.raises(RasterioError),
            MapWriter(tmp_path / 'map.tif', grid(1024, 1024)) as writer,
        ):
            writer.write(noise, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(tmp_path) == []
