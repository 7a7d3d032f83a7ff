"""Several maps onto one grid: probabilities are blended, classes never averaged."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import transform_bounds
from rasterio.windows import Window
from rtree.index import Index
from scipy.ndimage import distance_transform_edt

from eoseg_datasets.classes import NODATA
from eoseg_datasets.grid import Grid
from eoseg_datasets.handles import handle
from eoseg_datasets.warp import aligned_window, source_window, warp_labels, warp_values

#: Pixels of a mosaic per pixel of its scenes, from which on it is mostly nothing.
SPARSE = 1000

#: Pixels along the longer side of the mask in which distances to the edge are measured.
_DISTANCE_SIDE = 1024


@dataclass(frozen=True)
class MapSource:
    """A map of one scene, to be mosaicked."""

    name: str
    #: Probabilities, one uint8 band per class with 254 for 1, or classes in one band.
    path: Path
    grid: Grid
    num_classes: int
    has_probabilities: bool

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Stored numbers of a window, of shape (bands, H, W); 255 where there are none."""
        return np.asarray(handle(self.path).read(window=window))

    @cached_property
    def edge_distance(self) -> tuple[NDArray[np.float32], Grid]:
        """Distance of valid pixels to the edge of valid data, in pixels, on a coarse grid.

        Nodata inside the scene (a lake masked out) is an edge too.
        """
        step = max(-(-max(self.grid.shape) // _DISTANCE_SIDE), 1)
        shape = -(-self.grid.height // step), -(-self.grid.width // step)
        stored = handle(self.path).read(
            1, out_shape=shape, resampling=Resampling.nearest
        )
        # A frame of nodata: the border of the raster is an edge.
        inside = np.pad(stored != NODATA, 1)
        distance = distance_transform_edt(inside)[1:-1, 1:-1] * step
        scale = self.grid.width / shape[1], self.grid.height / shape[0]
        coarse = Grid(
            self.grid.crs,
            self.grid.transform @ Affine.scale(*scale),
            shape[1],
            shape[0],
        )
        return distance.astype(np.float32), coarse


@dataclass(frozen=True)
class Block:
    """A finished part of the mosaic."""

    window: Window
    #: Classes, of shape (H, W); 255 where no scene has data.
    classes: NDArray[np.uint8]
    #: Probability of that class, 0 to 1, of shape (H, W).
    confidence: NDArray[np.float32]
    #: Position of the scene with the largest share of each pixel; -1 where none.
    source: NDArray[np.int32]


def mosaic_blocks(
    sources: Sequence[MapSource], target: Grid, feather: float, size: int = 512
) -> Iterator[Block]:
    """Mosaic maps, block by block.

    The probabilities of every scene are warped to the target, multiplied by a weight
    that falls off towards the edge of the scene's valid data, and added up; the class is
    the largest sum. Maps of classes alone are warped to the nearest pixel and vote with
    the same weights.

    Args:
        sources: Maps with the same classes.
        target: Grid of the mosaic.
        feather: Width over which a scene fades out towards its edge, in its pixels.
        size: Side of a block in pixels of *target*.

    Yields:
        Blocks from left to right, then from top to bottom, that together are *target*.
    """
    index = _footprints(sources, target.crs)
    for row in range(0, target.height, size):
        for col in range(0, target.width, size):
            window = Window(
                col, row, min(size, target.width - col), min(size, target.height - row)
            )
            block = target.crop(window)
            hits = sorted(index.intersection(block.bounds))
            yield _blend(window, block, sources, hits, feather)


def _blend(
    window: Window,
    block: Grid,
    sources: Sequence[MapSource],
    hits: Sequence[int],
    feather: float,
) -> Block:
    total = np.zeros((sources[0].num_classes, *block.shape), np.float32)
    sum_of_weights = np.zeros(block.shape, np.float32)
    largest = np.zeros(block.shape, np.float32)
    best = np.full(block.shape, -1, np.int32)
    for i in hits:
        probabilities, weight = _contribution(sources[i], block, feather)
        total += probabilities * weight
        sum_of_weights += weight
        best[weight > largest] = i
        largest = np.maximum(largest, weight)
    covered = sum_of_weights > 0
    classes = np.where(covered, total.argmax(axis=0), NODATA).astype(np.uint8)
    confidence = np.where(
        covered, total.max(axis=0) / np.where(covered, sum_of_weights, 1), 0
    )
    return Block(window, classes, confidence.astype(np.float32), best)


def _contribution(
    source: MapSource, block: Grid, feather: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities of a scene on a block, and its weight there (0 without data)."""
    probabilities, valid = _probabilities_on(source, block)
    distance, coarse = source.edge_distance
    shifted, there = warp_values(distance[None], np.ones_like(distance), coarse, block)
    away = shifted[0] / np.maximum(there, 1e-6)
    # Never 0 on valid data: where a scene is alone, its edge counts in full.
    weight = np.clip(away / feather, 1e-3, 1) * valid
    return probabilities, weight.astype(np.float32)


def _probabilities_on(
    source: MapSource, block: Grid
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    shape = source.num_classes, *block.shape
    window = source_window(source.grid, block)
    if not (window.width and window.height):
        return np.zeros(shape, np.float32), np.zeros(block.shape, np.bool_)
    stored = source.read(window)
    crop = source.grid.crop(window)
    if not source.has_probabilities:
        labels = warp_labels(stored[0], NODATA, crop, block)
        classes = np.arange(source.num_classes)[:, None, None]
        return (labels == classes).astype(np.float32), labels != NODATA
    valid = (stored[0] != NODATA).astype(np.float32)
    total, weight = _place(stored.astype(np.float32), valid, crop, block)
    # Half the weight: a pixel counts as valid if most of what it is made of is.
    probabilities = total / np.maximum(weight, 1e-6) / 254
    return probabilities.astype(np.float32), weight >= 0.5


def _place(
    values: NDArray[np.float32], valid: NDArray[np.float32], crop: Grid, block: Grid
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Warp, or copy where the pixels of the two grids coincide."""
    window = aligned_window(crop, block)
    if window is None:
        return warp_values(values, valid, crop, block)
    total = np.zeros((len(values), *block.shape), np.float32)
    weight = np.zeros(block.shape, np.float32)
    rows, cols = (
        _overlap(window.row_off, crop.height, block.height),
        _overlap(window.col_off, crop.width, block.width),
    )
    total[:, rows[1], cols[1]] = (values * valid)[:, rows[0], cols[0]]
    weight[rows[1], cols[1]] = valid[rows[0], cols[0]]
    return total, weight


def _overlap(offset: float, source: int, target: int) -> tuple[slice, slice]:
    """Where two lines of pixels meet, in each of them."""
    first, last = max(int(offset), 0), min(int(offset) + target, source)
    last = max(first, last)
    return slice(first, last), slice(first - int(offset), last - int(offset))


def _footprints(sources: Sequence[MapSource], crs: CRS) -> Index:
    index = Index()
    for i, source in enumerate(sources):
        index.insert(i, bounds_in(source.grid, crs))
    return index


def bounds_in(grid: Grid, crs: CRS) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a grid in another CRS."""
    left, bottom, right, top = transform_bounds(
        grid.crs, crs, *grid.bounds, densify_pts=21
    )
    return left, bottom, right, top


def target_grid(
    grids: Sequence[Grid], crs: CRS | None = None, res: float | None = None
) -> Grid:
    """Choose the grid of a mosaic.

    Args:
        grids: Grids of the scenes.
        crs: By default the CRS that covers most area.
        res: Pixel size in units of *crs*; by default that of the finest scene.

    Returns:
        A north-up grid with square pixels that holds all *grids*; its corners are
        multiples of the pixel size, so that mosaics of neighbouring areas fit.

    Raises:
        ValueError: If a scene does not reach into the area where *crs* is defined, or the
            scenes lie so far apart that hardly a pixel would be covered.
    """
    crs = crs or _crs_of_most_area(grids)
    bounds = np.array([bounds_in(grid, crs) for grid in grids])
    if not np.isfinite(bounds).all():
        raise ValueError(
            f'{crs.to_string()} is not defined where some scenes lie; give another --crs'
        )
    size = res or min(_res_in(grid, crs) for grid in grids)
    left, bottom = np.floor(bounds[:, :2].min(axis=0) / size + 1e-6) * size
    right, top = np.ceil(bounds[:, 2:].max(axis=0) / size - 1e-6) * size
    width, height = round((right - left) / size), round((top - bottom) / size)
    covered = float(np.prod(bounds[:, 2:] - bounds[:, :2], axis=1).sum() / size**2)
    if width * height > SPARSE * max(covered, 1):
        raise ValueError(
            f'the scenes lie too far apart for one mosaic: {width} x {height} px, of '
            f'which they cover {covered / (width * height):.2%}; use --no-mosaic, or '
            'map each area into a folder of its own'
        )
    return Grid(crs, Affine(size, 0, left, 0, -size, top), width, height)


def _crs_of_most_area(grids: Sequence[Grid]) -> CRS:
    areas: defaultdict[CRS, float] = defaultdict(float)
    geod = Geod(ellps='WGS84')
    for grid in grids:
        to_degrees = Transformer.from_crs(grid.crs, 'EPSG:4326', always_xy=True)
        xs, ys = zip(*grid.corners, strict=True)
        lon, lat = to_degrees.transform(xs, ys)
        areas[grid.crs] += abs(geod.polygon_area_perimeter(lon, lat)[0])
    return max(areas, key=areas.__getitem__)


def _res_in(grid: Grid, crs: CRS) -> float:
    """Pixel size of a grid in units of another CRS, at its centre."""
    if grid.crs == crs:
        return min(grid.res)
    transformer = Transformer.from_crs(grid.crs, crs, always_xy=True)
    row, col = grid.height / 2, grid.width / 2
    corners = [
        grid.transform @ pixel for pixel in ((col, row), (col + 1, row), (col, row + 1))
    ]
    xs, ys = zip(*corners, strict=True)
    origin, right, below = np.transpose(transformer.transform(xs, ys))
    return float(min(np.hypot(*(right - origin)), np.hypot(*(below - origin))))
