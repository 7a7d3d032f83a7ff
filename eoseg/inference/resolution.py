"""Read a scene at the resolution a model knows, and bring its map back."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import log
from typing import NamedTuple

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor

from eoseg_datasets.grid import Grid
from eoseg_datasets.scene import Scene

from .scene import Strip
from .target import ground_res

#: How many times coarser or finer a scene may be than those of the training: less than
#: between any two common sensors, more than rounding and oblique views make.
TOLERANCE = 1.25

#: Length of a degree of latitude in metres.
_DEGREE = 111_320

#: Rows that are brought back at a time.
ROWS = 64


def pixel_size(grid: Grid, res: float) -> tuple[float, float]:
    """Width and height of a pixel in metres, to be compared with that of a training.

    On the ground, or in units of the CRS: Web Mercator calls a metre what is half of one at
    60 degrees, and so may those who have named the resolution of the training.

    Args:
        grid: Of a scene.
        res: Ground sampling distance of the training in metres.

    Returns:
        Of the two, what is closer to *res*.
    """
    unit = _DEGREE if grid.crs.is_geographic else grid.crs.linear_units_factor[1]
    across, down = grid.res
    sizes = [ground_res(grid), (across * unit, down * unit)]
    return min(sizes, key=lambda size: abs(log(size[0] * size[1] / res**2)))


def times_coarser(grid: Grid, res: float) -> float:
    """How many times a pixel of a scene is as wide as one of the training.

    Args:
        grid: Of a scene that lies on Earth.
        res: Ground sampling distance of the training in metres.
    """
    across, down = pixel_size(grid, res)
    return float((across * down) ** 0.5 / res)


def at_resolution(scene: Scene, res: float) -> Scene:
    """The same scene with pixels of another size, over the same ground.

    What is coarser is read from an overview that fits, and averaged; what is finer is
    interpolated.

    Args:
        scene: Any scene that lies on Earth.
        res: Ground sampling distance in metres, met as closely as whole pixels can.
    """
    grid = scene.grid
    across, down = pixel_size(grid, res)
    width = max(round(grid.width * across / res), 1)
    height = max(round(grid.height * down / res), 1)
    scale = Affine.scale(grid.width / width, grid.height / height)
    return replace(scene, grid=Grid(grid.crs, grid.transform @ scale, width, height))


def seen_from(part: Window, onto: Grid, source: Grid) -> Window:
    """Pixels of a source that pixels of another grid over the same ground are made of."""
    left, width, top, height = (
        side
        for start, length, whole, other in (
            (part.col_off, part.width, onto.width, source.width),
            (part.row_off, part.height, onto.height, source.height),
        )
        for side in _needed(int(start), int(start + length), whole, other)
    )
    return Window(left, top, width, height)


def brought_back(
    strips: Iterable[Strip], source: Grid, scene: Scene, part: Window
) -> Iterator[Strip]:
    """Probabilities on the grid of a scene, from those on another over the same ground.

    They are interpolated between the middles of pixels; pixels that are not valid have no
    say. Which pixels of the scene are valid, it says itself.

    Args:
        strips: On *source*, together what :func:`seen_from` says.
        source: Their grid.
        scene: What to map.
        part: Part of the scene to give out.

    Yields:
        Strips that together are the part.

    Raises:
        RasterioError: If the scene cannot be read.
    """
    grid = scene.grid
    left, width = int(part.col_off), int(part.width)
    top, bottom = int(part.row_off), int(part.row_off + part.height)
    cols = _taps(left, left + width, grid.width, source.width)
    cols = cols.after(int(cols.first[0]))
    first = int(_taps(top, bottom, grid.height, source.height).first[0])
    held = torch.empty(0)
    for strip in strips:
        weight = torch.from_numpy(strip.valid.astype(np.float32))
        weighted = _weighted(strip.probabilities, weight)
        held = torch.cat([held, weighted], dim=1) if held.numel() else weighted
        while top < bottom:
            rows = _taps(top, min(top + ROWS, bottom), grid.height, source.height)
            # As many as can be made of what is there.
            rows = rows.before(first + held.shape[1])
            if not len(rows.first):
                break
            total = _between(_between(held, rows.after(first), dim=1), cols, dim=2)
            window = Window(left, top, width, len(rows.first))
            # A valid pixel has a share in one that is, but for rounding at an edge.
            probabilities = total[:-1] / total[-1].clamp(min=1e-6)
            yield Strip(window, probabilities, scene.valid(window))
            top += len(rows.first)
        if top < bottom:
            needed = int(_taps(top, top + 1, grid.height, source.height).first[0])
            # It may not have come yet, where the source is finer.
            needed = min(needed, first + held.shape[1])
            held, first = held[:, needed - first :], needed


def _weighted(probabilities: Tensor, weight: Tensor) -> Tensor:
    weight = weight.to(probabilities.device)[None]
    return torch.cat([probabilities * weight, weight])


class _Taps(NamedTuple):
    """Two pixels of a source line for each of other pixels, and the share of the second."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    share: NDArray[np.float32]

    def after(self, start: int) -> '_Taps':
        """The same of a source line whose first pixel is *start*."""
        return _Taps(self.first - start, self.second - start, self.share)

    def before(self, stop: int) -> '_Taps':
        """Those that need no source pixel from *stop* on."""
        count = int(np.searchsorted(self.second, stop))
        return _Taps(self.first[:count], self.second[:count], self.share[:count])


def _taps(start: int, stop: int, length: int, source: int) -> _Taps:
    middle = (np.arange(start, stop) + 0.5) * source / length - 0.5
    middle = np.clip(middle, 0, source - 1)
    first = np.floor(middle).astype(np.int64)
    second = np.minimum(first + 1, source - 1)
    return _Taps(first, second, (middle - first).astype(np.float32))


def _needed(start: int, stop: int, length: int, source: int) -> tuple[int, int]:
    """First pixel of a source line that pixels are made of, and how many there are."""
    first = int(_taps(start, start + 1, length, source).first[0])
    last = int(_taps(stop - 1, stop, length, source).second[0])
    return first, last + 1 - first


def _between(values: Tensor, taps: _Taps, dim: int) -> Tensor:
    first, second, share = (torch.from_numpy(tap).to(values.device) for tap in taps)
    shape = [1] * values.ndim
    shape[dim] = -1
    start = values.index_select(dim, first)
    return start.lerp_(
        values.index_select(dim, second), share.view(shape).expand_as(start)
    )
