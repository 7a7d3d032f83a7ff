"""A scene is read at the resolution of the training; its map has its own grid."""

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.windows import Window
from tiny import WriteRaster

from eoseg.inference.blending import BandBlender
from eoseg.inference.resolution import (
    at_resolution,
    brought_back,
    pixel_size,
    seen_from,
    times_coarser,
)
from eoseg.inference.scene import Strip, predict_scene
from eoseg.inference.windows import WindowGrid
from eoseg_datasets.grid import Grid
from eoseg_datasets.scene import Scene, open_scene


def mapped(scene: Scene, res: float, part: Window) -> tuple[np.ndarray, np.ndarray]:
    """The image itself by way of another resolution, and its validity."""
    seen = at_resolution(scene, res)
    windows = WindowGrid(*seen.grid.shape, 16, 4)
    blender = BandBlender(1, windows, seen_from(part, scene.grid, seen.grid))
    strips = predict_scene(seen, lambda x: x.nan_to_num(nan=0), blender)
    back = list(brought_back(strips, seen.grid, scene, part))
    assert back[0].window.row_off == part.row_off
    assert sum(strip.window.height for strip in back) == part.height
    values = torch.cat([strip.probabilities for strip in back], dim=1).numpy()
    return values, np.concatenate([strip.valid for strip in back])


@settings(max_examples=12, deadline=None)
@given(res=st.sampled_from([3.0, 7.0, 10.0, 25.0, 90.0]), data=st.data())
def test_a_slope_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, res: float, data: st.DataObject
) -> None:
    height, width = data.draw(st.integers(20, 90)), data.draw(st.integers(20, 90))
    rows, cols = np.indices((height, width))
    image = (rows * 2 + cols + 10).astype(np.float32)
    path = tmp_path_factory.mktemp('slope') / 'scene.tif'
    with rasterio.open(
        path, 'w', driver='GTiff', height=height, width=width, count=1,
        dtype='float32', crs='EPSG:32632',
        transform=Affine(10, 0, 500_000, 0, -10, 5_300_000),
    ) as target:  # fmt: skip
        target.write(image, 1)
    top = data.draw(st.integers(0, height - 1))
    part = Window(0, top, width, height - top)
    values, valid = mapped(open_scene(path), res, part)
    assert valid.all()
    # Wrong at the frame only, where there is nothing to interpolate with.
    wide = max(int(res // 10) + 1, 2)
    inner = slice(max(wide - top, 0), -wide), slice(wide, -wide)
    np.testing.assert_allclose(values[0][inner], image[top:][inner], atol=0.15)


def test_nodata_stays_as_fine_as_the_scene_and_does_not_bleed(
    write_raster: WriteRaster,
) -> None:
    image = np.full((1, 60, 60), 200, np.uint8)
    image[:, 17:31, 23:] = 0
    scene = open_scene(write_raster('hole.tif', image, nodata=0))
    values, valid = mapped(scene, 40, Window(0, 0, 60, 60))
    np.testing.assert_array_equal(valid, image[0] != 0)
    np.testing.assert_allclose(values[0][valid], 200, rtol=1e-5)


@pytest.mark.parametrize('res', [4, 27])
def test_a_part_comes_out_as_in_the_whole(
    write_raster: WriteRaster, res: float
) -> None:
    image = np.random.default_rng(0).integers(0, 4, (1, 70, 90), np.uint8)
    scene = open_scene(write_raster('noise.tif', image, nodata=0))
    whole, _ = mapped(scene, res, Window(0, 0, 90, 70))
    for part in (Window(0, 0, 33, 70), Window(33, 20, 20, 31), Window(53, 69, 37, 1)):
        values, valid = mapped(scene, res, part)
        np.testing.assert_array_equal(valid, (image[0] != 0)[part.toslices()])
        np.testing.assert_array_equal(values, whole[(slice(None), *part.toslices())])


def test_the_same_ground_is_covered_by_whole_pixels(write_raster: WriteRaster) -> None:
    scene = open_scene(write_raster('a.tif', np.ones((1, 50, 73), np.uint8)))
    seen = at_resolution(scene, 30)
    assert seen.grid.shape == (17, 24)
    np.testing.assert_allclose(seen.grid.bounds, scene.grid.bounds)


def test_web_mercator_may_be_measured_on_the_ground_or_on_the_map() -> None:
    place = Affine(0.6, 0, 1e6, 0, -0.6, 8.4e6)  # 60 degrees north
    grid = Grid(CRS.from_epsg(3857), place, 100, 100)
    assert times_coarser(grid, 0.6) == pytest.approx(1)
    assert times_coarser(grid, 0.3) == pytest.approx(1, abs=0.02)
    degrees = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, 8, 0, -1e-4, 47), 100, 100)
    assert pixel_size(degrees, 10) == pytest.approx((7.6, 11.1), abs=0.1)


def test_strips_are_no_higher_than_they_need_to_be(write_raster: WriteRaster) -> None:
    scene = open_scene(write_raster('a.tif', np.ones((1, 900, 40), np.uint8)))
    coarse = at_resolution(scene, 200)
    whole = Strip(Window(0, 0, 2, 45), torch.ones(1, 45, 2), np.ones((45, 2), bool))
    back = brought_back([whole], coarse.grid, scene, Window(0, 0, 40, 900))
    assert max(strip.window.height for strip in back) <= 64
