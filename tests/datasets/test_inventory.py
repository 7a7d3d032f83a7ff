"""Every file found is a scene or has a reason."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rasterio.errors import RasterioIOError
from rasterio.windows import Window
from tiny import WriteRaster, ramp

from eoseg_datasets.handles import handle
from eoseg_datasets.inventory import find_scenes
from eoseg_datasets.scene import open_scene


def test_scenes_are_found_in_all_folders_and_named_by_their_path(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    write_raster('b/x.tif', ramp(1, 4, 4))
    write_raster('a/x.tif', ramp(1, 4, 4))
    names = [scene.name for scene in find_scenes(tmp_path).scenes]
    assert names == ['a/x', 'b/x']


@pytest.mark.parametrize(
    'name, content, status, reason',
    [
        ('empty.tif', b'', 'failed', 'the file is empty'),
        ('page.tif', b'<!DOCTYPE html><html>', 'failed', 'a web page'),
        ('big.tif', b'version https://git-lfs.github.com', 'failed', 'git-lfs pointer'),
        ('notes.txt', b'text', 'skipped', 'not a raster'),
        ('x.tif.ovr', b'text', 'skipped', 'belongs to another file'),
        ('x.tif.aux.xml', b'text', 'skipped', 'belongs to another file'),
        ('.hidden.tif', b'', 'skipped', 'hidden'),
        ('x.vrt', b'<VRTDataset/>', 'skipped', '--allow-vrt'),
    ],
)
def test_what_is_no_scene_has_a_reason(
    tmp_path: Path, name: str, content: bytes, status: str, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    inventory = find_scenes(tmp_path)
    assert inventory.scenes == ()
    assert [item.status for item in inventory.rejected] == [status]
    assert reason in inventory.rejected[0].reason


@pytest.mark.parametrize(
    'profile', [{}, {'compress': 'deflate'}, {'interleave': 'band'}]
)
def test_a_file_whose_end_is_missing_is_no_scene(
    tmp_path: Path, write_raster: WriteRaster, profile: dict[str, str]
) -> None:
    path = write_raster('a.tif', ramp(2, 64, 64), **profile)
    assert find_scenes(tmp_path).failed == ()
    path.write_bytes(path.read_bytes()[:-1])
    (item,) = find_scenes(tmp_path).failed
    assert re.search(r'the end of a\.tif is missing: .* download it again', item.reason)


def test_bands_of_nodata_nan_are_equal_if_all_else_is(
    write_raster: WriteRaster,
) -> None:
    path = write_raster('a.tif', ramp(2, 4, 4).astype(np.float32), nodata=np.nan)
    one, other = open_scene(path), open_scene(path)
    assert one == other
    assert hash(one.bands) == hash(other.bands)
    assert one.bands[0] != one.bands[1]
    assert one.bands[0] != replace(one.bands[0], nodata=None)


def test_a_scene_knows_the_type_of_its_numbers(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    write_raster('a.tif', ramp(1, 4, 4))
    _landsat(write_raster, tmp_path)
    for scene in find_scenes(tmp_path).scenes:
        assert {band.dtype for band in scene.bands} == {'uint16'}


def test_a_bad_file_does_not_hide_the_good_ones(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    write_raster('good.tif', ramp(1, 4, 4))
    (tmp_path / 'bad.tif').write_bytes(b'II*\0 and then nothing')
    inventory = find_scenes(tmp_path)
    assert [scene.name for scene in inventory.scenes] == ['good']
    assert [item.path.name for item in inventory.failed] == ['bad.tif']


def test_a_file_with_two_names_is_one_scene(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    path = write_raster('a.tif', ramp(1, 4, 4))
    (tmp_path / 'b.tif').hardlink_to(path)
    (tmp_path / 'loop').symlink_to(tmp_path)
    assert [scene.name for scene in find_scenes(tmp_path).scenes] == ['a']


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'nowhere does not exist'):
        find_scenes(tmp_path / 'nowhere')


def _landsat(write_raster: WriteRaster, tmp_path: Path) -> None:
    for band in (1, 2, 10):
        image = ramp(1, 4, 6) + np.uint16(1000 * band)
        image[:, 0, 0] = 0
        write_raster(f'LC08_1/LC08_1_B{band}.TIF', image)
    write_raster('LC08_1/LC08_1_B8.TIF', ramp(1, 8, 12))  # panchromatic
    write_raster('LC08_1/LC08_1_BQA.TIF', ramp(1, 4, 6))
    (tmp_path / 'LC08_1' / 'LC08_1_MTL.txt').write_text('DATE_ACQUIRED = 2021-07-03\n')


def test_a_landsat_folder_is_one_scene(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    _landsat(write_raster, tmp_path)
    (scene,) = find_scenes(tmp_path).scenes
    assert scene.name == 'LC08_1'
    assert scene.band_names == ('B1', 'B2', 'B10')
    assert scene.acquired is not None
    assert scene.acquired.date().isoformat() == '2021-07-03'
    values, valid = scene.read(Window(0, 0, 6, 4))
    assert values[:, 1, 1].tolist() == [1102, 2102, 10102]
    assert np.argwhere(~valid).tolist() == [[0, 0]]  # fill is 0 though no tag says so


def test_a_safe_folder_is_one_scene_on_its_finest_grid(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    granule = 'S2B.SAFE/GRANULE/L2A/IMG_DATA'
    stem = 'T32TQR_20230711T101559'
    write_raster(f'{granule}/R10m/{stem}_B04_10m.jp2', ramp(1, 8, 12) + np.uint16(1000))
    write_raster(f'{granule}/R20m/{stem}_B04_20m.jp2', ramp(1, 4, 6))
    coarse = np.full((4, 6), 3000, np.uint16)
    write_raster(f'{granule}/R20m/{stem}_B8A_20m.jp2', coarse)
    (tmp_path / 'S2B.SAFE' / 'MTD_MSIL2A.xml').write_text(
        '<a><BOA_QUANTIFICATION_VALUE>10000</BOA_QUANTIFICATION_VALUE>'
        '<BOA_ADD_OFFSET band_id="3">-1000</BOA_ADD_OFFSET></a>'
    )
    (scene,) = find_scenes(tmp_path).scenes
    assert scene.name == 'S2B'
    assert scene.band_names == ('B04', 'B8A')
    assert scene.grid.shape == (8, 12)
    values, valid = scene.read(Window(2, 4, 3, 2))
    assert valid.all()
    np.testing.assert_allclose(values[0, 0], [0.0403, 0.0404, 0.0405], atol=1e-6)
    np.testing.assert_allclose(values[1], 0.3)


def test_no_two_scenes_have_one_name(tmp_path: Path, write_raster: WriteRaster) -> None:
    _landsat(write_raster, tmp_path)
    for name in ('LC08_1.tif', 'a.tif', 'a.tiff', 'a.tif.tif', 'b.tif'):
        write_raster(name, ramp(1, 4, 4))
    names = [scene.name for scene in find_scenes(tmp_path).scenes]
    assert sorted(names) == [
        'LC08_1',
        'LC08_1.tif',
        'a.tif',
        'a.tif.tif',
        'a.tiff',
        'b',
    ]


def test_folders_that_are_not_looked_into_are_named(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    write_raster('.cache/a.tif', ramp(1, 4, 4))
    write_raster('real/a.tif', ramp(1, 4, 4))
    (tmp_path / 'link').symlink_to(tmp_path / 'real')
    rejected = find_scenes(tmp_path).rejected
    assert {item.path.name: item.reason for item in rejected} == {
        '.cache': 'hidden',
        'link': 'a symbolic link; give the folder it points to',
    }


def test_rasters_of_a_scene_folder_that_are_no_band_are_named(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    _landsat(write_raster, tmp_path)
    rejected = find_scenes(tmp_path).rejected
    assert [item.path.name for item in rejected] == ['LC08_1_B8.TIF', 'LC08_1_BQA.TIF']
    assert {item.status for item in rejected} == {'skipped'}


def test_only_folders_in_the_root_are_ignored(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    write_raster('labels/a.tif', ramp(1, 4, 4))
    write_raster('2020/labels/a.tif', ramp(1, 4, 4))
    scenes = find_scenes(tmp_path, ignore=('labels',)).scenes
    assert [scene.name for scene in scenes] == ['2020/labels/a']


def test_a_vrt_is_read_where_it_is_allowed(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    source = write_raster('a.tif', ramp(1, 4, 4))
    (tmp_path / 'v.vrt').write_text(
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="UInt16" '
        f'band="1"><SimpleSource><SourceFilename>{source}</SourceFilename>'
        '</SimpleSource></VRTRasterBand></VRTDataset>'
    )
    (scene,) = find_scenes(tmp_path / 'v.vrt', allow_vrt=True).scenes
    assert scene.read(Window(0, 0, 1, 1))[0].item() == 1
    with pytest.raises(RasterioIOError):
        handle(scene.path)
