"""Hills and valleys carved by water."""

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .fields import fractal_noise, smoothstep

#: Water is routed on a raster this many times coarser; the result is interpolated.
_COARSE = 5

#: Rounds of routing the water and grading its bed; after four little changes.
_ROUNDS = 4


@dataclass(frozen=True)
class Relief:
    """Shape of the ground."""

    #: Metres above the land around, of shape (H, W): ridges rise, valleys lie below.
    prominence: NDArray[np.float32]
    #: Rise per metre towards the east and towards the north, of shape (2, H, W).
    slope: NDArray[np.float32]
    #: 0 on ridges, 1 where most water gathers, of shape (H, W).
    drainage: NDArray[np.float32]


def make_relief(
    rng: np.random.Generator, across: NDArray[np.float32], spacing: float
) -> Relief:
    """Hills around the flood plain of a river.

    Valleys branch as real ones do because they are made as real ones are: water finds
    its way down to the plain, and every brook is graded to a slope that falls with the
    area it drains (the steady state of the stream power law).

    Args:
        rng: Source of randomness.
        across: Metres from the river, negative on one side, of shape (H, W).
        spacing: Metres between nodes.
    """
    river = ndimage.zoom(across, 1 / _COARSE, order=1, grid_mode=True, mode='nearest')
    coarse, area = _carve(rng, np.abs(river), spacing * _COARSE)
    coarse = ndimage.gaussian_filter(coarse, 1.0)
    prominence = coarse - ndimage.gaussian_filter(coarse, 5)
    nodes = _wavering_nodes(rng, across.shape, spacing)
    height = _interpolate(coarse, nodes)
    height += fractal_noise(rng, across.shape, spacing, (300, 40), 2.2)
    north, east = np.gradient(height, -spacing, spacing)
    return Relief(
        prominence=_interpolate(prominence, nodes),
        slope=np.stack([east, north]),
        drainage=_interpolate(smoothstep(np.log(area), 1, 7), nodes),
    )


def _carve(
    rng: np.random.Generator, distance: NDArray[np.float32], spacing: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Height, and the number of nodes that a node drains."""
    shape = distance.shape
    width = 850 + 250 * fractal_noise(rng, shape, spacing, (3000, 1000), 3)
    plain = distance < np.maximum(width, 250)
    hardness = 0.6 * np.exp(0.9 * rng.standard_normal(shape, np.float32))
    height = 0.03 * distance
    height += 60 * fractal_noise(rng, shape, spacing, (3000, 2 * spacing), 2)
    for _ in range(_ROUNDS):
        order, outlet = _route(ndimage.gaussian_filter(height, 1.0), plain)
        area = _gather(order, outlet, shape)
        rise = np.minimum(hardness * (area + 1) ** -0.45, 0.6) * spacing
        height = _grade(order, outlet, rise)
    return height, area


def _route(
    height: NDArray[np.float32], sinks: NDArray[np.bool_]
) -> tuple[list[int], list[int]]:
    """Let the water of every node find its way to a sink, over sills if need be.

    Returns:
        Flat indices of the nodes, each after the one that takes its water, and for each
        node the one that takes its water, itself if none does.
    """
    rows, cols = height.shape
    inside = np.pad(np.ones((rows - 2, cols - 2), np.bool_), 1)
    level = height.ravel().tolist()
    done = bytearray((sinks | ~inside).tobytes())
    heap = [(level[i], i) for i in np.flatnonzero(sinks & inside).tolist()]
    heapify(heap)
    order, outlet = [], list(range(rows * cols))
    around = (-cols, -1, 1, cols, -cols - 1, -cols + 1, cols - 1, cols + 1)
    while heap:
        water, i = heappop(heap)
        order.append(i)
        for j in [i + step for step in around]:
            if not done[j]:
                done[j] = True
                outlet[j] = i
                heappush(heap, (max(water, level[j]), j))
    return order, outlet


def _gather(
    order: list[int], outlet: list[int], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Number of nodes whose water passes through a node, itself included."""
    area = [1] * len(outlet)
    for i in reversed(order):
        if outlet[i] != i:
            area[outlet[i]] += area[i]
    return np.array(area, np.float32).reshape(shape)


def _grade(
    order: list[int], outlet: list[int], rise: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Height of every node: that of its outlet and a rise on top; 0 for a sink."""
    stride = np.abs(np.array(outlet) - np.arange(rise.size))
    diagonal = np.isin(stride, (0, 1, rise.shape[1]), invert=True)
    step = (rise.ravel() * np.where(diagonal, 2**0.5, 1)).tolist()
    height = [0.0] * rise.size
    for i in order:
        if outlet[i] != i:
            height[i] = height[outlet[i]] + step[i]
    graded = np.array(height, np.float32).reshape(rise.shape)
    return np.pad(graded[1:-1, 1:-1], 1, mode='edge')


def _wavering_nodes(
    rng: np.random.Generator, shape: tuple[int, int], spacing: float
) -> NDArray[np.float32]:
    """Places on the coarse raster, drawn aside to hide that it has eight directions."""
    aside = [fractal_noise(rng, shape, spacing, (1000, 200), 3) for _ in shape]
    nodes = np.indices(shape, np.float32) + np.stack(aside) * 50 / spacing
    return np.asarray((nodes + 0.5) / _COARSE - 0.5, np.float32)


def _interpolate(
    coarse: NDArray[np.float32], nodes: NDArray[np.float32]
) -> NDArray[np.float32]:
    fine = ndimage.map_coordinates(
        coarse, nodes, order=3, prefilter=False, mode='nearest'
    )
    return np.asarray(fine, np.float32)
