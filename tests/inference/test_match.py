"""A scene is matched with a model by the names of its bands, or refused with advice."""

import numpy as np
import pytest
from tiny import WriteRaster, ramp

from eoseg.errors import SceneMismatchError
from eoseg.inference.match import foreign_bands, glance, match_bands, statistics
from eoseg.inputs import Inputs
from eoseg_datasets.scene import open_scene


def model(*bands: str) -> Inputs:
    count = len(bands)
    return Inputs(
        bands, (100.0,) * count, (10.0,) * count, ('a', 'b'), ('#000000',) * 2, 8
    )


def test_bands_are_taken_by_name_whatever_their_order(
    write_raster: WriteRaster,
) -> None:
    scene = open_scene(write_raster('a.tif', ramp(3, 4, 4), bands=('B2', 'B3', 'B4')))
    assert match_bands(scene, model('B4', 'B2')).band_names == ('B4', 'B2')


def test_without_names_the_order_is_taken_if_the_count_fits(
    write_raster: WriteRaster,
) -> None:
    scene = open_scene(write_raster('a.tif', ramp(3, 4, 4)))
    assert match_bands(scene, model('red', 'green', 'blue')) == scene


@pytest.mark.parametrize('count', [2, 4])
def test_another_count_without_names_is_refused_with_advice(
    write_raster: WriteRaster, count: int
) -> None:
    scene = open_scene(write_raster('a.tif', ramp(count, 4, 4)))
    advice = rf'expects 3 bands \(B1, B2, B3\), a has {count} .*--bands 1,2,3'
    with pytest.raises(SceneMismatchError, match=advice):
        match_bands(scene, model('B1', 'B2', 'B3'))


def test_bands_that_are_asked_for_are_taken(write_raster: WriteRaster) -> None:
    scene = open_scene(write_raster('a.tif', ramp(4, 4, 4)))
    assert match_bands(scene, model('x', 'y'), ['4', '1']).band_names == ('B4', 'B1')
    with pytest.raises(SceneMismatchError, match='3 bands were asked for'):
        match_bands(scene, model('x', 'y'), ['1', '2', '3'])


def test_a_glance_is_every_nth_pixel(write_raster: WriteRaster) -> None:
    image = ramp(2, 9, 7)
    values, valid = glance(open_scene(write_raster('a.tif', image)), side=3)
    np.testing.assert_array_equal(values, image[:, ::3, ::3])
    assert valid.all()


def test_statistics_leave_nodata_out() -> None:
    image = np.array([[[1, 3, 99]]], np.float32)
    mean, std = statistics(image, np.array([[True, True, False]]))
    assert (mean, std) == ((2.0,), (1.0,))
    with pytest.raises(ValueError, match='no valid pixel'):
        statistics(image, np.zeros((1, 3), bool))


def test_values_in_another_unit_are_noticed() -> None:
    assert foreign_bands(model('B1', 'B2'), [105.0, 9000.0]) == [
        'B2 is 9000 on average, in training 100 ± 10'
    ]
