"""Training, validation and test regions that share no pixel and, if possible, no scene.

Pixels are shared on the ground: two acquisitions of one place are one place.
"""

import re
import tempfile
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely import MultiPolygon, Polygon, STRtree

from .footprint import edges, footprint, moved
from .grid import Grid
from .scene import Scene, ScenePatch

#: Names of pictures cut from one scene: what precedes the suffix is the scene.
_CUT = re.compile(r'[_-](?:patch|tile|chip|crop)[_-]?\d.*$', re.IGNORECASE)

#: With fewer scenes than these, scenes are divided; each part would get one or none.
_ENOUGH_SCENES = 5

#: Training, validation and test.
_LEAST_GROUPS = 3

#: Draws of which the best is taken where classes are counted.
_DRAWS = 256

#: Pixels by which blocks may be nearer than the buffer after a change of CRS.
_ROUNDING = 0.01

#: Counts the pixels of each class in regions: an array of shape (regions, K).
ClassCounts = Callable[[Sequence[ScenePatch]], NDArray[np.int64]]


@dataclass(frozen=True)
class Split:
    """Regions of scenes for each use."""

    train: tuple[ScenePatch, ...]
    val: tuple[ScenePatch, ...]
    test: tuple[ScenePatch, ...]
    #: How it was made, in words for the log.
    rule: str

    def write(self, path: Path, scenes: Sequence[Scene]) -> None:
        """Write the regions as polygons to look at, complete or not at all.

        Args:
            path: GeoPackage to write. Its layer ``regions`` has the columns use, scene
                and window (column, row, width and height in pixels). It is in longitude
                and latitude; pictures that lie nowhere have coordinates of their own.
            scenes: Scenes that were divided.

        Raises:
            ValueError: If some regions have a place and some have none.
        """
        uses = {'train': self.train, 'val': self.val, 'test': self.test}
        write_regions(
            path,
            [
                (use, scenes[region.scene], region.window)
                for use, part in uses.items()
                for region in part
            ],
        )


def write_regions(path: Path, regions: Sequence[tuple[str, Scene, Window]]) -> None:
    """Write regions of scenes as :meth:`Split.write` does.

    Args:
        path: GeoPackage to write.
        regions: Use, scene and window of each.

    Raises:
        ValueError: If some regions have a place and some have none.
    """
    frame = gpd.GeoDataFrame(
        {
            'use': [use for use, _, _ in regions],
            'scene': [scene.name for _, scene, _ in regions],
            'window': [_text(window) for _, _, window in regions],
        },
        **_outlines([scene.grid.crop(window) for _, scene, window in regions]),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own, because SQLite puts files beside the one that it writes.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='.split-') as folder:
        part = Path(folder) / path.name
        with warnings.catch_warnings():
            # Pictures that lie nowhere have none.
            warnings.filterwarnings('ignore', "'crs' was not provided")
            frame.to_file(part, layer='regions', driver='GPKG', engine='pyogrio')
        part.replace(path)


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
    buffer: int | None = None,
    class_counts: ClassCounts | None = None,
) -> Split:
    """Divide labelled scenes into training, validation and test regions.

    Pictures cut from one scene stay together, and so do scenes that overlap on the
    ground. If fewer than five such groups are there, the scenes are divided into blocks
    with a gap between them; blocks that overlap on the ground, or are nearer than the
    gap in another scene, stay together.

    Args:
        scenes: All scenes of a folder.
        labelled: Positions of those with labels.
        patch_size: Side of a patch in pixels, the least side of a block.
        val: Share for validation.
        test: Share for testing; may be 0.
        seed: Chooses which are drawn.
        buffer: Gap between blocks in pixels; by default an eighth of a patch. Regions
            share no pixel without it, but what is near is alike: the wider it is, the
            more honest is the score, and the less is left to learn from. Scenes that
            are not divided may touch by default; if it is given, those nearer than it
            stay together.
        class_counts: Counts the classes in regions, for example by a
            :class:`~.census.Census`. With it, the best of 256 draws is taken: that in
            which most classes occur in most parts; of these, in training; of these, the
            one whose parts have most nearly their share of each class.

    Raises:
        ValueError: If the scenes are too small to be divided, or if the shares leave
            nothing for training.
    """
    gap = patch_size // 8 if buffer is None else buffer
    if gap < 0:
        raise ValueError(f'buffer must be at least 0 pixels, got {gap}')
    wholes = [ScenePatch(i, _whole(scenes[i].grid)) for i in labelled]
    names = [source_scene(scenes[i].name) for i in labelled]
    inset = _inset(buffer) if buffer else 0.5
    groups = _together(wholes, names, _meeting(scenes, wholes, labelled, inset))
    blocks: list[list[ScenePatch]] = []
    if len(groups) < _ENOUGH_SCENES:
        blocks = _ground_blocks(scenes, wholes, patch_size, gap)
    if len(blocks) >= _LEAST_GROUPS:
        rule = f'by blocks within {len(groups)} scenes ({len(blocks)} blocks)'
        return _draw(blocks, val, test, seed, rule, class_counts)
    # Also where few scenes cannot be divided, such as small ones side by side.
    if len(groups) >= _LEAST_GROUPS:
        rule = f'by scene ({len(groups)} scenes)'
        return _draw(groups, val, test, seed, rule, class_counts)
    raise _cannot_divide(scenes, wholes, patch_size, buffer)


def _together(
    regions: Sequence[ScenePatch],
    keys: Sequence[Hashable],
    meeting: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> list[list[ScenePatch]]:
    """Regions in groups: of one key, or pairs that meet, also through a third."""
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    first, second = meeting
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


def _meeting(
    scenes: Sequence[Scene],
    regions: Sequence[ScenePatch],
    places: Sequence[int],
    inset: float,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of regions of different places whose outlines meet on the ground.

    Args:
        scenes: All scenes.
        regions: Windows of them.
        places: Place of each region; those of one place are apart by making.
        inset: Pixels from the edges of a region inwards to its outline.
    """
    placed = [
        (i, shape)
        for i, region in enumerate(regions)
        if (shape := footprint(scenes[region.scene].grid.crop(region.window), inset))
    ]
    positions = np.array([i for i, _ in placed], np.intp)
    # An object array also where nothing is placed, as the tree demands.
    shapes = np.array([shape for _, shape in placed], object)
    first, second = STRtree(shapes).query(shapes, predicate='intersects')
    place = np.array(places)
    first, second = positions[first], positions[second]
    other = place[first] != place[second]
    return first[other], second[other]


def _inner(grid: Grid) -> Polygon | MultiPolygon | None:
    """Footprint through the centres of the outer pixels: neighbours do not meet."""
    return footprint(grid, inset=0.5)


def _ground_blocks(
    scenes: Sequence[Scene], wholes: Sequence[ScenePatch], patch_size: int, gap: int
) -> list[list[ScenePatch]]:
    """Blocks of all scenes, in groups that are one on the ground.

    A scene that lies mostly on an earlier one (another date) is cut as that one is:
    cut by itself, each of its blocks would join several of the other's.
    """
    blocks: list[ScenePatch] = []
    keys: list[tuple[int, int]] = []
    cuts: list[tuple[Grid, list[Window]]] = []
    for whole in sorted(wholes, key=_by_area):
        grid = scenes[whole.scene].grid
        under = (i for i, (other, _) in enumerate(cuts) if _lies_on(grid, other))
        place = next(under, len(cuts))
        if place == len(cuts):
            windows = dict(enumerate(_blocks(grid, patch_size, gap)))
            cuts.append((grid, list(windows.values())))
        else:
            windows = _carried_blocks(*cuts[place], grid, patch_size, gap)
        blocks += [ScenePatch(whole.scene, window) for window in windows.values()]
        keys += [(place, number) for number in windows]
    meeting = _meeting(scenes, blocks, [place for place, _ in keys], _inset(gap))
    return _together(blocks, keys, meeting)


def _inset(gap: int) -> float:
    """Pixels inwards to outlines that meet where regions are nearer than a gap."""
    return min(0.5, _ROUNDING - gap / 2)


def _carried_blocks(
    source: Grid, windows: Sequence[Window], target: Grid, patch_size: int, gap: int
) -> dict[int, Window]:
    """Blocks of *source* on *target*, by number, without those smaller than a patch.

    The gap between them is one in the pixels of both: half of it lies on each side of
    the line in the middle, which is carried, too.
    """
    half = gap / 2
    carried = {}
    for i, block in enumerate(windows):
        cell = Window(
            block.col_off - half,
            block.row_off - half,
            block.width + gap,
            block.height + gap,
        )
        inside = _carried(cell, source, target, half)
        carried[i] = _common(_carried(block, source, target), inside)
    return {
        i: window
        for i, window in carried.items()
        if min(window.width, window.height) >= patch_size
    }


def _common(first: Window, second: Window) -> Window:
    """What lies in both windows; may be empty."""
    row, col = max(first.row_off, second.row_off), max(first.col_off, second.col_off)
    bottom = min(first.row_off + first.height, second.row_off + second.height)
    right = min(first.col_off + first.width, second.col_off + second.width)
    return Window(col, row, max(right - col, 0), max(bottom - row, 0))


def _lies_on(grid: Grid, other: Grid) -> bool:
    """Whether most of a grid lies on another one."""
    shape, ground = _inner(grid), _inner(other)
    if shape is None or ground is None or not shape.intersects(ground):
        return False
    return bool(shape.intersection(ground).area > shape.area / 2)


def _carried(window: Window, source: Grid, target: Grid, inset: float = 0) -> Window:
    """The whole pixels of *target* inside a window of *source*; may be empty.

    Args:
        window: Window of *source*, may reach beyond it.
        source: Where it lies.
        target: Where it is carried to.
        inset: Pixels of *target* that its edges are moved inwards.
    """
    across = pyproj.Transformer.from_crs(
        pyproj.CRS.from_user_input(source.crs),
        pyproj.CRS.from_user_input(target.crs),
        always_xy=True,
    )
    part = source.crop(window)
    points = []
    for edge in edges(part):
        there = np.array(across.transform(*moved(edge.T, part.transform)))
        points.append(moved(there, ~target.transform))
    top, right, bottom, left = points
    # Between the edges wherever they are; a thousandth of a pixel is rounding.
    first_row = max(int(np.ceil(np.max(top[1]) + inset - 1e-3)), 0)
    first_col = max(int(np.ceil(np.max(left[0]) + inset - 1e-3)), 0)
    last_row = min(int(np.floor(np.min(bottom[1]) - inset + 1e-3)), target.height)
    last_col = min(int(np.floor(np.min(right[0]) - inset + 1e-3)), target.width)
    width, height = max(last_col - first_col, 0), max(last_row - first_row, 0)
    return Window(first_col, first_row, width, height)


def _cannot_divide(
    scenes: Sequence[Scene],
    wholes: Sequence[ScenePatch],
    patch_size: int,
    buffer: int | None,
) -> ValueError:
    largest = max(max(scenes[whole.scene].grid.shape) for whole in wholes)
    # Fewer blocks the larger the patch: the last size that leaves three.
    low, high = 0, patch_size
    while high - low > 1:
        middle = (low + high) // 2
        gap = middle // 8 if buffer is None else buffer
        enough = len(_ground_blocks(scenes, wholes, middle, gap)) >= _LEAST_GROUPS
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
    class_counts: ClassCounts | None,
) -> Split:
    num_val = max(round(val * len(groups)), 1)
    num_test = max(round(test * len(groups)), 1) if test else 0
    if num_val + num_test >= len(groups):
        raise ValueError(
            f'a split of {val:g} for validation and {test:g} for testing leaves none of '
            f'{len(groups)} regions for training; give smaller shares, such as 0.2 and 0.2'
        )
    rng = np.random.default_rng(seed)
    draws = (
        np.split(rng.permutation(len(groups)), [num_val, num_val + num_test])
        for _ in range(_DRAWS)
    )
    if class_counts is None:
        parts = next(draws)
    else:
        counts = _in_groups(groups, class_counts)
        parts = max(draws, key=lambda parts: _merit(parts, counts))
    val_part, test_part, train_part = (
        tuple(region for i in sorted(part) for region in groups[i]) for part in parts
    )
    return Split(train_part, val_part, test_part, rule)


def _in_groups(
    groups: Sequence[Sequence[ScenePatch]], class_counts: ClassCounts
) -> NDArray[np.int64]:
    """Pixels of each class in each group, of shape (groups, K)."""
    counts = class_counts([region for group in groups for region in group])
    first = np.cumsum([0, *(len(group) for group in groups[:-1])])
    return np.add.reduceat(counts, first, axis=0)


def _merit(
    parts: Sequence[NDArray[np.intp]], counts: NDArray[np.int64]
) -> tuple[int, int, float]:
    """Classes that occur in parts, those in training (the last part), evenness."""
    held = np.array([counts[part].sum(axis=0) for part in parts])
    present = (held > 0).sum(axis=1)
    share = held / np.maximum(counts.sum(axis=0), 1)
    wanted = np.array([[len(part)] for part in parts]) / len(counts)
    return int(present.sum()), int(present[-1]), -float(np.abs(share - wanted).sum())


def _blocks(grid: Grid, patch_size: int, gap: int) -> list[Window]:
    """At most 4 x 4 blocks that hold a patch each, with a gap between them."""
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


def _text(window: Window) -> str:
    return ','.join(str(int(number)) for number in window.flatten())


def _outlines(grids: Sequence[Grid]) -> dict[str, Any]:
    """Geometry and CRS of a layer: of the Earth, or of a plane that is nowhere."""
    placed = [footprint(grid) for grid in grids]
    if all(placed):
        return {'geometry': placed, 'crs': 'EPSG:4326'}
    if any(placed):
        raise ValueError(
            f'{placed.count(None)} of {len(grids)} regions lie nowhere on Earth and the '
            'others somewhere; give all scenes a CRS with rio edit-info --crs, or none'
        )
    return {'geometry': [Polygon(grid.corners) for grid in grids], 'crs': None}
