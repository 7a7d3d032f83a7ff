"""Labels come as rasters or polygons and leave as classes on the grid of a scene."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from rasterio.windows import Window
from shapely import box
from tiny import WriteRaster, ramp

from eoseg_datasets import SceneFolder, ScenePatch
from eoseg_datasets.classes import Classes
from eoseg_datasets.labels import (
    ColorLabels,
    RasterLabels,
    find_classes,
    is_label,
    open_labels,
    read_polygons,
)
from eoseg_datasets.scene import open_scene

WHOLE = Window(0, 0, 6, 5)


def square(
    path: Path, crs: str = 'EPSG:32632', **columns: list[str] | list[int]
) -> Path:
    """The 3 x 2 pixels from column 1 and row 2 on, of the grid of write_raster."""
    shape = box(600_010, 5_299_960, 600_040, 5_299_980)
    frame = gpd.GeoDataFrame(columns, geometry=[shape], crs='EPSG:32632').to_crs(crs)
    frame.to_file(path)
    return path


def expected() -> np.ndarray:
    mask = np.zeros((5, 6), np.uint8)
    mask[2:4, 1:4] = 1
    return mask


def test_values_become_classes_and_255_is_no_label(write_raster: WriteRaster) -> None:
    stored = np.array([[1, 4, 7], [255, 4, 255]], np.uint8)
    path = write_raster('mask.tif', stored)
    labels = open_labels(path, Classes.named(['a', 'b', 'c'], [1, 4, 7]))
    grid = open_scene(path).grid
    assert labels.read(grid, Window(0, 0, 3, 2)).tolist() == [[0, 1, 2], [255, 1, 255]]


def test_a_value_of_no_class_is_refused_by_name(write_raster: WriteRaster) -> None:
    path = write_raster('mask.tif', np.array([[1, 4, 9]], np.uint8))
    labels = open_labels(path, Classes.named(['a', 'b'], [1, 4]))
    with pytest.raises(ValueError, match=r'mask.tif has the value 9.*1, 4, 255'):
        labels.read(open_scene(path).grid, Window(0, 0, 3, 1))


def test_several_values_may_be_one_class(write_raster: WriteRaster) -> None:
    path = write_raster('mask.tif', np.array([[0, 64, 128, 192]], np.uint8))
    meaning = {0: 255, 64: 0, 128: 0, 192: 1}
    labels = RasterLabels(path, Classes.named(['clear', 'cloud']), meaning)
    read = labels.read(open_scene(path).grid, Window(0, 0, 4, 1))
    assert read.tolist() == [[255, 0, 0, 1]]


def test_colours_become_classes(write_raster: WriteRaster) -> None:
    picture = np.array([[[255, 0, 0]], [[255, 0, 255]], [[255, 0, 0]]], np.uint8)
    path = write_raster('mask.tif', picture)
    meaning = {(255, 255, 255): 0, (0, 255, 0): 1, (0, 0, 0): 255}
    labels = ColorLabels(path, Classes.named(['road', 'tree']), meaning)
    grid = open_scene(path).grid
    with pytest.raises(ValueError, match='of no class'):
        ColorLabels(path, labels.classes, {(9, 9, 9): 0}).read(grid, Window(0, 0, 3, 1))
    assert labels.read(grid, Window(0, 0, 3, 1)).tolist() == [[0, 255, 1]]


def test_nodata_of_a_label_is_no_label(write_raster: WriteRaster) -> None:
    path = write_raster('mask.tif', np.array([[0, 1, 2]], np.uint8), nodata=0)
    classes = find_classes([path])
    assert classes.values == (1, 2)
    labels = open_labels(path, classes)
    assert labels.read(open_scene(path).grid, Window(0, 0, 3, 1)).tolist() == [
        [255, 0, 1]
    ]


@pytest.mark.parametrize(
    'values, expected_values, names',
    [
        ([0, 1], (0, 1), ('background', 'foreground')),
        ([0, 255], (0, 255), ('background', 'foreground')),
        ([0, 1, 255], (0, 1), ('background', 'foreground')),
        ([0, 64, 128, 255], (0, 64, 128), ('class 0', 'class 64', 'class 128')),
    ],
)
def test_classes_are_those_that_occur(
    write_raster: WriteRaster,
    values: list[int],
    expected_values: tuple[int, ...],
    names: tuple[str, ...],
) -> None:
    classes = find_classes([write_raster('m.tif', np.array([values], np.uint8))])
    assert (classes.values, classes.names) == (expected_values, names)


def test_one_value_is_no_classification(write_raster: WriteRaster) -> None:
    with pytest.raises(ValueError, match='1 different values'):
        find_classes([write_raster('m.tif', np.zeros((2, 2), np.uint8))])


def test_fractions_are_no_labels(write_raster: WriteRaster) -> None:
    with pytest.raises(ValueError, match=r'float32; labels are whole numbers'):
        find_classes([write_raster('m.tif', np.zeros((2, 2), np.float32))])


@pytest.mark.parametrize('crs', ['EPSG:32632', 'EPSG:4326', 'EPSG:3035'])
def test_polygons_of_any_crs_fall_on_the_right_pixels(
    tmp_path: Path, write_raster: WriteRaster, crs: str
) -> None:
    grid = open_scene(write_raster('a.tif', ramp(1, 5, 6))).grid
    path = square(tmp_path / 'field.gpkg', crs)
    classes = find_classes([path])
    assert classes.names == ('background', 'field')
    np.testing.assert_array_equal(
        open_labels(path, classes).read(grid, WHOLE), expected()
    )


def test_a_window_of_polygons_is_a_window_of_the_whole(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    grid = open_scene(write_raster('a.tif', ramp(1, 5, 6))).grid
    labels = open_labels(square(tmp_path / 'x.gpkg'), Classes.named(['no', 'yes']))
    window = Window(2, 1, 3, 3)
    np.testing.assert_array_equal(labels.read(grid, window), expected()[1:4, 2:5])


def test_a_class_column_names_the_classes(tmp_path: Path) -> None:
    path = square(tmp_path / 'x.gpkg', Class=['ice'])
    assert find_classes([path]).names == ('background', 'ice')
    with pytest.raises(ValueError, match="no column 'kind'; they have Class"):
        find_classes([path], 'kind')


def test_labels_on_another_grid_are_warped_to_the_nearest(
    write_raster: WriteRaster,
) -> None:
    grid = open_scene(write_raster('a.tif', ramp(1, 4, 4))).grid
    coarse = Affine(20, 0, 600_000, 0, -20, 5_300_000)
    path = write_raster('m.tif', np.array([[0, 1], [1, 0]], np.uint8), transform=coarse)
    labels = open_labels(path, Classes.named(['no', 'yes'])).read(
        grid, Window(0, 0, 4, 4)
    )
    assert labels.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_a_label_that_lies_nowhere_must_have_the_size_of_its_scene(
    write_raster: WriteRaster,
) -> None:
    grid = open_scene(write_raster('a.tif', ramp(1, 5, 6))).grid
    nowhere = {'crs': None, 'transform': Affine.identity()}
    same = write_raster('same.tif', expected(), **nowhere)
    classes = Classes.named(['no', 'yes'])
    np.testing.assert_array_equal(
        open_labels(same, classes).read(grid, WHOLE), expected()
    )
    other = write_raster('other.tif', np.zeros((4, 4), np.uint8), **nowhere)
    with pytest.raises(
        ValueError, match='4 x 4 pixels, the scene has 6 x 5, and it has no CRS'
    ):
        open_labels(other, classes).read(grid, WHOLE)


def test_a_table_names_classes_and_colours(tmp_path: Path) -> None:
    path = tmp_path / 'classes.csv'
    path.write_text('value,name,color\n3,forest,#1a7d3c\n7,water,\n')
    classes = Classes.from_csv(path)
    assert classes.values == (3, 7)
    assert classes.names == ('forest', 'water')
    assert classes.legend.colors[0] == '#1a7d3c'
    assert classes.legend.colors[1].startswith('#')


@pytest.mark.parametrize(
    'text', ['name\nforest\n', 'value,name\nx,y\n', 'value,name\n']
)
def test_a_table_that_cannot_be_read_says_what_it_needs(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / 'classes.csv'
    path.write_text(text)
    with pytest.raises(ValueError, match=r'classes\.csv'):
        Classes.from_csv(path)


def test_later_polygons_cover_earlier_ones(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    grid = open_scene(write_raster('a.tif', ramp(1, 5, 6))).grid
    left, bottom, right, top = grid.bounds
    names = [str(i % 7) for i in range(60)]
    shapes = [box(left, bottom, right - i % 3, top) for i in range(60)]
    path = tmp_path / 'x.gpkg'
    gpd.GeoDataFrame({'class': names}, geometry=shapes, crs=grid.crs).to_file(path)
    labels = open_labels(path, Classes.named([str(i) for i in range(7)]))
    assert labels.read(grid, Window(0, 0, 2, 2)).tolist() == [[59 % 7] * 2] * 2


def test_a_shift_of_half_a_pixel_of_a_degree_grid_is_seen(
    write_raster: WriteRaster,
) -> None:
    res = 1e-5
    place = Affine(res, 0, 10, 0, -res, 50)
    grid = open_scene(write_raster('a.tif', ramp(1, 4, 4), 'EPSG:4326', place)).grid
    stored = np.repeat(np.array([[0, 1, 0, 1]], np.uint8), 4, axis=0)
    shifted = Affine(res, 0, 10 + 0.8 * res, 0, -res, 50)
    path = write_raster('m.tif', stored, 'EPSG:4326', shifted)
    labels = open_labels(path, Classes.named(['no', 'yes']))
    assert labels.read(grid, Window(0, 0, 4, 1)).tolist() == [[255, 0, 1, 0]]


def test_a_larger_label_on_the_same_pixels_is_read_at_its_offset(
    write_raster: WriteRaster,
) -> None:
    place = Affine(10, 0, 600_020, 0, -10, 5_299_990)
    grid = open_scene(write_raster('a.tif', ramp(1, 3, 3), transform=place)).grid
    stored = np.arange(48, dtype=np.uint8).reshape(6, 8)
    path = write_raster('m.tif', stored)
    labels = open_labels(path, Classes.named([str(i) for i in range(48)]))
    read = labels.read(grid, Window(1, 0, 2, 3))
    np.testing.assert_array_equal(read, stored[1:4, 3:5])


def test_beside_a_black_and_white_mask_there_is_no_label(
    write_raster: WriteRaster,
) -> None:
    grid = open_scene(write_raster('a.tif', ramp(1, 2, 6))).grid
    coarse = Affine(20, 0, 600_000, 0, -20, 5_300_000)
    path = write_raster('m.tif', np.array([[0, 255]], np.uint8), transform=coarse)
    labels = open_labels(path, find_classes([path]))
    read = labels.read(grid, Window(0, 0, 6, 2))
    assert read.tolist() == [[0, 0, 1, 1, 255, 255]] * 2
    assert (labels.read(grid, Window(500, 0, 2, 2)) == 255).all()


def test_a_class_that_is_not_in_the_table_is_named(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    grid = open_scene(write_raster('a.tif', ramp(1, 5, 6))).grid
    labels = open_labels(
        square(tmp_path / 'x.gpkg', label=['ice']), Classes.named(['a', 'b'])
    )
    with pytest.raises(ValueError, match=r"x\.gpkg has polygons of class 'ice'"):
        labels.read(grid, WHOLE)


def test_polygons_may_have_the_values_of_the_table(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    grid = open_scene(write_raster('a.tif', ramp(1, 5, 6))).grid
    path = square(tmp_path / 'x.gpkg', label=[7])
    labels = open_labels(path, Classes.named(['a', 'b'], [3, 7]))
    np.testing.assert_array_equal(labels.read(grid, WHOLE), expected())


def test_what_a_polygon_without_a_class_covers_has_no_label(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    grid = open_scene(write_raster('a.tif', ramp(1, 5, 6))).grid
    shapes = [box(600_010, 5_299_960, 600_040, 5_299_980), box(0, 0, 1, 1)]
    path = tmp_path / 'x.gpkg'
    columns = {'class': [None, 'ice']}
    gpd.GeoDataFrame(columns, geometry=shapes, crs=grid.crs).to_file(path)
    classes = find_classes([path])
    assert classes.names == ('background', 'ice')
    read = open_labels(path, classes).read(grid, WHOLE)
    np.testing.assert_array_equal(read, expected() * np.uint8(255))


@pytest.mark.parametrize('nodata', [0, 255])
def test_nodata_that_hides_a_class_is_named(
    write_raster: WriteRaster, nodata: int
) -> None:
    path = write_raster('m.tif', np.array([[0, 255]], np.uint8), nodata=nodata)
    with pytest.raises(ValueError, match=f'{nodata} is nodata .* --unset-nodata'):
        find_classes([path])


def test_polygons_of_a_format_that_reads_other_files_are_refused(
    tmp_path: Path,
) -> None:
    source = square(tmp_path / 'x.gpkg')
    path = tmp_path / 'y.gpkg'
    path.write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="x"><SrcDataSource>{source}'
        '</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>'
    )
    with pytest.raises(ValueError, match='is of the format OGR_VRT; labels may be'):
        read_polygons(path)


def test_a_vrt_is_no_label(tmp_path: Path) -> None:
    assert not is_label(tmp_path / 'a.vrt')
    assert is_label(tmp_path / 'a.tif')


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_a_label_with_a_place_is_taken_pixel_by_pixel_on_a_picture(
    write_raster: WriteRaster,
) -> None:
    picture = write_raster('images/a.tif', np.zeros((5, 6), np.uint8), crs=None)
    write_raster('labels/a.tif', expected())
    dataset = SceneFolder(picture.parents[1])
    sample = dataset[ScenePatch(0, Window(0, 0, 6, 5))]
    np.testing.assert_array_equal(sample['mask'], expected())


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_polygons_with_a_place_need_a_scene_with_one(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    write_raster('images/a.tif', np.zeros((5, 6), np.uint8), crs=None)
    (tmp_path / 'labels').mkdir()
    square(tmp_path / 'labels' / 'a.gpkg')
    dataset = SceneFolder(tmp_path)
    with pytest.raises(ValueError, match=r'a\.gpkg lies in .*WebTiles'):
        dataset[ScenePatch(0, Window(0, 0, 6, 5))]
