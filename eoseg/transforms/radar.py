"""Radar: from stored numbers to what a network sees, and speckle."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .standardize import Standardize

#: Decibels per power of ten of what each unit counts; backscatter in decibel has none.
UNITS = {'dB': 0.0, 'power': 10.0, 'amplitude': 20.0}

#: Standard deviations around the mean that are kept where no limits are given.
REACH = 3.0

#: No backscatter has as many decibels, calibrated or not: 20 log10 of a 16-bit amplitude
#: is 96. Larger numbers are linear ones.
MOST_DECIBELS = 150.0

#: Pixels with a value from which on the range of a band says something about its unit.
TELLING = 256


class StandardizeRadar(nn.Module):
    """Radar bands in decibel, within limits, with mean 0 and standard deviation 1.

    In linear units a few bright corners dwarf everything else, and speckle grows with
    the signal; in decibel it is added to it. Other bands, whose unit is '', are
    standardized as :class:`Standardize` does. Pixels that are not valid come as NaN and
    leave as 0, the mean; so do those whose power is 0, where nothing was measured.
    """

    factor: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        units: Sequence[str],
        low: Sequence[float | None] | None = None,
        high: Sequence[float | None] | None = None,
        speckle: Sequence[float] | None = None,
    ) -> None:
        """Initialize a new StandardizeRadar instance.

        Args:
            mean: Mean of each band, in its unit.
            std: Standard deviation of each band, in its unit.
            units: Unit of each band: dB, power, amplitude, or '' for other bands.
            low: Least value of each band that is told apart, in decibel. None, for all
                or for some, is 3 standard deviations below the mean.
            high: Greatest value likewise.
            speckle: Side in pixels and number of looks of :func:`lee_filter`. None
                leaves speckle as it is.

        Raises:
            ValueError: If a unit is unknown, limits are not in order, or the side is not
                odd or the looks not positive.
        """
        super().__init__()
        check_units(units)
        self.units = tuple(units)
        center, spread = decibel_statistics(units, mean, std)
        self.finish = Standardize(center, spread)
        open_ended = (None,) * len(units)
        lows = [
            _limit(given, unit, c - REACH * s, -math.inf)
            for given, unit, c, s in zip(
                low or open_ended, units, center, spread, strict=True
            )
        ]
        highs = [
            _limit(given, unit, c + REACH * s, math.inf)
            for given, unit, c, s in zip(
                high or open_ended, units, center, spread, strict=True
            )
        ]
        if any(a >= b for a, b in zip(lows, highs, strict=True)):
            raise ValueError(
                f'lower limits must be below upper ones, got {lows} and {highs} dB'
            )
        self.speckle = None if speckle is None else _checked_filter(*speckle)
        factors = [UNITS.get(unit, 0.0) for unit in units]
        # Not in the state dict: the checkpoint holds them in words, as inputs.
        for name, values in (('factor', factors), ('low', lows), ('high', highs)):
            column = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, column, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Standardize images.

        Args:
            image: Of shape (B, C, H, W) in the units of the bands, NaN where a pixel is
                not valid.

        Returns:
            Images of the same shape, all finite.

        Raises:
            ValueError: If the numbers of a band cannot be in its unit.
        """
        return self.from_decibel(self.decibel(image))

    def decibel(self, image: Tensor) -> Tensor:
        """Radar bands in decibel, without speckle if it is filtered.

        Args:
            image: As :meth:`forward` takes it.

        Returns:
            Images of the same shape, NaN where a pixel is not valid.

        Raises:
            ValueError: If the numbers of a band cannot be in its unit.
        """
        check_range(image, self.units)
        positive = image.where(image > 0, math.nan)
        decibel = torch.where(
            self.factor > 0, self.factor * positive.log10(), image.float()
        )
        if self.speckle is None:
            return decibel
        radar = [i for i, unit in enumerate(self.units) if unit]
        side, looks = self.speckle
        power = lee_filter(10 ** (decibel[:, radar] / 10), side, looks)
        decibel = decibel.clone()
        decibel[:, radar] = 10 * power.log10()
        return decibel

    def from_decibel(self, decibel: Tensor) -> Tensor:
        """Cut off at the limits and standardize.

        Args:
            decibel: What :meth:`decibel` gives.

        Returns:
            Images of the same shape, all finite.
        """
        within = torch.clamp(decibel, self.low, self.high)
        standardized: Tensor = self.finish(within)
        return standardized


class RandomSpeckle(nn.Module):
    """Speckle and a change of gain, drawn anew for each image, in decibel.

    Speckle multiplies the power of each pixel by a number of the gamma distribution with
    mean 1, so that in decibel it is added. What is drawn for one pixel knows nothing of
    its neighbours; real speckle does, as a pixel is smaller than the resolution. Colours,
    blur and contrast of photographs have no meaning in radar.
    """

    def __init__(self, looks: float = 0.0, gain: float = 0.0) -> None:
        """Initialize a new RandomSpeckle instance.

        Args:
            looks: Number of looks of the added speckle, more for weaker one; 0 for none.
            gain: Standard deviation of what is added to each band of an image, in
                decibel, as calibration and angle of view vary.

        Raises:
            ValueError: If one of them is negative.
        """
        super().__init__()
        if min(looks, gain) < 0:
            raise ValueError(
                f'looks and gain must be at least 0, got {looks} and {gain}'
            )
        self.looks, self.gain = looks, gain

    def forward(self, decibel: Tensor) -> Tensor:
        """Change images.

        Args:
            decibel: Images of shape (B, C, H, W) in decibel.
        """
        if self.looks:
            shape = torch.full_like(decibel, self.looks)
            power = torch.distributions.Gamma(shape, shape, validate_args=False)
            decibel = decibel + 10 * power.sample().clamp(min=1e-6).log10()
        if self.gain:
            decibel = decibel + self.gain * torch.randn_like(decibel[:, :, :1, :1])
        return decibel


def standardizer(
    mean: Sequence[float], std: Sequence[float], radar: Mapping[str, Any] | None = None
) -> nn.Module:
    """What brings images to mean 0 and standard deviation 1.

    Args:
        mean: Mean of each band, in the units of the reader.
        std: Standard deviation of each band.
        radar: Further arguments of :class:`StandardizeRadar`; None where no band is said
            to be radar.
    """
    if radar is None:
        return Standardize(mean, std)
    return StandardizeRadar(mean, std, **radar)


def decibel_statistics(
    units: Sequence[str], mean: Sequence[float], std: Sequence[float]
) -> tuple[list[float], list[float]]:
    r"""Mean and standard deviation in decibel of bands in linear units.

    As if the numbers :math:`x` were distributed log-normally, as backscatter nearly is:
    the logarithm has the variance :math:`v = \ln(1 + s^2 / m^2)` and the mean
    :math:`\ln m - v / 2`. Bands in decibel, and others, have those they come with.

    Args:
        units: Unit of each band.
        mean: Mean :math:`m` of each band, in its unit.
        std: Standard deviation :math:`s` of each band.

    Returns:
        Means and standard deviations.

    Raises:
        ValueError: If the mean of a band in a linear unit is not positive.
    """
    centers, spreads = [], []
    for number, (unit, m, s) in enumerate(zip(units, mean, std, strict=True), 1):
        factor = UNITS.get(unit, 0.0)
        if not factor:
            centers.append(m)
            spreads.append(s)
            continue
        if m <= 0:
            raise ValueError(
                f'radar band {number} is declared as {unit}, which is never negative, '
                f'but its mean is {m:g}. Numbers like these are in decibel: declare dB'
            )
        variance = math.log1p((s / m) ** 2)
        centers.append(factor / math.log(10) * (math.log(m) - variance / 2))
        # A constant band stays finite.
        spreads.append(max(factor / math.log(10) * math.sqrt(variance), 1e-3))
    return centers, spreads


def lee_filter(power: Tensor, side: int, looks: float) -> Tensor:
    r"""Smooth speckle where an image varies no more than speckle does.

    With the mean :math:`m` and the variance :math:`v` of the window around a pixel
    :math:`x`, and speckle of the variance :math:`1 / L` around 1,

    .. math::

        m + k (x - m), \quad k = \max\left(1 - \frac{m^2}{L v}, 0\right)

    Args:
        power: Images of shape (B, C, H, W) in power, NaN where a pixel is not valid;
            such pixels count in no window.
        side: Side of the window in pixels, odd.
        looks: Number of looks :math:`L`: 1 for complex images, about 4.4 for
            Sentinel-1 GRD.

    Returns:
        Images of the same shape, NaN where *power* is.

    If you use this filter in your research, please cite the following paper:

    * https://doi.org/10.1109/TPAMI.1980.4766994
    """
    known = power.isfinite()
    values = power.where(known, 0.0)

    def around(image: Tensor) -> Tensor:
        return F.avg_pool2d(image, side, stride=1, padding=side // 2)

    count = around(known.float()).clamp(min=1e-6)
    mean = around(values) / count
    variance = (around(values**2) / count - mean**2).clamp(min=0)
    share = 1 - mean**2 / (looks * variance).clamp(min=1e-30)
    filtered = mean + share.clamp(0, 1) * (values - mean)
    return filtered.where(known, math.nan)


def check_units(units: Sequence[str]) -> None:
    """Refuse units that there are none of.

    Args:
        units: Unit of each band, '' for bands that are not radar.

    Raises:
        ValueError: If one is unknown.
    """
    for unit in units:
        if unit == 'complex':
            raise ValueError(
                'the unit of a radar band must be dB, power or amplitude, got complex: '
                'a network takes real numbers. Open complex files with '
                'eoseg_datasets.radar.open_radar, which gives their amplitude, and '
                'declare amplitude'
            )
        if unit not in UNITS and unit != '':
            raise ValueError(
                'the unit of a radar band must be dB, power or amplitude (or empty for '
                f'another band), got {unit!r}'
            )


def check_range(image: Tensor, units: Sequence[str]) -> None:
    """Refuse numbers that cannot be in the unit that they are said to be in.

    Args:
        image: Images of shape (B, C, H, W), NaN where a pixel is not valid.
        units: Unit of each band.

    Raises:
        ValueError: If a band in decibel has the range of linear numbers, or one in a
            linear unit has negative ones.
    """
    for number, (unit, band) in enumerate(zip(units, image.unbind(1), strict=True), 1):
        if not unit:
            continue
        known = band[band.isfinite()]
        if len(known) < TELLING:
            continue
        low, middle, high = (
            float(value) for value in (known.min(), known.median(), known.max())
        )
        found = (
            f'but its values are from {low:.4g} to {high:.4g}, half below {middle:.4g}'
        )
        if unit == 'dB' and (high > MOST_DECIBELS or (low >= 0 and middle <= 1)):
            raise ValueError(
                f'radar band {number} is declared as dB, {found}: those of linear power '
                'or amplitude. Declare power or amplitude, or convert the scenes to '
                'decibel (10 log10 of power)'
            )
        if unit != 'dB' and low < 0:
            raise ValueError(
                f'radar band {number} is declared as {unit}, which is never negative, '
                f'{found}. If they are in decibel, declare dB'
            )


def _limit(given: float | None, unit: str, default: float, never: float) -> float:
    if given is not None:
        return given
    return default if unit else never


def _checked_filter(side: float, looks: float) -> tuple[int, float]:
    if side != int(side) or int(side) % 2 == 0 or side < 3 or looks <= 0:
        raise ValueError(
            'the speckle filter needs an odd side of at least 3 pixels and a positive '
            f'number of looks, got {side} and {looks}'
        )
    return int(side), looks
