"""Splits share no ground, whatever the dates, grids and names of the scenes."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform_geom
from shapely.geometry import box, mapping, shape

from eoseg_datasets.grid import Grid
from eoseg_datasets.scene import Band, Scene
from eoseg_datasets.splits import Split, split_scenes

UTM32 = CRS.from_epsg(32632)


def scene(
    name: str, x: float, y: float = 5_300_000, side: int = 256, epsg: int = 32632
) -> Scene:
    grid = Grid(CRS.from_epsg(epsg), Affine(10, 0, x, 0, -10, y), side, side)
    return Scene(name, Path(name), grid, (Band('B1', Path(name), 1),))


def shared_ground(scenes: list[Scene], split: Split) -> float:
    """Largest area that two parts have in common, in square metres."""
    parts = [
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
    return max(
        a.intersection(b).area
        for first, second in combinations(parts, 2)
        for a in first
        for b in second
    )


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
