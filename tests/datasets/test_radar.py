"""Radar scenes: complex files, optical images on another grid, folders of pairs."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.windows import Window
from tiny import WriteRaster

from eoseg_datasets.labelled_images import with_names
from eoseg_datasets.radar import (
    RadarOpticalFolder,
    open_radar,
    radar_optical,
    write_decibel,
)
from eoseg_datasets.scene import Scene, ScenePatch, open_scene
from eoseg_datasets.statistics import band_statistics

#: Grid of the radar: 10 m; that of the optical image: 20 m, half a pixel further.
PLACE = Affine(10, 0, 600_000, 0, -10, 5_300_000)
OTHER = Affine(20, 0, 599_990, 0, -20, 5_300_010)


def decibel() -> np.ndarray:
    """VV is minus the row, VH 20 less; the first column was not measured."""
    rows = np.indices((24, 20))[0].astype(np.float32)
    image = np.stack([-1 - rows, -21 - rows])
    image[:, :, 0] = np.nan
    return image


def radar(write_raster: WriteRaster, name: str = 'images/a.tif') -> Scene:
    path = write_raster(name, decibel(), transform=PLACE, nodata=np.nan)
    return with_names(open_scene(path), ['VV', 'VH'])


def optical(
    write_raster: WriteRaster, name: str = 'optical/a.tif', **profile: object
) -> Scene:
    """B2 is the easting of the pixel in 10 m beyond 600 km, B3 is 500; one hole."""
    cols = np.indices((14, 12))[1]
    image = np.stack([2 * cols, np.full((14, 12), 500)]).astype(np.float32)
    image[:, 8:10, 4:6] = -9999
    path = write_raster(name, image, **{'transform': OTHER, 'nodata': -9999} | profile)
    return with_names(open_scene(path), ['B2', 'B3'])


def test_optical_bands_are_read_on_the_grid_of_the_radar(
    write_raster: WriteRaster,
) -> None:
    pair = radar_optical(radar(write_raster), optical(write_raster))
    assert pair.band_names == ('VV', 'VH', 'B2', 'B3')
    image, valid = pair.read(Window(0, 0, 20, 24))
    assert np.array_equal(valid, ~np.isnan(decibel()[0]))
    assert np.array_equal(image[:2, valid], decibel()[:, valid])
    # The centre of column c of the radar lies at c + 0.5, that of the optical image's
    # column k, which has the value 2 k, at 2 k.
    inside = image[2, 3, 2:18]
    np.testing.assert_allclose(inside, np.arange(2, 18) + 0.5, atol=0.02)


def test_radar_stays_valid_where_the_optical_image_is_missing(
    write_raster: WriteRaster,
) -> None:
    pair = radar_optical(radar(write_raster), optical(write_raster))
    image, valid = pair.read(Window(0, 0, 20, 24))
    hole = image[2:, 16:18, 8:10]
    assert np.isnan(hole).all()
    assert valid[16:18, 8:10].all()
    assert np.isfinite(image[:2]).all()
    assert (image[:, ~valid] == 0).all()
    seen = pair.select(['B2', 'B3'])
    assert not seen.valid(Window(0, 0, 20, 24))[16:18, 8:10].any()
    assert pair.select(['VV']).valid(Window(0, 0, 20, 24))[16:18, 8:10].all()


def test_an_aligned_optical_image_is_not_interpolated(
    write_raster: WriteRaster,
) -> None:
    image = np.random.default_rng(0).normal(size=(1, 24, 20)).astype(np.float32)
    path = write_raster('aligned.tif', image, transform=PLACE)
    pair = radar_optical(
        radar(write_raster), with_names(open_scene(path), ['B8'])
    ).select(['B8'])
    values, _ = pair.read(Window(3, 2, 10, 10))
    assert np.array_equal(values, image[:, 2:12, 3:13])


def test_an_optical_image_in_another_crs_is_warped(write_raster: WriteRaster) -> None:
    # The same place in degrees: 600 km east is 10.36 E in zone 32, 5,300 km north 47.8 N.
    place = Affine(0.0002, 0, 10.334, 0, -0.0002, 47.846)
    values = np.full((2, 40, 60), 7, np.float32)
    other = optical(write_raster, 'far.tif', crs='EPSG:4326', transform=place)
    path = write_raster('degrees.tif', values, crs='EPSG:4326', transform=place)
    pair = radar_optical(
        radar(write_raster), with_names(open_scene(path), ['B2', 'B3'])
    )
    image, valid = pair.read(Window(0, 0, 20, 24))
    assert (image[2:, valid] == 7).all()
    assert other.crs != pair.crs


def test_pairs_that_do_not_overlap_are_refused(write_raster: WriteRaster) -> None:
    away = optical(write_raster, transform=OTHER @ Affine.translation(100, 0))
    with pytest.raises(ValueError, match=r'a\.tif do not overlap: .* E, .* N'):
        radar_optical(radar(write_raster), away)


def test_bands_of_one_name_are_refused(write_raster: WriteRaster) -> None:
    named = with_names(optical(write_raster), ['VV', 'B3'])
    with pytest.raises(ValueError, match='both have a band VV'):
        radar_optical(radar(write_raster), named)


def test_statistics_leave_out_what_is_missing(write_raster: WriteRaster) -> None:
    pair = radar_optical(radar(write_raster), optical(write_raster))
    mean, std = band_statistics([pair], [ScenePatch(0, Window(0, 0, 20, 24))], 8)
    assert mean[3] == pytest.approx(500, abs=1e-3)
    assert np.isfinite([*mean, *std]).all()


def complex_files(write_raster: WriteRaster) -> dict[str, Path]:
    place = Affine(0, -2.5, 593_124, 2.5, 0, 5_749_208)
    numbers = np.full((16, 18), 3 + 4j, np.complex64)
    numbers[2, 3] = 0
    return {
        name: write_raster(f'{name}.tif', factor * numbers, transform=place)
        for name, factor in (('HH', 1), ('HV', 1j))
    }


def test_complex_numbers_are_read_as_amplitude(write_raster: WriteRaster) -> None:
    scene = open_radar(complex_files(write_raster), 'complex')
    image, valid = scene.read(Window(-1, 0, 19, 16))
    assert scene.band_names == ('HH', 'HV')
    assert (image[:, valid] == 5).all()
    assert valid.sum() == 18 * 16 - 1 and not valid[2, 4]
    assert np.array_equal(scene.valid(Window(-1, 0, 19, 16)), valid)


def test_complex_numbers_without_a_declaration_are_refused(
    write_raster: WriteRaster,
) -> None:
    files = complex_files(write_raster)
    with pytest.raises(
        ValueError, match='complex64, but declared as dB; declare complex'
    ):
        open_radar(files, 'dB')
    with pytest.raises(ValueError, match='numbers are complex; convert them'):
        open_scene(files['HH'])
    real = write_raster('real.tif', decibel())
    with pytest.raises(ValueError, match='float32, but declared as complex'):
        open_radar({'VV': real}, 'complex')
    with pytest.raises(ValueError, match="dB, power, amplitude, complex, got 'db'"):
        open_radar({'VV': real}, 'db')


def test_decibels_are_written_on_the_grid_they_came_on(
    write_raster: WriteRaster, tmp_path: Path
) -> None:
    scene = open_radar(complex_files(write_raster), 'complex')
    write_decibel(scene, 'complex', tmp_path / 'images' / 'quad.tif')
    written = open_scene(tmp_path / 'images' / 'quad.tif')
    assert written.grid == scene.grid
    assert written.band_names == ('HH', 'HV')
    image, valid = written.read(Window(0, 0, 18, 16))
    np.testing.assert_allclose(image[:, valid], 20 * np.log10(5), rtol=1e-6)
    assert not valid[2, 3] and valid.sum() == 18 * 16 - 1
    assert [path.name for path in (tmp_path / 'images').iterdir()] == ['quad.tif']


def test_bands_on_different_grids_are_refused(write_raster: WriteRaster) -> None:
    files = complex_files(write_raster)
    files['VV'] = write_raster('vv.tif', np.ones((16, 18), np.complex64))
    with pytest.raises(ValueError, match=r'vv.tif \(VV\) is on another grid'):
        open_radar(files, 'complex')


def test_bands_of_one_file_are_taken_in_order(write_raster: WriteRaster) -> None:
    path = write_raster('a.tif', decibel(), transform=PLACE)
    scene = open_radar({'VV': path, 'VH': path}, 'dB')
    assert [band.index for band in scene.bands] == [1, 2]
    with pytest.raises(ValueError, match='has 2 bands, no 3th for HH'):
        open_radar({'VV': path, 'VH': path, 'HH': path}, 'dB')


def folder(write_raster: WriteRaster, tmp_path: Path) -> Path:
    """Two radar scenes with labels, of which the second has no optical image."""
    radar(write_raster)
    optical(write_raster)
    image = decibel()
    shifted = PLACE @ Affine.translation(100, 0)
    write_raster('images/b.tif', image, transform=shifted, nodata=np.nan)
    for name, place in (('a', PLACE), ('b', shifted)):
        mask = (np.indices((24, 20))[1] > 9).astype(np.uint8)
        write_raster(f'labels/{name}.tif', mask, transform=place)
    return tmp_path


def test_a_folder_gives_pairs_and_radar_that_has_no_partner(
    write_raster: WriteRaster, tmp_path: Path
) -> None:
    dataset = RadarOpticalFolder(
        folder(write_raster, tmp_path), ['VV', 'VH'], ['B2', 'B3']
    )
    assert dataset.bands == ('VV', 'VH', 'B2', 'B3')
    first, second = (dataset[ScenePatch(i, Window(0, 0, 20, 24))] for i in range(2))
    assert first['image'][2:].isfinite().float().mean() > 0.9
    assert second['image'][2:, second['valid']].isnan().all()
    for sample in (first, second):
        assert (sample['mask'][:, 0] == 255).all()
        assert (sample['mask'][:, 1:] < 2).all()
    alone = RadarOpticalFolder(tmp_path, ['VV', 'VH'], ['B2', 'B3'], bands=['VH'])
    assert alone[ScenePatch(1, Window(0, 0, 4, 4))]['image'].shape == (1, 4, 4)


def test_an_unknown_order_of_optical_bands_is_refused(
    write_raster: WriteRaster, tmp_path: Path
) -> None:
    root = folder(write_raster, tmp_path)
    with pytest.raises(
        ValueError, match=r'order is unknown; name all 2 .*data.optical'
    ):
        RadarOpticalFolder(root, ['VV', 'VH'])
    with pytest.raises(ValueError, match='has 2 bands without names, optical names 3'):
        RadarOpticalFolder(root, ['VV', 'VH'], ['B2', 'B3', 'B4'])
    with pytest.raises(ValueError, match='has 2 bands without names, sar names 1'):
        RadarOpticalFolder(root, ['VV'], ['B2', 'B3'])


def test_names_that_files_state_need_not_be_told(
    write_raster: WriteRaster, tmp_path: Path
) -> None:
    root = folder(write_raster, tmp_path)
    with rasterio.open(root / 'optical' / 'a.tif', 'r+') as file:
        file.descriptions = ('B3', 'B2')
    assert RadarOpticalFolder(root, ['VV', 'VH']).optical_bands == ('B3', 'B2')
    with pytest.raises(ValueError, match='has the bands B3, B2; optical names B8'):
        RadarOpticalFolder(root, ['VV', 'VH'], ['B8'])


def test_a_folder_without_optical_images_says_so(
    write_raster: WriteRaster, tmp_path: Path
) -> None:
    root = folder(write_raster, tmp_path)
    (root / 'optical' / 'a.tif').rename(root / 'optical' / 'c.tif')
    with pytest.raises(ValueError, match=r'no scene in .* has an optical image'):
        RadarOpticalFolder(root, ['VV', 'VH'], ['B2', 'B3'])
    (root / 'optical').rename(root / 'pictures')
    with pytest.raises(FileNotFoundError, match='optical does not exist; pairs are'):
        RadarOpticalFolder(root, ['VV', 'VH'], ['B2', 'B3'])


@pytest.mark.real_data
def test_quad_pol_radar_is_paired_with_a_picture_on_another_grid(data: Path) -> None:
    root = data / 'sar_optical_spacenet6_rotterdam'
    names = ('HH', 'HV', 'VH', 'VV')
    files = {name: root / f'sar_{name.lower()}.tif' for name in names}
    radar = open_radar(files, 'complex')
    picture = with_names(open_scene(root / 'rgb_unmasked.tif'), ['R', 'G', 'B'])
    pair = radar_optical(radar, picture)
    assert pair.grid == radar.grid  # rotated, 2.5 m
    image, valid = pair.read(Window(0, 0, 200, 200))
    assert valid.all() and (image[:4] > 0).all()
    assert np.isfinite(image[4:]).mean() > 0.95
    masked = with_names(open_scene(root / 'sar_masked.tif'), names)
    _, there = radar_optical(masked, picture).read(Window(0, 0, 200, 200))
    assert there.mean() == pytest.approx(0.608, abs=0.01)
    multispectral = with_names(open_scene(root / 'ms1.tif'), ['B', 'G', 'R', 'N'])
    with pytest.raises(ValueError, match='do not overlap'):
        radar_optical(radar, multispectral)
