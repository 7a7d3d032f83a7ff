"""Splits share no ground, whatever the dates, grids and names of the scenes."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform_geom
from shapely.geometry import box, mapping, shape

from eoseg_datasets.grid import Grid
from eoseg_datasets.samplers import GridSceneSampler, RandomSceneSampler
from eoseg_datasets.scene import Band, Scene, ScenePatch
from eoseg_datasets.splits import Split, split_scenes

UTM32 = CRS.from_epsg(32632)


def scene(
    name: str, x: float, y: float = 5_300_000, side: int = 256, epsg: int = 32632
) -> Scene:
    grid = Grid(CRS.from_epsg(epsg), Affine(10, 0, x, 0, -10, y), side, side)
    return Scene(name, Path(name), grid, (Band('B1', Path(name), 1),))


def ground(scenes: list[Scene], split: Split) -> list[list[Any]]:
    """Outlines of training, validation and test regions in metres."""
    return [
        [
            shape(
                transform_geom(
                    scenes[region.scene].grid.crs,
                    UTM32,
                    mapping(box(*scenes[region.scene].grid.crop(region.window).bounds)),
                )
            )
            for region in part
        ]
        for part in (split.train, split.val, split.test)
    ]


def shared_ground(scenes: list[Scene], split: Split) -> float:
    """Largest area that two parts have in common, in square metres."""
    areas = [
        a.intersection(b).area
        for first, second in combinations(ground(scenes, split), 2)
        for a in first
        for b in second
    ]
    return float(max(areas))


def distance(scenes: list[Scene], split: Split) -> float:
    """Least distance between training and what is not, in metres."""
    train, val, test = ground(scenes, split)
    return float(min(a.distance(b) for a in train for b in val + test))


@pytest.mark.parametrize(
    'scenes',
    [
        pytest.param([scene(str(i), 600_000) for i in range(6)], id='six dates'),
        pytest.param(
            [scene('a', 600_000), scene('b', 600_300, 5_300_170)], id='a shifted grid'
        ),
        pytest.param(
            [scene(str(i), 600_000 + 2_400 * i) for i in range(6)], id='a strip'
        ),
        pytest.param(
            [scene('a', 600_000), scene('b', 153_000, 5_309_000, 600, 32633)],
            id='two zones',
        ),
    ],
)
@pytest.mark.parametrize('seed', range(3))
def test_parts_share_no_ground(scenes: list[Scene], seed: int) -> None:
    split = split_scenes(scenes, range(len(scenes)), 32, seed=seed)
    assert split.train and split.val and split.test
    # Less than a pixel, that is: outlines run through the centres of the pixels.
    assert shared_ground(scenes, split) < 100


def test_dates_of_one_place_are_divided_alike() -> None:
    split = split_scenes([scene(str(i), 600_000) for i in range(6)], range(6), 32)
    for part in (split.train, split.val, split.test):
        windows = [
            {str(region.window) for region in part if region.scene == i}
            for i in range(6)
        ]
        assert all(found == windows[0] for found in windows)


def test_neighbours_that_only_touch_are_scenes_of_their_own() -> None:
    scenes = [scene(str(i), 600_000 + 2_560 * i) for i in range(6)]
    assert split_scenes(scenes, range(6), 32).rule == 'by scene (6 scenes)'


def test_scenes_that_overlap_across_the_date_line_are_one_place() -> None:
    # Zones 60 and 1 at 60 degrees north, three kilometres about the line.
    scenes = [scene('a', 665_900, 6_655_000, epsg=32660)]
    scenes += [scene('b', 333_000, 6_655_000, epsg=32601)]
    scenes += [scene(str(i), 400_000 + 9_000 * i) for i in range(4)]
    split = split_scenes(scenes, range(6), 32)
    assert split.rule == 'by scene (5 scenes)'


def test_the_patch_size_that_is_advised_works() -> None:
    scenes = [scene('a', 600_000, side=200)]
    with pytest.raises(ValueError, match=r'of at most (\d+) or more') as caught:
        split_scenes(scenes, [0], 128)
    advised = int(str(caught.value).split('at most ')[2].split()[0])
    assert split_scenes(scenes, [0], advised).train
    with pytest.raises(ValueError, match='more scenes'):
        split_scenes(scenes, [0], advised + 1)


def test_shares_that_leave_nothing_for_training_are_refused() -> None:
    scenes = [scene(str(i), 600_000 + 9_000 * i) for i in range(6)]
    with pytest.raises(ValueError, match='leaves none of 6 regions for training'):
        split_scenes(scenes, range(6), 32, val=0.5, test=0.5)


def test_pictures_that_lie_nowhere_are_never_one_place() -> None:
    local = CRS.from_wkt('LOCAL_CS["Nowhere",UNIT["metre",1]]')
    scenes = [scene(str(i), 0) for i in range(6)]
    scenes = [replace(s, grid=replace(s.grid, crs=local)) for s in scenes]
    split = split_scenes(scenes, range(6), 32)
    assert split.rule == 'by scene (6 scenes)'
    assert len({r.scene for r in (*split.train, *split.val, *split.test)}) == 6


@settings(deadline=None, max_examples=40)
@given(
    right=st.integers(-300, 300),
    down=st.integers(-300, 300),
    shift=st.sampled_from([0, 5]),
    buffer=st.integers(0, 12),
    seed=st.integers(0, 3),
)
def test_blocks_of_any_two_scenes_are_a_buffer_apart(
    right: int, down: int, shift: int, buffer: int, seed: int
) -> None:
    # Pixels are 10 m; 5 m make grids that do not fit each other.
    other = scene('b', 600_000 + 10 * right + shift, 5_300_000 - 10 * down - shift, 200)
    scenes = [scene('a', 600_000), other]
    split = split_scenes(scenes, range(2), 32, seed=seed, buffer=buffer)
    assert split.rule.startswith('by blocks')
    assert distance(scenes, split) > 10 * buffer - 0.5
    if buffer:
        assert shared_ground(scenes, split) == 0


def test_scenes_of_another_grid_and_zone_are_a_buffer_apart() -> None:
    scenes = [scene('a', 600_000), scene('b', 153_000, 5_309_000, 600, 32633)]
    for seed in range(5):
        split = split_scenes(scenes, range(2), 32, seed=seed, buffer=10)
        assert distance(scenes, split) > 99


@pytest.mark.parametrize('pixel', [7.3, 10, 20, 30])
def test_the_buffer_holds_in_the_pixels_of_each_scene(pixel: float) -> None:
    # The other one has fewer pixels or is smaller, and is cut as the first one is.
    other = scene('b', 600_150, 5_299_850, int(2300 / pixel))
    grid = Grid(
        UTM32, other.grid.transform @ Affine.scale(pixel / 10), *other.grid.shape
    )
    scenes = [scene('a', 600_000), replace(other, grid=grid)]
    windows = set()
    for seed in range(5):
        split = split_scenes(scenes, range(2), 8, seed=seed, buffer=7)
        parts = [
            {r.window for r in part if r.scene == 1}
            for part in (split.train, split.val, split.test)
        ]
        windows |= set().union(*parts)
        assert distance(scenes, split) > 7 * min(10, pixel) - 0.5
    assert len(windows) == 16
    rows = sorted({(w.row_off, w.height) for w in windows})
    for (start, length), (following, _) in pairwise(rows):
        assert following - start - length >= 7


def test_scenes_nearer_than_a_buffer_that_is_given_stay_together() -> None:
    # Pairs with 30 px between the two, and far from other pairs.
    places = [600_000 + 20_000 * (i // 2) + 2_860 * (i % 2) for i in range(12)]
    scenes = [scene(str(i), x) for i, x in enumerate(places)]
    assert split_scenes(scenes, range(12), 32, buffer=29).rule.startswith(
        'by scene (12 scenes)'
    )
    split = split_scenes(scenes, range(12), 32, buffer=31)
    assert split.rule == 'by scene (6 scenes)'
    assert distance(scenes, split) > 310


def test_the_gap_between_blocks_is_the_buffer_and_no_more() -> None:
    split = split_scenes([scene('a', 600_000)], [0], 32, buffer=7)
    rows = {
        (r.window.row_off, r.window.height)
        for r in (*split.train, *split.val, *split.test)
    }
    assert len(rows) == 4
    for (start, length), (following, _) in pairwise(sorted(rows)):
        assert following - start - length == 7
    with pytest.raises(ValueError, match='at least 0 pixels, got -1'):
        split_scenes([scene('a', 600_000)], [0], 32, buffer=-1)


def test_small_scenes_side_by_side_are_drawn_whole() -> None:
    scenes = [scene(str(i), 600_000 + 640 * i, side=64) for i in range(4)]
    split = split_scenes(scenes, range(4), 48)
    assert split.rule == 'by scene (4 scenes)'
    assert shared_ground(scenes, split) == 0


@pytest.mark.parametrize(
    'sides', [pytest.param([256], id='one'), pytest.param([256, 90, 20], id='three')]
)
@pytest.mark.parametrize('size', [32, 48])
def test_no_patch_shows_a_pixel_of_another_part(sides: list[int], size: int) -> None:
    scenes = [scene(str(i), 600_000 + 9_000 * i, side=s) for i, s in enumerate(sides)]
    split = split_scenes(scenes, range(len(sides)), size)
    shown = []
    for part in (split.train, split.val, split.test):
        pictures = [np.zeros(s.grid.shape, bool) for s in scenes]
        patches = [
            *RandomSceneSampler(part, size, 2000),
            *GridSceneSampler(part, size),
        ]
        for patch in patches:
            rows, cols = patch.window.toslices()
            pictures[patch.scene][rows, cols] = True
        shown.append(np.concatenate([picture.ravel() for picture in pictures]))
    assert all(part.any() for part in shown)
    assert not any((a & b).any() for a, b in combinations(shown, 2))


def held(split: Split, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which classes occur in training, validation and test scenes."""
    parts = (split.train, split.val, split.test)
    return np.array([(counts[[r.scene for r in p]] > 0).any(axis=0) for p in parts])


def test_every_class_occurs_in_every_part_where_it_can() -> None:
    scenes = [scene(str(i), 600_000 + 9_000 * i) for i in range(15)]
    counts = np.ones((15, 3), np.int64)
    counts[:, 1] = np.arange(15) < 3  # in three scenes: one for each part
    counts[:, 2] = np.arange(15) == 7  # in one, which training needs most

    def class_counts(regions: Sequence[ScenePatch]) -> NDArray[np.int64]:
        return counts[[region.scene for region in regions]]

    wanted = [[True, True, True], [True, True, False], [True, True, False]]
    splits = [
        split_scenes(scenes, range(15), 32, seed=seed, class_counts=class_counts)
        for seed in range(10)
    ]
    assert all((held(split, counts) == wanted).all() for split in splits)
    assert len({split.val for split in splits}) > 1
    blind = [split_scenes(scenes, range(15), 32, seed=seed) for seed in range(10)]
    assert not all((held(split, counts) == wanted).all() for split in blind)


def test_classes_are_counted_in_groups_of_scenes() -> None:
    # Two dates of each place: what one lacks, the other has.
    scenes = [
        scene(f'{i} {date}', 600_000 + 9_000 * i) for i, date in product(range(9), 'ab')
    ]
    counts = np.array([[i // 2 < 3 and i % 2 == 1] for i in range(18)], np.int64)
    split = split_scenes(
        scenes, range(18), 32, class_counts=lambda rs: counts[[r.scene for r in rs]]
    )
    assert split.rule == 'by scene (9 scenes)'
    assert held(split, counts).all()


def test_regions_can_be_looked_at(tmp_path: Path) -> None:
    scenes = [scene('a', 600_000), scene('b', 153_000, 5_309_000, 600, 32633)]
    split = split_scenes(scenes, range(2), 32)
    path = tmp_path / 'run' / 'split.gpkg'
    for _ in range(2):
        split.write(path, scenes)
    assert [file.name for file in path.parent.iterdir()] == ['split.gpkg']
    frame = gpd.read_file(path, layer='regions')
    assert frame.crs == 'EPSG:4326'
    uses = {'train': split.train, 'val': split.val, 'test': split.test}
    assert frame['use'].value_counts().to_dict() == {u: len(p) for u, p in uses.items()}
    first = split.train[0]
    at = first.window
    assert frame['scene'][0] == scenes[first.scene].name
    assert frame['window'][0] == f'{at.col_off},{at.row_off},{at.width},{at.height}'
    area = frame.to_crs(UTM32).area[0]
    assert area == pytest.approx(100 * at.width * at.height, rel=0.01)


def test_pictures_that_lie_nowhere_can_be_looked_at(tmp_path: Path) -> None:
    local = CRS.from_wkt('LOCAL_CS["Nowhere",UNIT["metre",1]]')
    scenes = [scene(str(i), 5_000 * i, 0) for i in range(6)]
    lost = [replace(s, grid=replace(s.grid, crs=local)) for s in scenes]
    split = split_scenes(lost, range(6), 32)
    split.write(tmp_path / 'split.gpkg', lost)
    frame = gpd.read_file(tmp_path / 'split.gpkg')
    assert frame.total_bounds.tolist() == [0, -2560, 27_560, 0]
    mixed = [*lost[:3], *scenes[3:]]
    before = (tmp_path / 'split.gpkg').read_bytes()
    with pytest.raises(ValueError, match='3 of 6 regions lie nowhere on Earth'):
        split.write(tmp_path / 'split.gpkg', mixed)
    assert (tmp_path / 'split.gpkg').read_bytes() == before
