"""Labels come as rasters or polygons and leave as classes on the grid of a scene."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from rasterio.windows import Window
from shapely import box
from tiny import WriteRaster, ramp

from eoseg_datasets.classes import Classes
from eoseg_datasets.labels import find_classes, open_labels
from eoseg_datasets.scene import open_scene

WHOLE = Window(0, 0, 6, 5)


def square(path: Path, crs: str = 'EPSG:32632', **columns: list[str]) -> Path:
    """The 3 x 2 pixels from column 1 and row 2 on, of the grid of write_raster."""
    shape = box(600_010, 5_299_960, 600_040, 5_299_980)
    frame = gpd.GeoDataFrame(columns, geometry=[shape], crs='EPSG:32632').to_crs(crs)
    frame.to_file(path)
    return path


def expected() -> np.ndarray:
    mask = np.zeros((5, 6), np.uint8)
    mask[2:4, 1:4] = 1
    return mask


def test_values_become_classes_and_others_no_label(write_raster: WriteRaster) -> None:
    stored = np.array([[1, 4, 7], [9, 4, 255]], np.uint8)
    path = write_raster('mask.tif', stored)
    labels = open_labels(path, Classes.named(['a', 'b', 'c'], [1, 4, 7]))
    grid = open_scene(path).grid
    assert labels.read(grid, Window(0, 0, 3, 2)).tolist() == [[0, 1, 2], [255, 1, 255]]


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
        ValueError, match='4 x 4 pixels and no CRS, the scene has 6 x 5'
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
