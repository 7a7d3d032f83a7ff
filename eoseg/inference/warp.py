"""Bring pixels from one grid to another: PROJ at a few points, torch for all the others.

PROJ says at the nodes of a coarse lattice where a block of the target lies among the
pixels of its source; between the nodes its answers are interpolated in double precision.
How wrong that is gets measured, and the lattice is refined until it is right. Where the
coordinates jump (at the antimeridian, a pole, the edge of a projection) PROJ is asked
about every pixel.

Positions are in pixels of the source: 0 is the left or upper edge of its first pixel,
0.5 the centre of that.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, floor, log2
from typing import Self

import numpy as np
import pyproj
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from eoseg_datasets.footprint import moved
from eoseg_datasets.grid import Grid

#: Largest error of a position when every second node is left out, in pixels of the source.
#: With all of them it is a quarter: so small that 999 labels of 1000 are on the right side
#: of the edges between pixels, though a fiftieth of a pixel would do for an image.
TOLERANCE = 0.002

#: Pixels of the target between two nodes: at first, and at the finest.
_COARSEST, _FINEST = 64, 4

#: Source pixels around what is needed: one for the kernel, one for rounding.
_MARGIN = 2

#: Size of a target pixel in source pixels, from which on their mean is taken.
_COARSER = 1.5

#: Share by which a ratio of pixel sizes may miss a whole number: projections stretch.
_STRETCH = 0.05

#: Widths of a window beyond which nothing is: further off, a position is no longer a whole
#: number of pixels that torch can hold.
_FAR = 1e4

#: Cylindrical projections, in which one turn of the Earth is a shift along x.
_CYLINDRICAL = (
    'Popular Visualisation Pseudo Mercator',
    'Mercator (variant A)',
    'Mercator (variant B)',
    'Equidistant Cylindrical',
    'Lambert Cylindrical Equal Area',
)

#: From columns (w,) and rows (h,) of a target to positions (2, h, w): column and row.
_Locate = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Positions:
    """Where the pixels of a target lie in a source, known for every pixel."""

    #: Column and row at the nodes, of shape (2, h, w) in float64; not finite where the
    #: source is not defined.
    nodes: Tensor
    #: Height and width of the target.
    shape: tuple[int, int]

    @property
    def step(self) -> int:
        """Pixels of the target between two nodes."""
        return 1

    def moved(self, scale: tuple[float, float], offset: tuple[float, float]) -> Self:
        """The same in other units: position x scale + offset, for columns and rows."""
        factor, shift = self.nodes.new_tensor([scale, offset])[:, :, None, None]
        return replace(self, nodes=self.nodes * factor + shift)

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        # Metal has no float64; there the positions are worked out on the CPU.
        is_metal = torch.device(device).type == 'mps'
        return self if is_metal else replace(self, nodes=self.nodes.to(device))

    def dense(self) -> Tensor:
        """Column and row of the centre of every pixel, of shape (2, H, W)."""
        return self.nodes

    def pixel(self) -> NDArray[np.float64]:
        """Size of a pixel of the target: (columns, rows) that a step right and down goes.

        The median over the target, of shape (2, 2); 1 where there is only one pixel.
        """
        right, down = self.nodes.diff(dim=2), self.nodes.diff(dim=1)
        steps = [_median(way.flatten(1)) / self.step for way in (right, down)]
        return np.stack(steps)

    def window(self, shape: tuple[int, int]) -> Window:
        """Whole pixels of the source to read, clipped to it.

        Args:
            shape: Height and width of the source.

        Returns:
            A window whose width or height is 0 if source and target do not meet.
        """
        height, width = shape
        cols, rows = self._near(shape)
        if cols.numel() == 0:
            return Window(0, 0, 0, 0)
        left, right = _interval(cols, width)
        top, bottom = _interval(rows, height)
        return Window(left, top, right - left, bottom - top)

    def reach(self) -> Tensor:
        """Positions between which all others lie, of shape (2, h, w)."""
        return self.nodes

    def meets(self, shape: tuple[int, int]) -> bool:
        """Whether a pixel of the target may have its centre in the source.

        Args:
            shape: Height and width of the source.
        """
        reach = self.reach().flatten(1)
        reach = reach[:, reach.isfinite().all(dim=0)]
        if reach.numel() == 0:
            return False
        limits = reach.new_tensor([shape[1], shape[0]])
        inside = (reach.amin(dim=1) < limits) & (reach.amax(dim=1) > 0)
        return bool(inside.all())

    def _near(self, shape: tuple[int, int]) -> Tensor:
        """Positions in the source or a pixel beside it, of shape (2, N)."""
        limits = self.nodes.new_tensor([shape[1], shape[0]])[:, None, None]
        near = (self.nodes > -1) & (self.nodes < limits + 1)
        return self.nodes[:, near.all(dim=0)]


@dataclass(frozen=True)
class Lattice(Positions):
    """Where the pixels of a target lie in a source, known at every few pixels.

    Node (i, j) is the corner of pixels at row i x step and column j x step.
    """

    #: Pixels of the target between two nodes.
    spacing: int

    @property
    def step(self) -> int:
        """Pixels of the target between two nodes."""
        return self.spacing

    def dense(self) -> Tensor:
        """Column and row of the centre of every pixel, of shape (2, H, W)."""
        height, width = self.shape
        nodes = self.nodes
        at = (torch.arange(self.step, dtype=nodes.dtype, device=nodes.device) + 0.5) / (
            self.step
        )
        rows = torch.lerp(nodes[:, :-1, None], nodes[:, 1:, None], at[:, None])
        rows = rows.flatten(1, 2)[:, :height]  # (2, H, w)
        return torch.lerp(rows[..., :-1, None], rows[..., 1:, None], at).flatten(2)[
            ..., :width
        ]

    def reach(self) -> Tensor:
        """Positions between which all others lie, of shape (2, h, w)."""
        nodes = self.nodes.clone()
        height, width = (
            side / self.step - (count - 2)
            for side, count in zip(self.shape, nodes.shape[1:], strict=True)
        )
        # The last nodes may lie beyond the target.
        nodes[:, -1] = torch.lerp(nodes[:, -2], nodes[:, -1], height)
        nodes[:, :, -1] = torch.lerp(nodes[:, :, -2], nodes[:, :, -1], width)
        return nodes

    def _near(self, shape: tuple[int, int]) -> Tensor:
        """All: what is between them can be in the source though they are not."""
        nodes = self.reach().flatten(1)
        return nodes[:, nodes.isfinite().all(dim=0)]


def locate(source: Grid, target: Grid, tolerance: float = TOLERANCE) -> Positions:
    """Where the pixels of a target lie in a source.

    Args:
        source: Grid to read from.
        target: Grid to fill: a block of some hundred pixels, not a whole scene.
        tolerance: Largest error in pixels of *source*; four times that of what is smooth.

    Raises:
        pyproj.exceptions.ProjError: If no transformation leads from one CRS to the other.
    """
    to_source = _locator(source, target)
    height, width = target.shape
    step = _COARSEST
    while step >= _FINEST:
        nodes = to_source(_nodes(width, step), _nodes(height, step))
        # Measured at twice the step: for what is smooth, a quarter of it is left.
        if not np.isfinite(nodes).any() or _error(nodes) <= tolerance:
            rows, cols = (ceil(side / step) + 1 for side in target.shape)
            return Lattice(torch.from_numpy(nodes[:, :rows, :cols]), target.shape, step)
        step //= 2
    nodes = to_source(_nodes(width, 1)[:width] + 0.5, _nodes(height, 1)[:height] + 0.5)
    return Positions(torch.from_numpy(nodes), target.shape)


def _nodes(length: int, step: int) -> NDArray[np.float64]:
    """An odd number of nodes that cover a line of pixels."""
    cells = 2 * ceil(length / (2 * step))
    return np.arange(0, (cells + 1) * step, step, dtype=np.float64)


def _error(nodes: NDArray[np.float64]) -> float:
    """Largest error at the other nodes when every second one is interpolated."""
    if not np.isfinite(nodes).all():
        return float('inf')
    guess = nodes[:, ::2, ::2]
    for axis in (1, 2):
        guess = _halved(guess, axis)
    return float(np.hypot(*(guess - nodes)).max())


def _halved(nodes: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Nodes with their means put between them."""
    nodes = np.moveaxis(nodes, axis, 0)
    result = np.empty((2 * len(nodes) - 1, *nodes.shape[1:]))
    result[::2] = nodes
    result[1::2] = (nodes[:-1] + nodes[1:]) / 2
    return np.moveaxis(result, 0, axis)


def _locator(source: Grid, target: Grid) -> _Locate:
    to_crs = transformation(target.crs, source.crs)
    turn = period(source.crs)
    middle, _ = source.transform @ (source.width / 2, source.height / 2)
    to_pixels = ~source.transform

    def positions(
        cols: NDArray[np.float64], rows: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        x, y = to_crs(*moved(np.stack(np.meshgrid(cols, rows)), target.transform))
        if turn is not None:
            x = nearest_turn(x, middle, turn)
        with np.errstate(invalid='ignore'):  # infinite outside of a projection
            return moved(np.stack([x, y]), to_pixels)

    return positions


def nearest_turn(
    x: NDArray[np.float64], middle: float, turn: float
) -> NDArray[np.float64]:
    """Coordinates x on that turn round the Earth that is nearest to *middle*."""
    with np.errstate(invalid='ignore'):
        return np.asarray(x - turn * np.round((x - middle) / turn))


@lru_cache
def transformation(
    source: CRS, target: CRS
) -> Callable[
    [NDArray[np.float64], NDArray[np.float64]],
    tuple[NDArray[np.float64], NDArray[np.float64]],
]:
    """Function from x and y in one CRS to those in another; infinite where undefined.

    Raises:
        pyproj.exceptions.ProjError: If no transformation leads from one to the other.
    """
    if source == target:
        return lambda x, y: (x, y)
    return pyproj.Transformer.from_crs(
        pyproj.CRS.from_user_input(source),
        pyproj.CRS.from_user_input(target),
        always_xy=True,
    ).transform


@lru_cache
def period(crs: CRS) -> float | None:
    """Shift along x that is one turn round the Earth; None if none is.

    Args:
        crs: In degrees or in metres.
    """
    system = pyproj.CRS.from_user_input(crs)
    if system.is_geographic:
        return 2 * np.pi / float(system.axis_info[0].unit_conversion_factor)
    operation = system.coordinate_operation
    if operation is None or operation.method_name not in _CYLINDRICAL:
        return None
    geodetic = (
        CRS.from_wkt(system.geodetic_crs.to_wkt()) if system.geodetic_crs else None
    )
    if geodetic is None:
        return None
    to_crs = transformation(geodetic, crs)
    # A quarter turn, which does not pass the antimeridian on any side of it.
    (west, origin, east), _ = to_crs(np.array([-90.0, 0.0, 90.0]), np.zeros(3))
    quarter = min(abs(east - origin), abs(origin - west))
    return float(4 * quarter) if np.isfinite(quarter) else None


@dataclass(frozen=True)
class Footprint:
    """What to read of a source for a block of a target, and where to sample it."""

    #: Positions of the centres of the pixels of the target, in pixels of the source.
    centres: Positions
    #: Source pixels per pixel read, along a row and down a column of the source.
    step: int
    #: What to read, in pixels of :func:`coarser` of the source.
    window: Window
    #: Where to sample, in pixels of *window*.
    positions: Positions
    #: Samples down and across per pixel of the target, of which the mean is taken.
    samples: tuple[int, int] = (1, 1)

    @property
    def is_empty(self) -> bool:
        """Whether source and target do not meet."""
        return not (self.window.width and self.window.height)

    @property
    def pixels(self) -> int:
        """Pixels to read and to sample, which is what memory and time go with."""
        height, width = self.positions.shape
        return int(self.window.width * self.window.height) + height * width


def coarser(source: Grid, step: int) -> Grid:
    """The grid of an overview, as GDAL lays it: of the same bounds."""
    width, height = -(-source.width // step), -(-source.height // step)
    scale = Affine.scale(source.width / width, source.height / height)
    return Grid(source.crs, source.transform @ scale, width, height)


def nearest_footprint(source: Grid, target: Grid) -> Footprint:
    """Plan to take the nearest pixel of a source.

    Args:
        source: Grid to read from; of one much finer than *target* an overview is read
            whose pixels are hardly smaller than those of *target*.
        target: Block to fill.
    """
    centres = locate(source, target)
    step = _step(centres.pixel())
    return _footprint(source, centres, centres, step)


def mean_footprint(source: Grid, target: Grid) -> Footprint:
    """Plan to interpolate a source, or to take means of it where it is finer.

    Args:
        source: Grid to read from; of one much finer than *target* an overview is read
            of which two to four pixels go into one of *target*.
        target: Block to fill.
    """
    centres = locate(source, target)
    pixel = centres.pixel()
    step = _step(pixel / 2)
    across, down = (_samples(np.hypot(*way) / step) for way in pixel)
    if across == down == 1:
        return _footprint(source, centres, centres, step)
    finer = Grid(
        target.crs,
        target.transform @ Affine.scale(1 / across, 1 / down),
        target.width * across,
        target.height * down,
    )
    # A source that is finer than the target need not be met as exactly.
    at = locate(source, finer, TOLERANCE * step)
    return replace(_footprint(source, centres, at, step), samples=(down, across))


def _footprint(source: Grid, centres: Positions, at: Positions, step: int) -> Footprint:
    coarse = coarser(source, step)
    scale = coarse.width / source.width, coarse.height / source.height
    at = at.moved(scale, (0, 0))
    # A neighbour that only touches has nothing to say, though it lies within the margin.
    meets = at.meets(coarse.shape)
    window = at.window(coarse.shape) if meets else Window(0, 0, 0, 0)
    at = at.moved((1, 1), (-window.col_off, -window.row_off))
    return Footprint(centres, step, window, at)


def _step(pixel: NDArray[np.float64]) -> int:
    """Largest power of two that is no larger than a pixel, along rows and columns."""
    size = min(np.hypot(*pixel)) * (1 + _STRETCH)
    return 1 if not size >= 2 else int(2 ** floor(log2(size)))


def _samples(size: float) -> int:
    """Samples along a side of a pixel, so that they lie no wider than source pixels."""
    return ceil(size * (1 - _STRETCH)) if size >= _COARSER else 1


def nearest(labels: Tensor, fill: int, positions: Positions) -> Tensor:
    """Take the nearest pixel.

    Args:
        labels: Of shape (h, w).
        fill: Value where there is none.
        positions: Where to sample, in pixels of *labels*.

    Returns:
        Of shape (H, W) and the type of *labels*.
    """
    height, width = labels.shape
    # Not rounded to float32 before: a label is on one side of an edge or on the other.
    cols, rows = positions.to(labels.device).dense().floor()
    if _within(positions, (height, width), 0.5):
        return _taken(labels, rows * width + cols)
    inside = (cols >= 0) & (cols < width) & (rows >= 0) & (rows < height)
    taken = _taken(labels, torch.where(inside, rows * width + cols, 0))
    return torch.where(inside.to(labels.device), taken, fill)


def _taken(labels: Tensor, index: Tensor) -> Tensor:
    return labels.flatten()[index.long().to(labels.device)]


def bilinear(values: Tensor, positions: Positions, padding: str = 'zeros') -> Tensor:
    """Interpolate between the four nearest pixels.

    Args:
        values: Of shape (C, h, w), in float32.
        positions: Where to sample, in pixels of *values*.
        padding: ``zeros`` outside of *values*, or its ``border``.

    Returns:
        Of shape (C, H, W).
    """
    _, height, width = values.shape
    where = positions.moved((2 / width, 2 / height), (-1, -1))
    is_near = bool(where.nodes.abs().max() < _FAR)
    at = where.to(values.device).dense().to(values.device, torch.float32)
    if not is_near:
        at = at.nan_to_num(nan=-_FAR, posinf=_FAR, neginf=-_FAR).clamp(-_FAR, _FAR)
    return grid_sample(
        values[None],
        at.permute(1, 2, 0)[None],
        'bilinear',
        padding,
        align_corners=False,
    )[0]


def warp(
    values: Tensor, valid: Tensor | None, footprint: Footprint
) -> tuple[Tensor, Tensor]:
    """Warp values and their validity, so that pixels without a value do not bleed.

    Args:
        values: What was read of *footprint*, of shape (C, h, w), in float32.
        valid: Of shape (h, w); None if all pixels are.
        footprint: By :func:`mean_footprint`.

    Returns:
        Sum of validity x value, of shape (C, H, W), and share of a pixel that is valid,
        of shape (H, W). The one divided by the other is the mean of what is valid.
    """
    shape = int(footprint.window.height), int(footprint.window.width)
    if valid is None and _within(footprint.positions, shape, 0.5):
        total = _mean(bilinear(values, footprint.positions), footprint.samples)
        return total, total.new_ones(total.shape[1:])
    stack = values.new_empty((len(values) + 1, *shape))
    if valid is None:
        stack[:-1], stack[-1] = values, 1
    else:
        stack[-1] = valid
        # NaN times 0 would be NaN. Faster than torch.where with a mask.
        torch.nan_to_num(values, out=stack[:-1]).mul_(stack[-1])
    stack = _mean(bilinear(stack, footprint.positions), footprint.samples)
    return stack[:-1], stack[-1]


def _mean(fine: Tensor, samples: tuple[int, int]) -> Tensor:
    return fine if samples == (1, 1) else avg_pool2d(fine, samples)


def _within(positions: Positions, shape: tuple[int, int], margin: float) -> bool:
    """Whether all positions lie in a window, so many pixels from its edge."""
    reach = positions.reach()
    limits = reach.new_tensor([shape[1], shape[0]])[:, None, None] - margin
    return bool(((reach >= margin) & (reach <= limits)).all())


def _median(steps: Tensor) -> NDArray[np.float64]:
    """Median of the sizes of steps of shape (2, N), each way."""
    finite = steps[:, steps.isfinite().all(dim=0)]
    if finite.shape[1] == 0:
        return np.ones(2)
    return np.asarray(finite.abs().median(dim=1).values.cpu())


def _interval(at: Tensor, length: int) -> tuple[int, int]:
    """First and last but one pixel around positions, inside of a line of pixels."""
    first = min(max(floor(at.min()) - _MARGIN, 0), length)
    return first, max(min(ceil(at.max()) + _MARGIN, length), first)
