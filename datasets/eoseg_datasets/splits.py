"""Training, validation and test regions that share no pixel and, if possible, no scene.

Pixels are shared on the ground: two acquisitions of one place are one place.
"""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely import MultiPolygon, Polygon, STRtree
from shapely.affinity import translate

from .grid import Grid
from .scene import Scene, ScenePatch

#: Names of pictures cut from one scene: what precedes the suffix is the scene.
_CUT = re.compile(r'[_-](?:patch|tile|chip|crop)[_-]?\d.*$', re.IGNORECASE)

#: Points on each edge of a footprint, which is curved in another CRS.
_EDGE = 16

#: With fewer scenes than these, scenes are divided; each part would get one or none.
_ENOUGH_SCENES = 5


@dataclass(frozen=True)
class Split:
    """Regions of scenes for each use."""

    train: tuple[ScenePatch, ...]
    val: tuple[ScenePatch, ...]
    test: tuple[ScenePatch, ...]
    #: How it was made, in words for the log.
    rule: str


def source_scene(name: str) -> str:
    """Scene that a picture was cut from, by its name.

    >>> source_scene('LC80160502014041LGN00_patch_62_4_by_5')
    'LC80160502014041LGN00'
    >>> source_scene('2024/m_4709963_se')
    '2024/m_4709963_se'
    """
    return _CUT.sub('', name)


def split_scenes(
    scenes: Sequence[Scene],
    labelled: Sequence[int],
    patch_size: int,
    val: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
) -> Split:
    """Divide labelled scenes into training, validation and test regions.

    Pictures cut from one scene stay together, and so do scenes that overlap on the
    ground. If fewer than five such groups are there, the scenes are divided into blocks
    with a gap between them; blocks that overlap on the ground stay together.

    Args:
        scenes: All scenes of a folder.
        labelled: Positions of those with labels.
        patch_size: Side of a patch in pixels, the least side of a block.
        val: Share for validation.
        test: Share for testing; may be 0.
        seed: Chooses which are drawn.

    Raises:
        ValueError: If the scenes are too small to be divided, or if the shares leave
            nothing for training.
    """
    wholes = [ScenePatch(i, _whole(scenes[i].grid)) for i in labelled]
    names = [source_scene(scenes[i].name) for i in labelled]
    groups = _together(scenes, wholes, names)
    if len(groups) >= _ENOUGH_SCENES:
        rule = f'by scene ({len(groups)} scenes)'
        return _draw(groups, val, test, seed, rule)
    blocks = _ground_blocks(scenes, wholes, patch_size)
    if len(blocks) < 3:
        raise _cannot_divide(scenes, wholes, patch_size)
    rule = f'by blocks within {len(groups)} scenes ({len(blocks)} blocks)'
    return _draw(blocks, val, test, seed, rule)


def _together(
    scenes: Sequence[Scene], regions: Sequence[ScenePatch], keys: Sequence[Hashable]
) -> list[list[ScenePatch]]:
    """Regions in groups: of one key, or one on the ground, also through a third."""
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    first, second = _overlaps(scenes, regions)
    labels = np.array([number[key] for key in keys])
    links = coo_array(
        (np.ones(len(first), np.int8), (labels[first], labels[second])),
        shape=(len(number), len(number)),
    )
    _, component = connected_components(links, directed=False)
    groups: dict[int, list[ScenePatch]] = {}
    for region, label in zip(regions, labels, strict=True):
        groups.setdefault(int(component[label]), []).append(region)
    return list(groups.values())


def _overlaps(
    scenes: Sequence[Scene], regions: Sequence[ScenePatch]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of regions of different scenes that meet on the ground."""
    placed = [
        (i, shape)
        for i, region in enumerate(regions)
        if (shape := _footprint(scenes[region.scene].grid.crop(region.window)))
    ]
    positions = np.array([i for i, _ in placed], np.intp)
    # An object array also where nothing is placed, as the tree demands.
    shapes = np.array([shape for _, shape in placed], object)
    first, second = STRtree(shapes).query(shapes, predicate='intersects')
    scene = np.array([region.scene for region in regions])
    first, second = positions[first], positions[second]
    other = scene[first] != scene[second]
    return first[other], second[other]


def _footprint(grid: Grid) -> Polygon | MultiPolygon | None:
    """Outline in longitude and latitude; None for pictures that lie nowhere.

    It runs through the centres of the outer pixels, so that neighbours do not meet.
    """
    to_ground = _to_ground(grid.crs)
    if to_ground is None:
        return None
    edges = np.concatenate(_edges(grid, inset=0.5))
    longitude, latitude = to_ground.transform(*_moved(edges.T, grid.transform))
    if not np.isfinite([longitude, latitude]).all():
        return None
    longitude = np.unwrap(longitude, period=360)
    shape = Polygon(np.stack([longitude, latitude], axis=1))
    if longitude.min() >= -180 and longitude.max() <= 180:
        return shape
    # Across the date line: on either side of the map.
    return MultiPolygon([translate(shape, turn) for turn in (-360, 0, 360)])


@lru_cache
def _to_ground(crs: CRS | None) -> pyproj.Transformer | None:
    system = None if crs is None else pyproj.CRS.from_user_input(crs)
    if system is None or system.is_engineering:
        return None
    return pyproj.Transformer.from_crs(system, 'EPSG:4326', always_xy=True)


def _edges(grid: Grid, inset: float) -> list[NDArray[np.float64]]:
    """Points in pixels on the top, right, bottom and left edge, in order around it."""
    left, right = inset, grid.width - inset
    top, bottom = inset, grid.height - inset
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return [np.linspace(start, stop, _EDGE + 1) for start, stop in pairwise(corners)]


def _moved(points: NDArray[np.float64], by: Affine) -> NDArray[np.float64]:
    """Points of shape (2, N) through an affine transform."""
    x, y = points
    return np.stack([by.a * x + by.b * y + by.c, by.d * x + by.e * y + by.f])


def _ground_blocks(
    scenes: Sequence[Scene], wholes: Sequence[ScenePatch], patch_size: int
) -> list[list[ScenePatch]]:
    """Blocks of all scenes, in groups that are one on the ground.

    A scene that lies mostly on an earlier one (another date) is cut as that one is:
    cut by itself, each of its blocks would join several of the other's.
    """
    blocks: list[ScenePatch] = []
    cut: list[tuple[Grid, list[Window]]] = []
    for whole in sorted(wholes, key=_by_area):
        grid = scenes[whole.scene].grid
        earlier = (here for here in cut if _lies_on(grid, here[0]))
        if (under := next(earlier, None)) is None:
            windows = _blocks(grid, patch_size)
            cut.append((grid, windows))
        else:
            windows = [_carried(window, under[0], grid) for window in under[1]]
        blocks += [
            ScenePatch(whole.scene, window)
            for window in windows
            if under is None or min(window.width, window.height) >= patch_size
        ]
    return _together(scenes, blocks, range(len(blocks)))


def _lies_on(grid: Grid, other: Grid) -> bool:
    """Whether most of a grid lies on another one."""
    shape, ground = _footprint(grid), _footprint(other)
    if shape is None or ground is None or not shape.intersects(ground):
        return False
    return bool(shape.intersection(ground).area > shape.area / 2)


def _carried(window: Window, source: Grid, target: Grid) -> Window:
    """The whole pixels of *target* inside a window of *source*; may be empty."""
    across = pyproj.Transformer.from_crs(
        pyproj.CRS.from_user_input(source.crs),
        pyproj.CRS.from_user_input(target.crs),
        always_xy=True,
    )
    part = source.crop(window)
    points = []
    for edge in _edges(part, inset=0):
        moved = np.array(across.transform(*_moved(edge.T, part.transform)))
        points.append(_moved(moved, ~target.transform))
    top, right, bottom, left = points
    # Between the edges wherever they are; a thousandth of a pixel is rounding.
    first_row = max(int(np.ceil(np.max(top[1]) - 1e-3)), 0)
    first_col = max(int(np.ceil(np.max(left[0]) - 1e-3)), 0)
    last_row = min(int(np.floor(np.min(bottom[1]) + 1e-3)), target.height)
    last_col = min(int(np.floor(np.min(right[0]) + 1e-3)), target.width)
    width, height = max(last_col - first_col, 0), max(last_row - first_row, 0)
    return Window(first_col, first_row, width, height)


def _cannot_divide(
    scenes: Sequence[Scene], wholes: Sequence[ScenePatch], patch_size: int
) -> ValueError:
    largest = max(max(scenes[whole.scene].grid.shape) for whole in wholes)
    # Fewer blocks the larger the patch: the last size that leaves three.
    low, high = 0, patch_size
    while high - low > 1:
        middle = (low + high) // 2
        enough = len(_ground_blocks(scenes, wholes, middle)) >= 3
        low, high = (middle, high) if enough else (low, middle)
    smaller = f'a --data.patch_size of at most {low} or ' if low else ''
    return ValueError(
        f'{len(wholes)} labelled scenes of at most {largest} px a side cannot be '
        f'divided into training, validation and test blocks of {patch_size} px that '
        f'do not overlap on the ground; give {smaller}more scenes'
    )


def _by_area(region: ScenePatch) -> tuple[int, int]:
    """Order from the largest region to the smallest."""
    return -int(region.window.width * region.window.height), region.scene


def _whole(grid: Grid) -> Window:
    return Window(0, 0, grid.width, grid.height)


def _draw(
    groups: Sequence[Sequence[ScenePatch]],
    val: float,
    test: float,
    seed: int,
    rule: str,
) -> Split:
    order = np.random.default_rng(seed).permutation(len(groups))
    num_val = max(round(val * len(groups)), 1)
    num_test = max(round(test * len(groups)), 1) if test else 0
    if num_val + num_test >= len(groups):
        raise ValueError(
            f'a split of {val:g} for validation and {test:g} for testing leaves none of '
            f'{len(groups)} regions for training; give smaller shares, such as 0.2 and 0.2'
        )
    parts = np.split(order, [num_val, num_val + num_test])
    val_part, test_part, train_part = (
        tuple(region for i in sorted(part) for region in groups[i]) for part in parts
    )
    return Split(train_part, val_part, test_part, rule)


def _blocks(grid: Grid, patch_size: int) -> list[Window]:
    """At most 4 x 4 blocks that hold a patch each, with a gap between them."""
    gap = patch_size // 8
    rows = _cuts(grid.height, patch_size, gap)
    cols = _cuts(grid.width, patch_size, gap)
    return [
        Window(col, row, width, height)
        for (row, height), (col, width) in product(rows, cols)
    ]


def _cuts(length: int, size: int, gap: int) -> list[tuple[int, int]]:
    """Start and length of up to four parts of a line."""
    number = min(max((length + gap) // (size + gap), 1), 4)
    part = (length - (number - 1) * gap) // number
    return [(i * (part + gap), part) for i in range(number)]
