"""Strips of ground: no pixel in two parts, whatever the scenes are like."""

from dataclasses import replace
from pathlib import Path

import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.windows import Window

from eoseg_datasets.grid import Grid
from eoseg_datasets.scene import Scene, ScenePatch
from eoseg_datasets.splits import split_scenes
from eoseg_datasets.strips import split_strips

UTM = CRS.from_epsg(32631)


def tile(left: float, width: int = 20, top: float = 0) -> Scene:
    grid = Grid(UTM, Affine(0.5, 0, left, 0, -0.5, top), width, 20)
    return Scene(f'{left}', Path('tile.tif'), grid, ())


def ground(scenes: list[Scene], region: ScenePatch) -> tuple[float, float]:
    """West and east end of a region."""
    left, _, right, _ = scenes[region.scene].grid.crop(region.window).bounds
    return left, right


#: Each overlaps the next one, so that all of them are one group.
CHAIN = [tile(6.0 * i) for i in range(20)]


def test_a_chain_of_overlapping_tiles_cannot_be_divided_by_scene() -> None:
    with pytest.raises(ValueError, match='cannot be divided'):
        split_scenes(CHAIN, range(20), 16)


def test_strips_divide_a_chain_that_is_one_group() -> None:
    split = split_strips(CHAIN, range(20), 8)
    ends = [
        (min(ground(CHAIN, r)[0] for r in part), max(ground(CHAIN, r)[1] for r in part))
        for part in (split.train, split.val, split.test)
    ]
    assert ends[0][0] == 0 and ends[2][1] == 6 * 19 + 10
    assert ends[0][1] <= ends[1][0] < ends[1][1] <= ends[2][0]
    assert split.rule == 'by 5 strips from west to east (train-train-train-val-test)'
    assert len(split.train) > len(split.val) >= 4


def test_tiles_are_cut_at_borders_only() -> None:
    split = split_strips(CHAIN, range(20), 8)
    whole = [r for r in split.train if r.window == Window(0, 0, 20, 20)]
    assert len(whole) >= len(split.train) - 2


@given(
    lefts=st.lists(st.floats(0, 300), min_size=5, max_size=30, unique=True),
    val=st.integers(0, 4),
    test=st.integers(0, 4),
)
def test_no_ground_is_in_two_parts_and_every_region_holds_a_patch(
    lefts: list[float], val: int, test: int
) -> None:
    if val == test:
        return
    scenes = [tile(left) for left in lefts]
    try:
        split = split_strips(scenes, range(len(scenes)), 6, val=[val], test=[test])
    except ValueError as error:
        assert 'leave nothing' in str(error)
        return
    parts = (split.train, split.val, split.test)
    for part in parts:
        assert all(region.window.width >= 6 for region in part)
        assert all(0 <= region.window.col_off <= 14 for region in part)
    for i, part in enumerate(parts):
        for other in parts[:i]:
            for a in part:
                for b in other:
                    (left, right), (west, east) = ground(scenes, a), ground(scenes, b)
                    assert right <= west + 0.01 or east <= left + 0.01


def test_scenes_without_labels_are_in_no_part() -> None:
    split = split_strips(CHAIN, range(0, 20, 2), 8)
    used = {r.scene for part in (split.train, split.val, split.test) for r in part}
    assert used <= set(range(0, 20, 2))


def test_more_than_one_crs_is_refused() -> None:
    other = replace(CHAIN[0], grid=replace(CHAIN[0].grid, crs=CRS.from_epsg(32632)))
    with pytest.raises(ValueError, match='only scenes in one CRS'):
        split_strips([*CHAIN, other], range(21), 8)


def test_strips_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match='different strips from 0 to 4'):
        split_strips(CHAIN, range(20), 8, val=[4], test=[4])
    with pytest.raises(ValueError, match='leave nothing of 8 pixels for val and test'):
        split_strips([tile(0), tile(1)], range(2), 8, number=5, val=[2], test=[3])
    with pytest.raises(ValueError, match='no scene with labels'):
        split_strips(CHAIN, [], 8)
