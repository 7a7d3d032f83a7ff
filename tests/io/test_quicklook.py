"""Tests of eoseg.io.quicklook."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from rasterio.crs import CRS

from eoseg.io.cog import MapWriter
from eoseg.io.quicklook import class_picture, image_picture, write_quicklook
from eoseg_datasets.classes import Legend
from eoseg_datasets.grid import Grid

LEGEND = Legend(('a', 'b'), ('#ff0000', '#0000ff'))


def write_map(path: Path, values: np.ndarray) -> None:
    height, width = values.shape
    transform = Affine(10, 0, 5e5, 0, -10, 5e6)
    where = Grid(CRS.from_epsg(32633), transform, width, height)
    with MapWriter(path, where, legend=LEGEND) as writer:
        writer.write(values.astype(np.uint8), 0)


def test_classes_have_their_colours_and_nodata_has_none(tmp_path: Path) -> None:
    write_map(tmp_path / 'map.tif', np.array([[0, 1, 255], [1, 0, 7]]))
    picture = class_picture(tmp_path / 'map.tif', LEGEND)
    red, blue, none = [255, 0, 0, 255], [0, 0, 255, 255], [0, 0, 0, 0]
    assert picture.tolist() == [[red, blue, none], [blue, red, none]]


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [((2000, 1000), (100, 50)), ((30, 40), (30, 40)), ((1, 1500), (1, 100))],
)
def test_large_maps_are_shown_smaller_and_small_ones_as_they_are(
    tmp_path: Path, shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    write_map(tmp_path / 'map.tif', np.ones(shape))
    picture = class_picture(tmp_path / 'map.tif', LEGEND, max_side=100)
    assert picture.shape == (*expected, 4)
    assert (picture == [0, 0, 255, 255]).all()


def test_a_picture_mixes_no_colours(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_map(tmp_path / 'map.tif', rng.choice([0, 1, 255], (1200, 1300)))
    picture = class_picture(tmp_path / 'map.tif', LEGEND, max_side=97)
    colors = set(map(tuple, picture.reshape(-1, 4).tolist()))
    assert colors <= {(255, 0, 0, 255), (0, 0, 255, 255), (0, 0, 0, 0)}


def test_an_image_is_stretched_band_by_band_over_its_valid_pixels() -> None:
    ramp = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, 101)
    image = np.stack([ramp, 1000 * ramp, -ramp, np.full_like(ramp, np.nan)])
    image[:, 0, 50] = 1e9
    valid = np.ones((1, 101), bool)
    valid[0, 50] = False
    picture = image_picture(image, valid)[0]
    assert picture[[0, -1], :3].tolist() == [[0, 0, 255], [255, 255, 0]]
    assert (np.diff(picture[valid[0], 0].astype(int)) >= 0).all()
    np.testing.assert_array_equal(picture[:, 0], picture[:, 1])
    assert picture[50].tolist() == [0, 0, 0, 0]
    assert (picture[valid[0], 3] == 255).all()


def test_pixels_that_are_not_finite_are_transparent() -> None:
    image = np.ones((3, 2, 2), np.float32)
    image[1, 0, 0] = np.nan
    image[2, 1, 1] = np.inf
    picture = image_picture(image, np.ones((2, 2), bool))
    assert picture[..., 3].tolist() == [[0, 255], [255, 0]]


def test_one_band_is_shown_in_grey_and_an_empty_image_as_nothing() -> None:
    image = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    picture = image_picture(image, np.ones((2, 2), bool))
    np.testing.assert_array_equal(picture[..., 0], picture[..., 2])
    assert not image_picture(image, np.zeros((2, 2), bool)).any()


def test_a_quicklook_shows_image_map_and_legend(tmp_path: Path) -> None:
    classes = np.full((600, 700, 4), (255, 0, 0, 255), np.uint8)
    classes[:300] = 0
    image = np.full((60, 70, 4), (10, 20, 30, 255), np.uint8)
    write_quicklook(tmp_path / 'map.png', image, classes, LEGEND)
    with Image.open(tmp_path / 'map.png') as opened:
        page = np.asarray(opened.convert('RGB'))
    assert page.shape[0] > 600
    assert page.shape[1] > 2 * 700
    assert (page == (10, 20, 30)).all(axis=-1).sum() == 600 * 700
    # The lower half of the map and its square in the legend; nodata is white.
    red = (page == (255, 0, 0)).all(axis=-1).sum()
    assert 300 * 700 < red < 300 * 700 + 30 * 30
    assert (page[100, -100] == 255).all()
    assert (page == (0, 0, 255)).all(axis=-1).any()
    assert [path.name for path in tmp_path.iterdir()] == ['map.png']


def test_a_small_map_is_enlarged_without_mixing_its_colours(tmp_path: Path) -> None:
    classes = np.zeros((10, 20, 4), np.uint8)
    classes[:, ::2] = (255, 0, 0, 255)
    write_quicklook(tmp_path / 'map.png', None, classes, Legend.of(['b']))
    with Image.open(tmp_path / 'map.png') as opened:
        panel = np.asarray(opened.convert('RGB'))[24 : 24 + 240, 24 : 24 + 480]
    colors = np.unique(panel.reshape(-1, 3), axis=0).tolist()
    assert colors == [[255, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize(
    'legend',
    [
        Legend.of([f'class {i}' for i in range(255)]),
        Legend.of(['a very long name ' * 40, 'Ω']),
    ],
    ids=['many classes', 'a long name'],
)
def test_any_legend_fits_on_the_page(tmp_path: Path, legend: Legend) -> None:
    classes = np.zeros((50, 2, 4), np.uint8)
    write_quicklook(tmp_path / 'map.png', None, classes, legend)
    with Image.open(tmp_path / 'map.png') as opened:
        page = np.asarray(opened.convert('RGB'))
    codes, counts = np.unique(page @ (65536, 256, 1), return_counts=True)
    shown = dict(zip(codes.tolist(), counts.tolist(), strict=True))
    for color in legend.colors:
        assert shown.get(int(color[1:], 16), 0) > 300, f'{color} is not shown'
    # Nothing is cut off: the page has a white border.
    for edge in (page[:8], page[-4:], page[:, :8], page[:, -8:]):
        assert (edge == 255).all()
