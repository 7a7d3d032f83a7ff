"""What lies between the ground and the sensor: sun, clouds and haze."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from eoseg_datasets.grid import Grid

from .fields import fractal_noise

#: Metres between the nodes of the raster that holds clouds and haze.
_SPACING = 20.0

#: Optical thickness from which a cloud hides the ground, or darkens it as a shadow.
OPAQUE = 0.7

#: Metres of sky beyond the scene: clouds there may throw their shadows into it.
_MARGIN = 2500.0


@dataclass(frozen=True)
class Sun:
    """Where the sun stands."""

    #: Degrees clockwise from north.
    azimuth: float
    #: Degrees above the horizon.
    elevation: float

    @property
    def direction(self) -> NDArray[np.float32]:
        """Unit vector to the sun: east, north, up."""
        azimuth, elevation = np.radians([self.azimuth, self.elevation])
        level = np.cos(elevation)
        return np.array(
            [level * np.sin(azimuth), level * np.cos(azimuth), np.sin(elevation)],
            np.float32,
        )


@dataclass(frozen=True)
class Atmosphere:
    """Clouds and haze over a piece of ground."""

    #: In the projection of the world.
    grid: Grid
    #: Optical thickness of the clouds, 0 in clear sky, of shape (H, W).
    clouds: NDArray[np.float32]
    #: Metres from the ground to the clouds.
    cloud_height: float
    #: Fraction of the light that haze scatters in the blue, of shape (H, W).
    haze: NDArray[np.float32]


def sun_at(when: datetime, lon: float, lat: float) -> Sun:
    """Where the sun stands, to a few degrees.

    Args:
        when: A moment in UTC.
        lon: Longitude in degrees.
        lat: Latitude in degrees.
    """
    day = when.timetuple().tm_yday
    hour = when.hour + when.minute / 60 + lon / 15
    declination = np.radians(-23.44 * np.cos(2 * np.pi * (day + 10) / 365))
    phi, angle = np.radians([lat, 15 * (hour - 12)])
    # The sun as seen from the equator, then tilted to the latitude.
    outward, east = np.cos(declination) * np.array([np.cos(angle), -np.sin(angle)])
    polar = np.sin(declination)
    north = np.cos(phi) * polar - np.sin(phi) * outward
    up = np.sin(phi) * polar + np.cos(phi) * outward
    azimuth, elevation = np.degrees([np.arctan2(east, north), np.arcsin(up)])
    return Sun(float(azimuth % 360), float(elevation))


def make_atmosphere(
    crs: CRS,
    bounds: tuple[float, float, float, float],
    share: float,
    rng: np.random.Generator,
) -> Atmosphere:
    """Fair-weather clouds in loose groups, and a little haze.

    Args:
        crs: Projection of the world.
        bounds: Left, bottom, right and top of the ground in it.
        share: Fraction of that ground under opaque clouds.
        rng: Source of randomness.
    """
    grid = _grid(crs, bounds)
    return Atmosphere(
        grid=grid,
        clouds=_clouds(rng, grid.shape, share),
        cloud_height=rng.uniform(700, 1200),
        haze=_haze(rng, grid.shape),
    )


def _grid(crs: CRS, bounds: tuple[float, float, float, float]) -> Grid:
    left, bottom, right, top = bounds
    left, top = left - _MARGIN, top + _MARGIN
    width, height = right + _MARGIN - left, top - bottom + _MARGIN
    return Grid(
        crs=crs,
        transform=Affine(_SPACING, 0, left, 0, -_SPACING, top),
        width=int(np.ceil(width / _SPACING)),
        height=int(np.ceil(height / _SPACING)),
    )


def _clouds(
    rng: np.random.Generator, shape: tuple[int, int], share: float
) -> NDArray[np.float32]:
    """Optical thickness of frayed cumulus; the margin does not count in the share."""
    puffs = fractal_noise(rng, shape, _SPACING, (1300, 30), 1.75)
    groups = fractal_noise(rng, shape, _SPACING, (4000, 1200), 3)
    towers = puffs + 0.6 * groups
    edge = round(_MARGIN / _SPACING)
    level = np.quantile(towers[edge:-edge, edge:-edge], 1 - share)
    return np.asarray(np.maximum(OPAQUE + 2.5 * (towers - level), 0), np.float32)


def _haze(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    veil = fractal_noise(rng, shape, _SPACING, (5000, 600), 2.5)
    uneven = 1 + 0.25 * np.clip(veil, -3, 3)
    return np.asarray(rng.uniform(0.03, 0.09) * uneven, np.float32)
