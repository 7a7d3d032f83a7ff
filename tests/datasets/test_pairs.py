"""Two sensors in one scene: one grid, names apart, each with its own nodata."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.windows import Window
from tiny import WriteRaster, ramp

from eoseg_datasets import SEN12MS, paired
from eoseg_datasets.classes import Classes
from eoseg_datasets.labelled_images import with_names
from eoseg_datasets.labels import RasterLabels
from eoseg_datasets.pairs import PairedScene, located
from eoseg_datasets.scene import Scene, open_scene

WHOLE = Window(0, 0, 8, 6)


@pytest.fixture
def sar(write_raster: WriteRaster) -> Scene:
    """Radar with a pixel that is NaN in one band."""
    values = ramp(2, 6, 8).astype(np.float32)
    values[1, 0, 0] = np.nan
    return with_names(open_scene(write_raster('sar.tif', values)), ('VV', 'VH'))


@pytest.fixture
def optical(write_raster: WriteRaster) -> Scene:
    """Optical bands with nodata 0: one pixel has it everywhere, another in one band."""
    values = ramp(3, 6, 8)
    values[:, 1, 1] = 0
    values[0, 2, 2] = 0
    path = write_raster('optical.tif', values, nodata=0)
    return with_names(open_scene(path), ('B2', 'B3', 'B4'))


def test_radar_comes_first_and_both_are_read(sar: Scene, optical: Scene) -> None:
    pair = paired(sar, optical)
    assert pair.band_names == ('VV', 'VH', 'B2', 'B3', 'B4')
    image, _ = pair.read(Window(3, 3, 2, 2))
    expected = np.concatenate([ramp(2, 6, 8), ramp(3, 6, 8)])[:, 3:5, 3:5]
    np.testing.assert_array_equal(image, expected)


def test_a_pixel_is_valid_where_both_sensors_have_measured(
    sar: Scene, optical: Scene
) -> None:
    image, valid = paired(sar, optical).read(WHOLE)
    assert np.argwhere(~valid).tolist() == [[0, 0], [1, 1]]
    assert not image[:, ~valid].any()
    np.testing.assert_array_equal(paired(sar, optical).valid(WHOLE), valid)


def test_one_sensor_alone_has_its_own_nodata(sar: Scene, optical: Scene) -> None:
    pair = paired(sar, optical)
    for names, nodata in ((sar.band_names, [0, 0]), (('B4', 'B2'), [1, 1])):
        _, valid = pair.select(names).read(WHOLE)
        assert np.argwhere(~valid).tolist() == [nodata]


def test_bands_in_any_order_are_those_that_were_named(
    sar: Scene, optical: Scene
) -> None:
    pair = paired(sar, optical)
    mixed, _ = pair.select(('B4', 'VH', 'B2', 'VV')).read(WHOLE)
    np.testing.assert_array_equal(mixed, pair.read(WHOLE)[0][[4, 1, 2, 0]])


def test_a_window_beyond_the_pair_is_not_valid_there(
    sar: Scene, optical: Scene
) -> None:
    image, valid = paired(sar, optical).read(Window(6, 4, 4, 4))
    assert valid[:2, :2].all() and valid.sum() == 4
    assert not image[:, 2:].any()


def test_bands_of_another_pixel_size_come_on_the_grid_of_the_radar(
    sar: Scene, write_raster: WriteRaster
) -> None:
    coarse = Affine(20, 0, 600_000, 0, -20, 5_300_000)
    path = write_raster('coarse.tif', np.full((1, 3, 4), 7, np.uint8), transform=coarse)
    pair = paired(sar, open_scene(path))
    assert pair.grid == sar.grid
    assert pair.read(WHOLE)[0][2].tolist()[5] == [7.0] * 8


def test_a_shift_is_refused_with_its_size(
    sar: Scene, write_raster: WriteRaster
) -> None:
    moved = Affine(10, 0, 600_025, 0, -10, 5_300_000)
    other = open_scene(write_raster('moved.tif', ramp(1, 6, 8), transform=moved))
    with pytest.raises(
        ValueError, match=r'up to 2\.5 pixels apart; 8 x 6 pixels of 10'
    ):
        paired(sar, other)


@pytest.mark.parametrize('shift', [0, 0.9])
def test_a_shift_of_less_than_a_tenth_of_a_pixel_is_rounding(
    sar: Scene, optical: Scene, shift: float
) -> None:
    moved = optical.grid.transform @ Affine.translation(shift / 10, 0)
    other = replace(optical, grid=replace(optical.grid, transform=moved))
    assert paired(sar, other).grid == sar.grid


def test_another_crs_is_refused_by_name(sar: Scene, write_raster: WriteRaster) -> None:
    other = open_scene(write_raster('east.tif', ramp(1, 6, 8), 'EPSG:32633'))
    with pytest.raises(ValueError, match='their CRS are EPSG:32632 and EPSG:32633'):
        paired(sar, other)


def test_bands_of_one_name_are_refused_with_a_remedy(
    sar: Scene, optical: Scene
) -> None:
    twin = with_names(optical, ('VV', 'B3', 'B4'))
    with pytest.raises(ValueError, match=r'both have a band VV; give .*with_names'):
        paired(sar, twin)


def test_bands_are_located_by_source_and_position() -> None:
    sources = {'s1': ('VV', 'VH'), 's2': ('B2', 'B3')}
    assert located(('B3', 'VV'), sources) == [('B3', 's2', 2), ('VV', 's1', 1)]


@pytest.mark.real_data
def test_radar_and_optical_image_of_a_flood_are_one_scene(data: Path) -> None:
    folder = data / 'sar_optical_sen1floods11_spain'
    sar, optical, label = (
        next(folder.glob(f'*_{what}Hand*.tif')) for what in ('S1', 'S2', 'Label')
    )
    with pytest.raises(ValueError, match='both have a band B1, B2'):
        paired(open_scene(sar), open_scene(optical))
    names = SEN12MS.optical_bands
    pair = paired(
        with_names(open_scene(sar), ('VV', 'VH')),
        with_names(open_scene(optical), names),
    )
    assert isinstance(pair, PairedScene) and len(pair.bands) == 15
    whole = Window(0, 0, pair.grid.width, pair.grid.height)
    image, valid = pair.read(whole)
    _, seen_by_radar = pair.select(('VV', 'VH')).read(whole)
    assert 0.9 < valid.mean() <= seen_by_radar.mean()
    assert -40 < image[0][valid].mean() < 0 < image[2][valid].mean()
    classes = Classes.named(('land', 'water'))
    labels = RasterLabels(label, classes, {-1: 255, 0: 0, 1: 1}).read(pair.grid, whole)
    water, land = labels == 1, labels == 0
    # Smooth water reflects radar away, and is dark in the near infrared.
    assert image[0][valid & water].mean() < image[0][valid & land].mean() - 3
    assert image[9][valid & water].mean() < image[9][valid & land].mean()


@pytest.mark.real_data
def test_complex_radar_is_refused_with_the_reason(data: Path) -> None:
    folder = data / 'sar_optical_spacenet6_rotterdam'
    for path in sorted(folder.glob('sar_[hv][hv].tif')):
        with pytest.raises(ValueError, match='complex; convert them to amplitude'):
            open_scene(path)


@pytest.mark.real_data
def test_real_grids_that_differ_are_told_from_those_that_are_rounded(
    data: Path,
) -> None:
    folder = data / 'sar_optical_spacenet6_rotterdam'
    radar = with_names(open_scene(folder / 'sar_masked.tif'), ('a', 'b', 'c', 'd'))
    with pytest.raises(ValueError, match='do not lie on one place'):
        paired(radar, open_scene(folder / 'ms1.tif'))
    pair = paired(radar, open_scene(folder / 'rgb_unmasked.tif'))
    image, valid = pair.read(Window(0, 0, 200, 200))
    assert 0 < valid.mean() < 1 and np.isfinite(image).all()
