"""The ground: a gravel river, hills, fields and grass."""

from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from scipy import ndimage

from eoseg_datasets.grid import Grid

from .fields import fractal_noise, per_band, smoothstep
from .relief import Relief, make_relief

#: Names of the bands as ESA has them: blue, green, red and near infrared, all of 10 m.
BANDS = ('B2', 'B3', 'B4', 'B8')

#: Fraction of the ground covered by vegetation at which the next level begins.
COVER_BREAKS = (0.12, 0.3, 0.5, 0.72)

#: Share of the grassland below each break.
_COVER_SHARES = (0.11, 0.3, 0.56, 0.8)

#: Metres between the nodes of the raster that holds the ground.
_SPACING = 10.0

#: Metres from the river to the road along it.
_ROAD = 420

#: Parcels are numbered by a hash below this prime; that two share a number is no harm.
_PARCELS = 65537

# Reflectance in the four bands.
_DARK_SOIL = (0.055, 0.078, 0.112, 0.195)
_BRIGHT_SOIL = (0.080, 0.121, 0.158, 0.250)
_GREEN_GRASS = (0.024, 0.062, 0.030, 0.420)
_DRY_GRASS = (0.052, 0.084, 0.098, 0.285)
_SCRUB = (0.017, 0.032, 0.020, 0.270)
_GRAVEL = (0.125, 0.147, 0.160, 0.195)
_WATER = (0.050, 0.064, 0.043, 0.024)


@dataclass(frozen=True)
class World:
    """The ground, on a raster that scenes on any grid are drawn from."""

    #: In a projection of its own, whose coordinates are metres from the centre.
    grid: Grid
    #: Fraction of the ground covered by vegetation, of shape (H, W).
    cover: NDArray[np.float32]
    #: Of level ground in full sun, of shape (C, H, W).
    reflectance: NDArray[np.float32]
    #: Rise per metre towards the east and towards the north, of shape (2, H, W).
    slope: NDArray[np.float32]


@dataclass(frozen=True)
class _River:
    """Gravel with a thread of water."""

    #: Metres from the middle of the main channel.
    distance: NDArray[np.float32]
    #: Fractions of a node that are gravel and water.
    gravel: NDArray[np.float32]
    water: NDArray[np.float32]


@dataclass(frozen=True)
class _Farmland:
    """What people made of the land."""

    farmed: NDArray[np.bool_]
    #: From 0, ploughed, to 1, in full growth; the same all over a parcel.
    growth: NDArray[np.float32]
    #: From 0, fresh, to 1, dry as straw; the same all over a parcel.
    dryness: NDArray[np.float32]
    #: From 0 to 1; differs from one side of a fence to the other.
    grazing: NDArray[np.float32]
    #: Fraction of a node that is road or track.
    track: NDArray[np.float32]


def make_world(
    lon: float, lat: float, shape: tuple[int, int], rng: np.random.Generator
) -> World:
    """Grassland in a hilly country with a river.

    Args:
        lon: Longitude of the centre in degrees.
        lat: Latitude of the centre in degrees.
        shape: Height and width in nodes, which are 10 m apart.
        rng: Source of randomness.
    """
    across = _across_valley(rng, shape)
    relief = make_relief(rng, across, _SPACING)
    river = _river(rng, across)
    farmland = _farmland(rng, across, relief)
    scrub = _scrub(rng, relief, river, farmland)
    cover = _cover(rng, relief, river, farmland, scrub)
    reflectance = _reflectance(rng, relief, river, farmland, scrub, cover)
    return World(_grid(lon, lat, shape), cover, reflectance, relief.slope)


def _grid(lon: float, lat: float, shape: tuple[int, int]) -> Grid:
    height, width = shape
    crs = CRS.from_string(f'+proj=tmerc +lon_0={lon} +lat_0={lat} +datum=WGS84')
    left, top = -width / 2 * _SPACING, height / 2 * _SPACING
    return Grid(crs, Affine(_SPACING, 0, left, 0, -_SPACING, top), width, height)


def _axes(shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Metres to the east, of shape (1, W), and to the north, of shape (H, 1)."""
    height, width = shape
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) * _SPACING
    y = (height / 2 - 0.5 - np.arange(height, dtype=np.float32)) * _SPACING
    return x[None], y[:, None]


def _noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    coarsest: float,
    finest: float,
    smoothness: float = 2.0,
) -> NDArray[np.float32]:
    return fractal_noise(rng, shape, _SPACING, (coarsest, finest), smoothness)


def _lay(
    under: NDArray[np.float32],
    over: NDArray[np.float32],
    fraction: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Cover a fraction of every node with something else."""
    return np.asarray(under + (over - under) * fraction, np.float32)


def _across_valley(
    rng: np.random.Generator, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """A bent coordinate across the valley, in about metres; the river is where it is 0.

    It grows all the way across, or else the river would close to rings.
    """
    x, y = _axes(shape)
    direction = rng.uniform(0.1, 0.6)
    along = x * np.cos(direction) + y * np.sin(direction)
    along += 160 * _noise(rng, shape, 1600, 700, 3)
    length = shape[0] + shape[1]
    bends = 650 * _noise(rng, (1, length), 6000, 1500, 3)
    bends += 170 * _noise(rng, (1, length), 1600, 600, 3)
    meander = np.interp(along, _axes((1, length))[0][0], bends[0])
    straight = y * np.cos(direction) - x * np.sin(direction)
    return np.asarray(straight + meander, np.float32)


def _distance(across: NDArray[np.float32]) -> NDArray[np.float32]:
    """Metres from the line where a bent coordinate is 0."""
    steepness = np.hypot(*np.gradient(across, _SPACING))
    return np.asarray(np.abs(across) / np.maximum(steepness, 0.3), np.float32)


def _river(rng: np.random.Generator, across: NDArray[np.float32]) -> _River:
    """A braided river: arms that part and meet, with a thread of water in one."""
    shape = across.shape
    distance = _distance(across)
    width = np.clip(32 + 25 * _noise(rng, shape, 1500, 500, 3), 6, 90)
    gravel = smoothstep(distance - width, 10, -10)
    near = smoothstep(distance, 320, 220)
    for _ in range(2):
        arm = _distance(across + 75 * _noise(rng, shape, 900, 250, 3))
        gravel = np.maximum(gravel, near * smoothstep(arm - 0.7 * width, 10, -10))
    thread = _distance(across + 14 * _noise(rng, shape, 400, 100, 3))
    return _River(distance, gravel, smoothstep(thread - 9, 8, -8))


def _farmland(
    rng: np.random.Generator, across: NDArray[np.float32], relief: Relief
) -> _Farmland:
    """Blocks of land between tracks, cut into parcels where it is flat."""
    shape = across.shape
    block, count = _blocks(rng, shape, pitch=80)
    parcel = _parcels(rng, block, count)
    flat = smoothstep(np.hypot(*relief.slope), 0.15, 0.06)
    flatness = ndimage.mean(flat, block, np.arange(count))
    farmed = ((flatness > 0.5) & (rng.random(count) < 0.9))[block]
    road = smoothstep(_distance(across - _ROAD), 11, 4)
    growth, dryness = rng.random((2, _PARCELS), np.float32)
    return _Farmland(
        farmed=farmed,
        growth=growth[parcel],
        dryness=0.8 * dryness[parcel],
        grazing=rng.random(count, np.float32)[block],
        track=np.maximum(road, _borders(block) & farmed),
    )


def _blocks(
    rng: np.random.Generator, shape: tuple[int, int], pitch: int
) -> tuple[NDArray[np.int64], int]:
    """Number of the nearest of many scattered points, and how many there are."""
    rows, cols = np.arange(0, shape[0], pitch), np.arange(0, shape[1], pitch)
    points = np.stack(np.meshgrid(rows, cols, indexing='ij')).reshape(2, -1)
    points += pitch // 2 + rng.integers(-pitch * 2 // 5, pitch * 2 // 5, points.shape)
    points = np.clip(points, 0, np.array(shape)[:, None] - 1)
    number = np.zeros(shape, np.int64)
    number[tuple(points)] = np.arange(points.shape[1])
    empty = np.ones(shape, np.bool_)
    empty[tuple(points)] = False
    nearest = ndimage.distance_transform_edt(
        empty, return_distances=False, return_indices=True
    )
    return number[tuple(nearest)], points.shape[1]


def _parcels(
    rng: np.random.Generator, block: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Cut every block into parcels like bricks in a wall, each block in its own way."""
    x, y = _axes(block.shape)
    angle = rng.normal(0.4, 0.35, count).astype(np.float32)
    width = rng.uniform(90, 280, count).astype(np.float32)[block]
    length = rng.uniform(300, 800, count).astype(np.float32)[block]
    east, north = np.cos(angle)[block], np.sin(angle)[block]
    row = np.floor((x * east + y * north) / length).astype(np.int64)
    shift = rng.random(997, np.float32)[(row * 31 + block * 7) % 997]
    column = np.floor((y * east - x * north) / width + shift).astype(np.int64)
    number = (block * 7919 + row * 10007 + column * 1299709) % _PARCELS
    return np.asarray(number, np.int64)


def _borders(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Nodes that differ from the one above or to the left."""
    border = np.zeros(labels.shape, np.bool_)
    border[1:] |= labels[1:] != labels[:-1]
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return border


def _scrub(
    rng: np.random.Generator, relief: Relief, river: _River, farmland: _Farmland
) -> NDArray[np.float32]:
    """Fraction under dark bushes: along the river, in gullies and on shady slopes."""
    shape = river.distance.shape
    clumps = _noise(rng, shape, 220, 25, 1.5)
    fringe = 60 * _noise(rng, shape, 500, 60)
    near = smoothstep(river.distance + fringe, 330, 250)
    banks = near * smoothstep(clumps, -0.2, 0.5)
    shady = relief.drainage - 0.9 * relief.slope[1] + 0.18 * clumps
    wild = smoothstep(shady, 0.5, 0.66) * ~farmland.farmed
    return np.asarray(np.maximum(banks, wild) * (1 - river.gravel), np.float32)


def _cover(
    rng: np.random.Generator,
    relief: Relief,
    river: _River,
    farmland: _Farmland,
    scrub: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Fraction of the ground covered by vegetation."""
    sown = np.interp(farmland.growth, (0, *_COVER_SHARES, 1), (0, *COVER_BREAKS, 1))
    sown += 0.05 * _noise(rng, scrub.shape, 250, 60)
    cover = np.where(farmland.farmed, sown, _natural_cover(rng, relief, farmland))
    bare = np.maximum(np.maximum(river.gravel, river.water), 0.9 * farmland.track)
    cover = np.maximum(cover, 0.95 * scrub) * (1 - bare)
    return np.asarray(np.clip(cover, 0, 1), np.float32)


def _natural_cover(
    rng: np.random.Generator, relief: Relief, farmland: _Farmland
) -> NDArray[np.float32]:
    """Lush in valleys and on shady slopes, sparse on ridges and where grazed hard."""
    shape = relief.drainage.shape
    sunny = np.clip(relief.slope[1], -0.3, 0.3)  # it rises to the north
    vigour = 0.6 * _noise(rng, shape, 2200, 120, 2.2)
    vigour += 0.3 * _noise(rng, shape, 350, 60, 2.0)
    vigour += 0.15 * _noise(rng, shape, 150, 25, 1.5)
    vigour += 2.8 * relief.drainage - 0.03 * relief.prominence - 2.0 * sunny
    vigour -= 0.8 * farmland.grazing
    vigour -= 1.2 * smoothstep(_noise(rng, shape, 700, 80, 2.0), 0.9, 1.8)
    shares = np.quantile(vigour[::4, ::4], (0, *_COVER_SHARES, 1))
    return np.asarray(np.interp(vigour, shares, (0, *COVER_BREAKS, 1)), np.float32)


def _reflectance(
    rng: np.random.Generator,
    relief: Relief,
    river: _River,
    farmland: _Farmland,
    scrub: NDArray[np.float32],
    cover: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Mixture of soil, grass, scrub, gravel and water, of shape (C, H, W)."""
    shape = cover.shape
    pale = smoothstep(_noise(rng, shape, 1500, 40, 1.6), -1.8, 1.8)
    soil = _lay(per_band(_DARK_SOIL), per_band(_BRIGHT_SOIL), pale)
    wild = 0.35 + 0.22 * _noise(rng, shape, 2500, 60, 1.7) + 0.7 * relief.slope[1]
    dryness = np.clip(np.where(farmland.farmed, farmland.dryness, wild), 0, 1)
    grass = _lay(per_band(_GREEN_GRASS), per_band(_DRY_GRASS), dryness)
    # Leaves scatter near infrared to the soil and back: thin grass shows there first.
    share = np.stack([cover, cover, cover, (1 - np.exp(-2 * cover)) / (1 - np.exp(-2))])
    gravel = per_band(_GRAVEL) * (1 + 0.08 * _noise(rng, shape, 200, 20, 1.2))
    ground = _lay(soil, grass, share)
    ground = _lay(ground, per_band(_SCRUB), 0.85 * scrub)
    ground = _lay(ground, gravel, np.maximum(river.gravel, 0.6 * farmland.track))
    ground = _lay(ground, per_band(_WATER), river.water)
    texture = 1 + 0.08 * _noise(rng, shape, 120, 20, 1.0)
    texture += 0.04 * _noise(rng, shape, 900, 20, 1.3)
    return np.asarray(ground * np.maximum(texture, 0.5), np.float32)
