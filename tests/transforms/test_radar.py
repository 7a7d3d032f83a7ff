"""Radar becomes decibel within limits; what cannot be its unit is refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eoseg.transforms import RandomSpeckle, Standardize, StandardizeRadar, standardizer
from eoseg.transforms.radar import decibel_statistics, lee_filter


def backscatter(count: int = 1, side: int = 20) -> Tensor:
    """Speckle of one look around -12 dB, in power."""
    torch.manual_seed(0)
    shape = (1, count, side, side)
    return 10**-1.2 * torch.distributions.Exponential(1.0).sample(shape)


@pytest.mark.parametrize(
    'unit, of_power', [('power', lambda p: p), ('amplitude', torch.sqrt)]
)
def test_linear_units_give_the_decibel_of_the_same_power(
    unit: str, of_power: type[Tensor]
) -> None:
    power = backscatter()
    radar = StandardizeRadar([1.0], [1.0], [unit])
    expected = 10 * power.log10()
    torch.testing.assert_close(radar.decibel(of_power(power)), expected)
    same = StandardizeRadar([-12.0], [5.0], ['dB'])
    torch.testing.assert_close(same.decibel(expected), expected)


def test_values_beyond_the_limits_are_as_far_as_the_limits() -> None:
    radar = StandardizeRadar([-10.0], [5.0], ['dB'], [-25.0], [0.0])
    image = torch.tensor([-40.0, -25.0, -10.0, 0.0, 30.0]).view(1, 1, 1, 5)
    assert radar(image).flatten().tolist() == [-3.0, -3.0, 0.0, 2.0, 2.0]


def test_limits_are_three_standard_deviations_where_none_are_given() -> None:
    radar = StandardizeRadar([-10.0, 5.0], [2.0, 1.0], ['dB', ''])
    image = torch.tensor([-99.0, 99.0]).expand(1, 2, 1, 2)
    assert radar(image).tolist() == [[[[-3.0, 3.0]], [[-104.0, 94.0]]]]


@pytest.mark.parametrize('missing', [math.nan, 0.0])
def test_what_was_not_measured_is_the_mean(missing: float) -> None:
    radar = StandardizeRadar([0.06], [0.06], ['power'], speckle=[3, 1.0])
    image = backscatter()
    image[..., 4, 5] = missing
    result = radar(image)
    assert result.isfinite().all()
    assert result[0, 0, 4, 5] == 0


def test_statistics_of_log_normal_power_are_those_of_its_decibels() -> None:
    torch.manual_seed(0)
    decibel = -12 + 3 * torch.randn(200_000, dtype=torch.float64)
    for unit, factor in (('power', 10), ('amplitude', 20)):
        linear = 10 ** (decibel / factor)
        (center,), (spread,) = decibel_statistics(
            [unit], [float(linear.mean())], [float(linear.std())]
        )
        assert center == pytest.approx(-12, abs=0.05)
        assert spread == pytest.approx(3, abs=0.05)


def test_linear_power_that_is_declared_as_decibel_is_refused_with_a_hint() -> None:
    radar = StandardizeRadar([0.06], [0.06], ['dB'])
    with pytest.raises(ValueError, match=r'declared as dB.*Declare power or amplitude'):
        radar(backscatter())


def test_raw_numbers_that_are_declared_as_decibel_are_refused() -> None:
    radar = StandardizeRadar([2000.0], [900.0], ['dB'])
    with pytest.raises(ValueError, match='linear power or amplitude'):
        radar(2000 + 900 * torch.rand(1, 1, 20, 20))


@pytest.mark.parametrize('unit', ['power', 'amplitude'])
def test_decibels_that_are_declared_as_linear_are_refused(unit: str) -> None:
    radar = StandardizeRadar([1.0], [1.0], [unit])
    with pytest.raises(ValueError, match=r'never negative.*declare dB'):
        radar(10 * backscatter().log10())
    with pytest.raises(ValueError, match=r'never negative.*declare dB'):
        StandardizeRadar([-12.0], [4.0], [unit])


@pytest.mark.parametrize('offset', [0.0, 30.0])
def test_decibels_are_accepted_whether_they_are_calibrated_or_not(
    offset: float,
) -> None:
    decibel = 10 * backscatter().log10() + offset
    StandardizeRadar([-12.0 + offset], [5.0], ['dB'])(decibel)


def test_a_few_pixels_say_nothing_about_their_unit() -> None:
    image = torch.full((1, 1, 20, 20), math.nan)
    image[..., :3, :3] = 0.5
    assert StandardizeRadar([-12.0], [5.0], ['dB'])(image).isfinite().all()


def test_complex_is_no_unit_of_a_network() -> None:
    with pytest.raises(ValueError, match=r'got complex.*open_radar'):
        StandardizeRadar([1.0], [1.0], ['complex'])
    with pytest.raises(ValueError, match=r"power or amplitude .*got 'db'"):
        StandardizeRadar([1.0], [1.0], ['db'])


def test_without_radar_bands_are_standardized_as_ever() -> None:
    assert isinstance(standardizer([0.0], [1.0]), Standardize)


@settings(max_examples=20, deadline=None)
@given(level=st.floats(1e-4, 1e4), side=st.sampled_from([3, 5, 7]))
def test_the_filter_leaves_even_ground_alone(level: float, side: int) -> None:
    power = torch.full((1, 1, 9, 9), level)
    torch.testing.assert_close(lee_filter(power, side, 4.4), power)


def test_the_filter_smooths_speckle_and_keeps_bright_corners() -> None:
    power = backscatter(side=64)
    power[..., 30, 30] = 100.0
    smooth = lee_filter(power, 5, 1.0)
    ground = smooth[..., :20, :20]
    assert ground.std() < 0.5 * power[..., :20, :20].std()
    mean = float(power[..., :20, :20].mean())
    assert float(ground.mean()) == pytest.approx(mean, rel=0.05)
    assert smooth[0, 0, 30, 30] > 90


def test_the_filter_does_not_let_missing_pixels_into_others() -> None:
    power = torch.ones(1, 1, 8, 8)
    power[..., :4] = math.nan
    smooth = lee_filter(power, 3, 1.0)
    assert smooth[..., :4].isnan().all()
    torch.testing.assert_close(smooth[..., 4:], power[..., 4:])


@pytest.mark.parametrize('speckle', [[4, 1.0], [1, 1.0], [3, 0.0]])
def test_a_filter_without_a_centre_or_looks_is_refused(speckle: list[float]) -> None:
    with pytest.raises(ValueError, match='odd side of at least 3'):
        StandardizeRadar([0.0], [1.0], ['dB'], speckle=speckle)


def test_speckle_has_mean_one_in_power_and_the_variance_of_its_looks() -> None:
    torch.manual_seed(0)
    noisy = RandomSpeckle(looks=4.0)(torch.zeros(1, 1, 300, 300))
    power = 10 ** (noisy / 10)
    assert float(power.mean()) == pytest.approx(1, abs=0.01)
    assert float(power.var()) == pytest.approx(1 / 4, rel=0.05)


def test_gain_moves_each_band_of_an_image_as_a_whole() -> None:
    torch.manual_seed(0)
    moved = RandomSpeckle(gain=1.0)(torch.zeros(2, 3, 4, 4))
    assert torch.equal(moved, moved[:, :, :1, :1].expand_as(moved))
    assert len(moved[:, :, 0, 0].unique()) == 6
    with pytest.raises(ValueError, match='at least 0'):
        RandomSpeckle(looks=-1)
