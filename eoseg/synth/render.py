"""What a satellite makes of a world: an image, and the truth about it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from scipy import ndimage

from eoseg_datasets.grid import Grid

from .atmosphere import OPAQUE, Atmosphere, Sun
from .fields import per_band, sample
from .world import COVER_BREAKS, World

#: Names of the classes; the index is the value. The first five are levels of cover.
CLASSES = (
    'low',
    'middle-low',
    'middle',
    'middle-high',
    'high',
    'cloud',
    'cloud shadow',
)

#: Colour of each class as '#rrggbb'; the levels of cover have those of the Grass set.
COLORS = ('#b96547', '#f8ca9b', '#d3e89e', '#8abf68', '#5c904d', '#eaf1fb', '#37445a')

#: Value of the truth where nothing was seen. An image is 0 there and nowhere else.
NODATA = 255

# Per band: light that comes from the sky instead of the sun, light that haze scatters
# compared with the blue, reflectance of a thick cloud.
_SKYLIGHT = (0.42, 0.34, 0.28, 0.20)
_HAZE = (1.0, 0.66, 0.42, 0.12)
_CLOUD = (0.72, 0.71, 0.70, 0.69)

#: Reflectance of haze too thick to see through.
_WHITEOUT = 0.32

#: Metres that clouds tower: one is darker where it stands in its own shadow.
_CLOUD_RELIEF = 90

#: Pixels from one position that is projected to the next; interpolated, the others are
#: right to a millimetre.
_KNOTS = 50


@dataclass(frozen=True)
class Acquisition:
    """Everything about a scene but the ground and the grid."""

    sun: Sun
    atmosphere: Atmosphere
    #: Error of the calibration of each band as a factor.
    gain: tuple[float, ...]
    #: Standard deviation of the noise, as reflectance.
    noise: float
    #: Seed of the noise.
    seed: int
    #: Azimuth in degrees at which the swath ends, and metres from the world's centre to
    #: its edge, which runs across that direction; infinite if it is not in the scene.
    edge: tuple[float, float]


def render(
    world: World, acquisition: Acquisition, grid: Grid
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Take a scene.

    Args:
        world: The ground.
        acquisition: Sun, atmosphere and sensor.
        grid: Where the pixels lie, in any CRS; inside the world and the atmosphere.

    Returns:
        Reflectance x 10000 of shape (C, H, W), and classes of shape (H, W).
    """
    xy = positions(grid, world.grid.crs)
    sun, air = acquisition.sun, acquisition.atmosphere
    overhead = sample(air.clouds, air.grid, xy)
    shading = sample(air.clouds, air.grid, _towards(sun, xy, air.cloud_height))
    sunlight = _sunlight(sample(world.slope, world.grid, xy), sun) * np.exp(-shading)
    ground = _illuminate(sample(world.reflectance, world.grid, xy), sunlight)
    sunward = sample(air.clouds, air.grid, _towards(sun, xy, _CLOUD_RELIEF))
    cloudy = _add_clouds(ground, overhead, sunward)
    hazy = _add_haze(cloudy, sample(air.haze, air.grid, xy))
    image = _measure(hazy, acquisition)
    truth = _classify(sample(world.cover, world.grid, xy), overhead, shading)
    outside = _beyond(xy, *acquisition.edge)
    image[:, outside] = 0
    truth[outside] = NODATA
    return image, truth


def positions(grid: Grid, crs: CRS) -> NDArray[np.float32]:
    """Where the centres of the pixels of a grid lie in another CRS.

    Args:
        grid: Grid in any CRS.
        crs: The other CRS.

    Returns:
        Coordinates x and y, of shape (2, H, W).
    """
    knots = [n // _KNOTS + 2 for n in grid.shape]
    ends = zip(grid.shape, knots, strict=True)
    row, col = np.meshgrid(*(np.linspace(0, n, k) for n, k in ends), indexing='ij')
    t = grid.transform
    x, y = t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f
    transformer = Transformer.from_crs(grid.crs.to_wkt(), crs.to_wkt(), always_xy=True)
    steps = (np.array(knots) - 1) / grid.shape
    between = (np.indices(grid.shape) + 0.5) * steps[:, None, None]
    projected = [
        ndimage.map_coordinates(knot, between, order=1)
        for knot in transformer.transform(x, y)
    ]
    return np.stack(projected).astype(np.float32)


def _towards(sun: Sun, xy: NDArray[np.float32], height: float) -> NDArray[np.float32]:
    """Where the rays from the ground to the sun reach a height in metres."""
    east, north, up = sun.direction
    return xy + per_band((east, north)) * np.float32(height / up)


def _sunlight(slope: NDArray[np.float32], sun: Sun) -> NDArray[np.float32]:
    """Sunlight on a slope, relative to level ground."""
    east, north, up = sun.direction
    facing = up - slope[0] * east - slope[1] * north
    facing /= np.sqrt(1 + slope[0] ** 2 + slope[1] ** 2)
    return np.asarray(np.maximum(facing, 0) / up, np.float32)


def _illuminate(
    reflectance: NDArray[np.float32], sunlight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Add the light of the sky, which reaches the shadows too."""
    sky = per_band(_SKYLIGHT)
    return reflectance * (sky + (1 - sky) * sunlight)


def _add_clouds(
    ground: NDArray[np.float32],
    thickness: NDArray[np.float32],
    sunward: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Put clouds over the ground: brighter on their sunny side, clear where thin.

    Args:
        ground: Reflectance of the ground, of shape (C, H, W).
        thickness: Optical thickness of the clouds, of shape (H, W).
        sunward: The same a little nearer to the sun, of shape (H, W).
    """
    relief = np.exp(-sunward / 5) - np.exp(-thickness / 5)
    brightness = 0.9 - 0.6 * np.exp(-thickness / 4) + 0.8 * relief
    clouds = per_band(_CLOUD) * np.clip(brightness, 0.2, 1.2)
    return np.asarray(clouds + (ground - clouds) * np.exp(-thickness), np.float32)


def _add_haze(
    image: NDArray[np.float32], haze: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Scatter a part of the light, most of it blue."""
    return image + (_WHITEOUT - image) * (per_band(_HAZE) * haze)


def _measure(
    image: NDArray[np.float32], acquisition: Acquisition
) -> NDArray[np.uint16]:
    """Numbers of the sensor: reflectance x 10000, never 0, which is left to nodata."""
    rng = np.random.default_rng(acquisition.seed)
    noise = acquisition.noise * rng.standard_normal(image.shape, np.float32)
    numbers = (image * per_band(acquisition.gain) + noise) * 10000
    return np.asarray(np.clip(np.rint(numbers), 1, 65535), np.uint16)


def _classify(
    cover: NDArray[np.float32],
    overhead: NDArray[np.float32],
    shading: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Cloud before shadow before cover, as one sees it from above."""
    classes = np.digitize(cover, COVER_BREAKS)
    classes[shading > OPAQUE] = CLASSES.index('cloud shadow')
    classes[overhead > OPAQUE] = CLASSES.index('cloud')
    return classes.astype(np.uint8)


def _beyond(
    xy: NDArray[np.float32], azimuth: float, distance: float
) -> NDArray[np.bool_]:
    """What lies farther than a distance in a direction."""
    east, north = np.sin(np.radians(azimuth)), np.cos(np.radians(azimuth))
    return np.asarray(xy[0] * east + xy[1] * north > distance)
