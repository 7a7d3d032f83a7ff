"""An identity model gives the image back, whatever the windows."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import WriteRaster, ramp
from torch import Tensor

from eoseg.inference.blending import BandBlender
from eoseg.inference.scene import Strip, predict_scene
from eoseg.inference.windows import WindowGrid
from eoseg_datasets.scene import Scene, open_scene


def identity(image: Tensor) -> Tensor:
    return image.nan_to_num(nan=0)


def predict(
    scene: Scene, size: int, overlap: int, batch_size: int = 3
) -> tuple[np.ndarray, np.ndarray, list[Strip]]:
    windows = WindowGrid(scene.grid.height, scene.grid.width, size, overlap)
    blender = BandBlender(len(scene.bands), windows)
    strips = list(predict_scene(scene, identity, windows, blender, batch_size))
    probabilities = np.concatenate([strip.probabilities for strip in strips], axis=1)
    return probabilities, np.concatenate([strip.valid for strip in strips]), strips


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    size=st.sampled_from([1, 7, 16, 32]),
    batch_size=st.integers(1, 5),
    data=st.data(),
)
def test_an_identity_model_gives_the_image_back(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    size: int,
    batch_size: int,
    data: st.DataObject,
) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    image = ramp(2, height, width)
    path = tmp_path_factory.mktemp('identity') / 'scene.tif'
    with rasterio.open(
        path, 'w', driver='GTiff', height=height, width=width, count=2, dtype='uint16',
        crs='EPSG:32632', transform=Affine(10, 0, 600_000, 0, -10, 5_300_000),
    ) as target:  # fmt: skip
        target.write(image)
    result, valid, _ = predict(open_scene(path), size, overlap, batch_size)
    assert valid.all()
    np.testing.assert_allclose(result, image, rtol=1e-5)


def test_nodata_stays_nodata_and_touches_nothing_else(
    write_raster: WriteRaster,
) -> None:
    image = ramp(2, 50, 60)
    image[:, 10:30, 20:45] = 0
    scene = open_scene(write_raster('hole.tif', image, nodata=0))
    result, valid, _ = predict(scene, size=16, overlap=4)
    np.testing.assert_array_equal(valid, image[0] != 0)
    np.testing.assert_allclose(result, image, rtol=1e-5)


def test_windows_without_data_are_not_predicted(write_raster: WriteRaster) -> None:
    image = ramp(1, 64, 64)
    image[:, :, 16:] = 0
    scene = open_scene(write_raster('edge.tif', image, nodata=0))
    shown: list[int] = []

    def count(batch: Tensor) -> Tensor:
        shown.append(len(batch))
        return identity(batch)

    windows = WindowGrid(64, 64, 16, 0)
    list(predict_scene(scene, count, windows, BandBlender(1, windows)))
    assert sum(shown) == 4  # of 16


def test_pixels_that_are_not_valid_reach_the_model_as_nan(
    write_raster: WriteRaster,
) -> None:
    image = ramp(1, 20, 20)
    image[:, 3, 4] = 0
    scene = open_scene(write_raster('speck.tif', image, nodata=0))
    windows = WindowGrid(20, 20, 20, 0)
    seen: list[Tensor] = []

    def look(batch: Tensor) -> Tensor:
        seen.append(batch.clone())
        return identity(batch)

    list(predict_scene(scene, look, windows, BandBlender(1, windows)))
    assert torch.isnan(seen[0]).nonzero().tolist() == [[0, 0, 3, 4]]


def test_strips_come_from_top_to_bottom_and_are_no_higher_than_a_window(
    write_raster: WriteRaster,
) -> None:
    scene = open_scene(write_raster('tall.tif', ramp(1, 97, 20)))
    _, _, strips = predict(scene, size=32, overlap=8)
    assert [strip.row_off for strip in strips] == [0, 24, 48, 65]
    assert max(strip.valid.shape[0] for strip in strips) <= 32


def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    low, high = (
        BandBlender(4, WindowGrid(height, 300, 64, 16)) for height in (100, 10_000)
    )
    assert low._band.nbytes == high._band.nbytes
