"""Where a raster lies on the Earth."""

from functools import lru_cache
from itertools import pairwise
from math import ceil, floor

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from shapely import MultiPolygon, Polygon, box, get_parts, make_valid, union_all
from shapely.affinity import translate

from .grid import Grid

#: Points on each edge of a footprint, which is curved in another CRS.
_EDGE = 16


def footprint(grid: Grid, inset: float = 0) -> Polygon | MultiPolygon | None:
    """Outline of a raster in longitude and latitude.

    Args:
        grid: Where the raster lies.
        inset: Pixels that the outline is moved inwards. With 0.5 it runs through the
            centres of the outer pixels, so that neighbours do not meet.

    Returns:
        A polygon; where the raster crosses the antimeridian, several that are cut
        there. None for pictures that lie nowhere on Earth.
    """
    to_ground = _to_ground(grid.crs)
    if to_ground is None:
        return None
    points = np.concatenate(edges(grid, inset)).T
    ring = np.stack(to_ground.transform(*moved(points, grid.transform)), axis=1)
    if not np.isfinite(ring).all():
        return None
    # Without jumps: neighbours are less than half a turn apart.
    ring[:, 0] = np.unwrap(ring[:, 0], period=360)
    if abs(ring[-1, 0] - ring[0, 0]) > 180:
        ring = _round_pole(ring)
    shape = Polygon(ring)
    if ring[:, 0].min() >= -180 and ring[:, 0].max() <= 180:
        return shape
    return _on_the_map(shape)


def edges(grid: Grid, inset: float = 0) -> list[NDArray[np.float64]]:
    """Points on the top, right, bottom and left edge, in order around a raster.

    Args:
        grid: The raster.
        inset: Pixels that the edges are moved inwards.

    Returns:
        Columns and rows of the points of each edge, of shape (N, 2).
    """
    left, right = inset, grid.width - inset
    top, bottom = inset, grid.height - inset
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return [np.linspace(start, stop, _EDGE + 1) for start, stop in pairwise(corners)]


def moved(points: NDArray[np.float64], by: Affine) -> NDArray[np.float64]:
    """Points of shape (2, N) through an affine transform."""
    x, y = points
    return np.stack([by.a * x + by.b * y + by.c, by.d * x + by.e * y + by.f])


@lru_cache
def _to_ground(crs: CRS | None) -> pyproj.Transformer | None:
    system = None if crs is None else pyproj.CRS.from_user_input(crs)
    if system is None or system.geodetic_crs is None:
        return None
    return pyproj.Transformer.from_crs(system, 'EPSG:4326', always_xy=True)


def _round_pole(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Close a ring that goes once round the Earth over the pole that it holds."""
    pole = 90.0 if ring[:, 1].mean() > 0 else -90.0
    return np.vstack([ring, [(ring[-1, 0], pole), (ring[0, 0], pole)]])


def _on_the_map(shape: Polygon) -> Polygon | MultiPolygon:
    """A polygon cut at the antimeridian, each part between -180 and 180 degrees."""
    whole = make_valid(shape)
    west, _, east, _ = whole.bounds
    turns = range(floor((west + 180) / 360), ceil((east + 180) / 360))
    world = box(-180, -90, 180, 90)
    # A ring round a pole begins anywhere, and its ends meet there again.
    merged = union_all([translate(whole, -360 * turn) & world for turn in turns])
    parts = [
        part
        for part in get_parts(merged)
        if isinstance(part, Polygon) and part.area > 0
    ]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)
