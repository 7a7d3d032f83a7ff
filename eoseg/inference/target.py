"""The grid of a mosaic: chosen from those of its maps, or given."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import Geod
from pyproj.exceptions import ProjError
from rasterio.crs import CRS

from eoseg_datasets.footprint import moved
from eoseg_datasets.grid import Grid

from .warp import nearest_turn, period, transformation

#: Pixels of a mosaic per pixel that its scenes cover, from which on it is mostly nothing.
SPARSE = 1000

#: Pixels of a mosaic per pixel of its scenes, from which on it is finer than they are.
OVERSAMPLED = 100

#: Pixels that are no harm, however few of them are covered.
SMALL = 10**8

#: Points along each side of a raster, which is curved in another CRS.
_SIDE = 22

#: Share of a turn that is nothing, for coordinates at the antimeridian.
_EPSILON = 1e-9

#: Left, bottom, right and top.
Bounds = tuple[float, float, float, float]

_WGS84 = CRS.from_epsg(4326)


def target_grid(
    grids: Sequence[Grid],
    crs: CRS | None = None,
    res: float | None = None,
    bounds: Bounds | None = None,
) -> Grid:
    """Choose the grid of a mosaic.

    Args:
        grids: Grids of the scenes.
        crs: By default the CRS that covers most area.
        res: Pixel size in units of *crs*; by default that of the finest scene.
        bounds: Left, bottom, right and top in units of *crs*; by default those of all
            scenes. Over the antimeridian, right is beyond 180 degrees.

    Returns:
        A north-up grid with square pixels that holds *bounds*; its corners are multiples
        of the pixel size, so that mosaics of neighbouring areas fit.

    Raises:
        ValueError: If a scene does not reach into the area where *crs* is defined, or
            none reaches into *bounds*.
    """
    crs = crs or _crs_of_most_area(grids)
    found = all_bounds(grids, crs)
    size = res or min(_res_in(grid, crs) for grid in grids)
    hull = _hull(found)
    if bounds is not None:
        _check_common(found, bounds, crs)
        hull = bounds
    left, bottom = (np.floor(np.array(hull[:2]) / size + 1e-6) * size).tolist()
    right, top = (np.ceil(np.array(hull[2:]) / size - 1e-6) * size).tolist()
    width, height = round((right - left) / size), round((top - bottom) / size)
    return Grid(crs, Affine(size, 0, left, 0, -size, top), width, height)


def check_size(target: Grid, grids: Sequence[Grid]) -> None:
    """Refuse a grid that is mostly empty, much finer than its scenes, or of one pixel.

    Args:
        target: Grid of the mosaic.
        grids: Grids of the scenes.

    Raises:
        ValueError: If it is, and the raster would be large.
    """
    pixels = target.width * target.height
    if pixels == 1 and max(grid.width * grid.height for grid in grids) > 1:
        raise ValueError(
            f'the mosaic would have 1 x 1 px, because of its pixel size of '
            f'{target.res[0]:g} in units of {target.crs.to_string()}: degrees or metres? '
            'Give a finer --res, or insist with --force'
        )
    if pixels <= SMALL:
        return
    size = f'{target.width} x {target.height} px ({pixels / 1e9:,.1f} GB uncompressed)'
    boxes = np.array(all_bounds(grids, target.crs))
    overlap = np.minimum(boxes[:, 2:], target.bounds[2:]) - np.maximum(
        boxes[:, :2], target.bounds[:2]
    )
    covered = np.prod(np.maximum(overlap, 0) / target.res, axis=1).sum()
    if pixels > SPARSE * max(covered, 1):
        raise ValueError(
            f'the scenes lie too far apart for one mosaic: {size}, of which they cover '
            f'{covered / pixels:.2%}; use --no-mosaic, map each area into a folder of '
            'its own, choose a part with --bounds, or insist with --force'
        )
    if pixels > OVERSAMPLED * sum(grid.width * grid.height for grid in grids):
        raise ValueError(
            f'the mosaic would have {size}, more than {OVERSAMPLED} for each pixel of '
            f'the scenes, because of its pixel size of {target.res[0]:g}; give a coarser '
            '--res, choose a part with --bounds, or insist with --force'
        )


def all_bounds(grids: Sequence[Grid], crs: CRS) -> list[Bounds]:
    """Bounds of rasters in one CRS, on that turn round the Earth that keeps them near.

    Args:
        grids: The rasters.
        crs: Where rasters lie on both sides of the antimeridian, those in the west are
            put beyond 180 degrees if that makes the whole narrower.

    Raises:
        ValueError: If one of them does not reach into the area where *crs* is defined.
    """
    found = [bounds_in(grid, crs) for grid in grids]
    turn = period(crs)
    return found if turn is None else _nearest_together(found, turn)


def _nearest_together(found: Sequence[Bounds], turn: float) -> list[Bounds]:
    """Bounds on those turns round the Earth on which they span least from west to east."""
    usual = -turn / 2
    turns = [np.floor((box[0] - usual) / turn + _EPSILON) for box in found]
    boxes = [_shifted(box, -turn * n) for box, n in zip(found, turns, strict=True)]
    lefts = np.sort([box[0] for box in boxes])
    order = np.argsort([box[0] for box in boxes])
    reach = np.maximum.accumulate(np.array([boxes[i][2] for i in order]))
    # Span if the map began at each of them, those west of it following in the east.
    spans = np.maximum(np.roll(reach, 1) + turn, reach[-1]) - lefts
    spans[0] = reach[-1] - lefts[0]
    # The usual map unless another is narrower.
    best = int(spans.argmin())
    start = lefts[best] if spans[best] < spans[0] - _EPSILON * turn else lefts[0]
    return [_shifted(box, turn if box[0] < start else 0) for box in boxes]


def _shifted(box: Bounds, by: float) -> Bounds:
    left, bottom, right, top = box
    return float(left + by), bottom, float(right + by), top


def _hull(boxes: Sequence[Bounds]) -> Bounds:
    left, bottom = np.array(boxes)[:, :2].min(axis=0)
    right, top = np.array(boxes)[:, 2:].max(axis=0)
    return float(left), float(bottom), float(right), float(top)


def bounds_in(grid: Grid, crs: CRS) -> Bounds:
    """Left, bottom, right and top of a raster in another CRS.

    Over the antimeridian, right is beyond 180 degrees. A raster that holds a pole goes
    all round it.

    Args:
        grid: The raster.
        crs: Any CRS.

    Raises:
        ValueError: If no part of it lies where *crs* is defined, or nothing leads there.
    """
    if grid.crs == crs:
        return grid.bounds
    x, y = _points_in(grid, crs)
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        raise ValueError(
            f'{crs.to_string()} is not defined where some scenes lie; give another --crs'
        )
    turn = period(crs)
    if turn is not None:
        x = _unwrapped(x, turn, whole=bool(finite.all()))
        # Mercator has its poles at infinity; maps of the world end where they are square.
        y = np.clip(y, -turn / 2, turn / 2)
    box = (
        float(x[finite].min()),
        float(y[finite].min()),
        float(x[finite].max()),
        float(y[finite].max()),
    )
    return box if turn is None else _with_poles(box, grid, crs, turn)


def _points_in(grid: Grid, crs: CRS) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points all over a raster in another CRS, each of shape (_SIDE, _SIDE)."""
    cols, rows = np.meshgrid(
        np.linspace(0, grid.width, _SIDE), np.linspace(0, grid.height, _SIDE)
    )
    try:
        to_crs = transformation(grid.crs, crs)
    except ProjError as error:
        raise ValueError(
            f'nothing leads from {grid.crs.to_string()} to {crs.to_string()}; give '
            f'another --crs, or the maps one that lies on Earth ({error})'
        ) from error
    return to_crs(*moved(np.stack([cols, rows]), grid.transform))


def _unwrapped(
    x: NDArray[np.float64], turn: float, *, whole: bool
) -> NDArray[np.float64]:
    """Coordinates of neighbouring points without jumps between them."""
    if not whole:
        return nearest_turn(x, float(np.nanmedian(x[np.isfinite(x)])), turn)
    columns = np.unwrap(x[:, 0], period=turn)
    by_row: NDArray[np.float64] = np.unwrap(x, axis=1, period=turn)
    return by_row + (columns - by_row[:, 0])[:, None]


def _with_poles(box: Bounds, grid: Grid, crs: CRS, turn: float) -> Bounds:
    left, bottom, right, top = box
    for latitude in (-90.0, 90.0):
        point = np.array([0.0]), np.array([latitude])
        x, y = transformation(_WGS84, grid.crs)(*point)
        if not np.isfinite([x, y]).all():
            continue
        col, row = moved(np.stack([x, y]), ~grid.transform)[:, 0]
        if 0 < col < grid.width and 0 < row < grid.height:
            _, limit = transformation(_WGS84, crs)(*point)
            left, right = -turn / 2, turn / 2
            if np.isfinite(limit).all():
                bottom, top = min(bottom, float(limit[0])), max(top, float(limit[0]))
    return left, bottom, right, top


def _check_common(found: Sequence[Bounds], bounds: Bounds, crs: CRS) -> None:
    left, bottom, right, top = bounds
    if not (left < right and bottom < top):
        raise ValueError(
            'bounds must be left, bottom, right and top, the left and the bottom one '
            f'smaller, got {" ".join(f"{value:g}" for value in bounds)}'
        )
    if not any(touches(box, bounds, period(crs)) for box in found):
        hull = ' '.join(f'{value:.10g}' for value in _hull(found))
        raise ValueError(
            f'no map reaches into {" ".join(f"{value:.10g}" for value in bounds)} of '
            f'{crs.to_string()}; all of them lie within {hull}'
        )


def touches(box: Bounds, other: Bounds, turn: float | None) -> bool:
    """Whether two boxes meet, on whatever turn round the Earth."""
    shifts = [0.0] if turn is None else [-turn, 0.0, turn]
    return any(
        left < other[2] and right > other[0] and bottom < other[3] and top > other[1]
        for left, bottom, right, top in (_shifted(box, shift) for shift in shifts)
    )


def _crs_of_most_area(grids: Sequence[Grid]) -> CRS:
    areas: defaultdict[CRS, float] = defaultdict(float)
    for grid in grids:
        across, down = ground_res(grid)
        areas[grid.crs] += across * grid.width * down * grid.height
    return max(areas, key=areas.__getitem__)


def ground_res(grid: Grid) -> tuple[float, float]:
    """Width and height of the pixel in the middle of a raster, in metres.

    Where the CRS is not tied to the Earth, in units of the CRS.
    """
    points = _middle_pixel(grid)
    try:
        lon, lat = transformation(grid.crs, _WGS84)(*points)
    except ProjError:
        return grid.res
    if not np.isfinite([lon, lat]).all():
        return grid.res
    geod = Geod(ellps='WGS84')
    _, _, metres = geod.inv([lon[0]] * 2, [lat[0]] * 2, lon[1:], lat[1:])
    across, down = metres
    return float(across), float(down)


def _res_in(grid: Grid, crs: CRS) -> float:
    """Pixel size of a grid in units of another CRS, at its centre."""
    if grid.crs == crs:
        return min(grid.res)
    x, y = transformation(grid.crs, crs)(*_middle_pixel(grid))
    turn = period(crs)
    x = x if turn is None else nearest_turn(x, float(x[0]), turn)
    if not np.isfinite([x, y]).all():
        raise ValueError(
            f'{crs.to_string()} is not defined in the middle of a scene; give --res'
        )
    return float(np.hypot(x[1:] - x[0], y[1:] - y[0]).min())


def _middle_pixel(grid: Grid) -> NDArray[np.float64]:
    """Corner of a pixel in the middle, the one right of it, and the one below it."""
    col, row = grid.width / 2, grid.height / 2
    return moved(np.array([[col, col + 1, col], [row, row, row + 1]]), grid.transform)
