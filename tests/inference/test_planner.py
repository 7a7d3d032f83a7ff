"""Parts of a scene fit into memory, and together are the scene."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.windows import Window
from tiny import WriteRaster

from eoseg.inference.blending import BandBlender
from eoseg.inference.layers import Layers
from eoseg.inference.planner import Demand, plan_parts, units, units_of
from eoseg.inference.scene import predict_scene
from eoseg.inference.windows import WindowGrid
from eoseg.io.cog import BLOCK
from eoseg_datasets.grid import Grid
from eoseg_datasets.scene import open_scene


def demand(height: int, width: int) -> Demand:
    windows = WindowGrid(height, width, 512, 128)
    return Demand(
        windows, bands=4, stored=8, rows=512, num_classes=5, layers=7, batch_size=4
    )


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 60_000),
    memory=st.integers(400, 4000),
)
def test_parts_are_blocks_side_by_side_that_fit(
    height: int, width: int, memory: int
) -> None:
    wanted = demand(height, width)
    parts = plan_parts(wanted, memory * 10**6)
    assert all(wanted.bytes_for(part) <= memory * 10**6 for part in parts)
    assert parts[0].col_off == 0
    assert sum(part.width for part in parts) == width
    for left, right in pairwise(parts):
        assert left.col_off + left.width == right.col_off
        assert right.col_off % BLOCK == 0
    assert {(part.row_off, part.height) for part in parts} == {(0, height)}


def test_ten_thousand_pixels_take_less_than_a_gigabyte_in_one_part() -> None:
    assert len(plan_parts(demand(10_000, 10_000), 10**9)) == 1


def test_memory_does_not_depend_on_the_height() -> None:
    low, high = (
        demand(height, 5000).bytes_for(Window(0, 0, 5000, height))
        for height in (2000, 2_000_000)
    )
    assert low == high


@pytest.mark.parametrize('times, memory', [(4, 10**9), (1 / 4, 4 * 10**8)])
def test_a_scene_read_at_another_resolution_is_divided_on_its_own_grid(
    times: float, memory: int
) -> None:
    place = Affine(10, 0, 0, 0, -10, 0)
    scene = Grid(CRS.from_epsg(32632), place, 20_000, 3000)
    seen = Grid(
        scene.crs,
        place @ Affine.scale(1 / times),
        int(20_000 * times),
        int(3000 * times),
    )
    wanted = replace(demand(seen.height, seen.width), resampled=(scene, seen))
    parts = plan_parts(wanted, memory)
    assert len(parts) > 1
    assert sum(part.width for part in parts) == 20_000
    assert {part.height for part in parts} == {3000}
    assert all(part.col_off % BLOCK == 0 for part in parts)


def test_too_little_memory_is_refused_with_what_would_do() -> None:
    with pytest.raises(ValueError, match=r'--memory \d+MB or more'):
        plan_parts(demand(5000, 5000), 10**8)


def test_units_are_rows_of_blocks() -> None:
    rows = [(w.row_off, w.height, w.width) for w in units_of(Window(512, 512, 70, 600))]
    assert rows == [(512, 512, 70), (1024, 88, 70)]


def test_units_of_all_parts_are_the_map(write_raster: WriteRaster) -> None:
    image = np.random.default_rng(0).integers(0, 3, (2, 1100, 1300), np.uint8)
    scene = open_scene(write_raster('scene.tif', image, nodata=0))
    windows = WindowGrid(1100, 1300, 200, 40)
    layers = Layers(('classes', 'confidence'), 2)
    maps = []
    for parts in (
        [Window(0, 0, 1300, 1100)],
        [Window(0, 0, 512, 1100), Window(512, 0, 788, 1100)],
    ):
        whole = np.zeros((2, 1100, 1300), np.uint8)
        for part in parts:
            blender = BandBlender(2, windows, part)
            strips = predict_scene(scene, lambda x: x.nan_to_num(nan=0) / 3, blender)
            cut = list(units(strips, layers, part))
            assert [window for window, _ in cut] == units_of(part)
            for window, values in cut:
                whole[(slice(None), *window.toslices())] = values
        maps.append(whole)
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0][0] == 255, (image == 0).all(axis=0))
