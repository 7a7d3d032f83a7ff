"""Scenes are read by window, and say which pixels are valid."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window
from tiny import WriteRaster, ramp

from eoseg_datasets.handles import handle
from eoseg_datasets.scene import open_scene

WHOLE = Window(0, 0, 6, 5)


def test_a_window_inside_is_what_the_file_holds(write_raster: WriteRaster) -> None:
    image = ramp(2, 5, 6)
    values, valid = open_scene(write_raster('a.tif', image)).read(Window(1, 2, 3, 2))
    np.testing.assert_array_equal(values, image[:, 2:4, 1:4])
    assert values.dtype == np.float32
    assert valid.all()


@pytest.mark.parametrize('col, row', [(-2, -1), (4, 3), (-10, 0), (0, 10)])
def test_what_lies_beyond_the_scene_is_not_valid(
    write_raster: WriteRaster, col: int, row: int
) -> None:
    image = ramp(1, 5, 6)
    values, valid = open_scene(write_raster('a.tif', image)).read(
        Window(col, row, 4, 4)
    )
    padded = np.pad(image[0], 10)[row + 10 : row + 14, col + 10 : col + 14]
    np.testing.assert_array_equal(values[0], padded)
    np.testing.assert_array_equal(valid, padded > 0)


def test_zero_as_nodata_counts_only_where_all_bands_have_it(
    write_raster: WriteRaster,
) -> None:
    image = ramp(2, 5, 6)
    image[:, 0, 0] = 0  # outside
    image[1, 2, 2] = 0  # dark water in one band
    values, valid = open_scene(write_raster('a.tif', image, nodata=0)).read(WHOLE)
    assert np.argwhere(~valid).tolist() == [[0, 0]]
    assert values[1, 2, 2] == 0


def test_any_other_nodata_counts_in_any_band(write_raster: WriteRaster) -> None:
    image = ramp(2, 5, 6).astype(np.int16)
    image[1, 2, 2] = -9999
    values, valid = open_scene(write_raster('a.tif', image, nodata=-9999)).read(WHOLE)
    assert np.argwhere(~valid).tolist() == [[2, 2]]
    assert (values[:, 2, 2] == 0).all()


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_valid(write_raster: WriteRaster, bad: float) -> None:
    image = ramp(2, 5, 6).astype(np.float32)
    image[0, 1, 3] = bad
    values, valid = open_scene(write_raster('a.tif', image)).read(WHOLE)
    assert np.argwhere(~valid).tolist() == [[1, 3]]
    assert np.isfinite(values).all()


def test_an_alpha_band_is_validity_and_no_band(write_raster: WriteRaster) -> None:
    image = ramp(4, 5, 6).astype(np.uint8)
    image[3] = 255
    image[3, 4, 5] = 0
    path = write_raster('a.tif', image, photometric='RGB', alpha='YES')
    scene = open_scene(path)
    assert scene.band_names == ('B1', 'B2', 'B3')
    assert np.argwhere(~scene.read(WHOLE)[1]).tolist() == [[4, 5]]


def test_an_internal_mask_is_validity(write_raster: WriteRaster) -> None:
    path = write_raster('a.tif', ramp(2, 5, 6))
    mask = np.full((5, 6), 255, np.uint8)
    mask[3, 1] = 0
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, 'r+') as target,
    ):
        target.write_mask(mask)
    assert np.argwhere(~open_scene(path).read(WHOLE)[1]).tolist() == [[3, 1]]


def test_scale_and_offset_of_the_file_are_applied(write_raster: WriteRaster) -> None:
    image = ramp(1, 5, 6)
    path = write_raster('a.tif', image)
    with rasterio.open(path, 'r+') as target:
        target.scales, target.offsets = (0.5,), (-3.0,)
    np.testing.assert_allclose(open_scene(path).read(WHOLE)[0], image * 0.5 - 3)


def test_bands_are_chosen_by_name_or_number(write_raster: WriteRaster) -> None:
    scene = open_scene(write_raster('a.tif', ramp(3, 5, 6), bands=('B2', 'B3', 'B4')))
    assert scene.select(['B4', 'B2']).read(WHOLE)[0][:, 0, 0].tolist() == [20001, 1]
    assert scene.select(['3', '1']).band_names == ('B4', 'B2')
    with pytest.raises(ValueError, match='no band B8; its bands are B2, B3, B4'):
        scene.select(['B8'])


def test_complex_numbers_are_refused_with_advice(write_raster: WriteRaster) -> None:
    path = write_raster('slc.tif', ramp(1, 5, 6).astype(np.complex64))
    with pytest.raises(ValueError, match='convert them to amplitude'):
        open_scene(path)


def test_a_vrt_in_disguise_is_not_read(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    secret = tmp_path / 'secret.bin'
    secret.write_bytes(bytes(range(30)))
    vrt = tmp_path / 'scene.tif'
    vrt.write_text(
        '<VRTDataset rasterXSize="6" rasterYSize="5">'
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativeToVRT="0">{secret}</SourceFilename>'
        '</VRTRasterBand></VRTDataset>'
    )
    with pytest.raises(RasterioError):
        open_scene(vrt)


def test_a_file_that_changed_is_read_anew(write_raster: WriteRaster) -> None:
    path = write_raster('a.tif', ramp(1, 5, 6))
    assert open_scene(path).read(WHOLE)[0][0, 0, 0] == 1
    path.unlink()
    write_raster('a.tif', ramp(1, 5, 6) + np.uint16(7), compress='deflate')
    assert open_scene(path).read(WHOLE)[0][0, 0, 0] == 8


def _identity_of_handle(path: Path, queue: 'multiprocessing.Queue[int]') -> None:
    queue.put(id(handle(path)))


@pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')
def test_a_forked_process_opens_its_own_handle(write_raster: WriteRaster) -> None:
    path = write_raster('a.tif', ramp(1, 5, 6))
    mine = handle(path)
    assert handle(path) is mine
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    process = context.Process(target=_identity_of_handle, args=(path, queue))
    process.start()
    theirs = queue.get(timeout=60)
    process.join(60)
    assert theirs != id(mine)
