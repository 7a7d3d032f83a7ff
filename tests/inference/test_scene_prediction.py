"""An identity model gives the image back, whatever the windows."""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.windows import Window
from tiny import WriteRaster, ramp
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from eoseg.inference.blending import BandBlender
from eoseg.inference.reader import rows_at_once
from eoseg.inference.scene import Predict, Strip, predict_scene
from eoseg.inference.windows import WindowGrid
from eoseg_datasets.scene import Scene, open_scene


def identity(image: Tensor) -> Tensor:
    return image.nan_to_num(nan=0)


def strips_of(
    scene: Scene,
    predict: Predict = identity,
    size: int = 16,
    overlap: int = 4,
    part: Window | None = None,
    **settings: int,
) -> list[Strip]:
    windows = WindowGrid(scene.grid.height, scene.grid.width, size, overlap)
    blender = BandBlender(len(scene.bands), windows, part)
    return list(predict_scene(scene, predict, blender, **settings))


def joined(strips: Sequence[Strip]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values of all rows, 0 where not valid, and validity."""
    valid = np.concatenate([strip.valid for strip in strips])
    values = torch.cat([strip.probabilities for strip in strips], dim=1).numpy()
    return values * valid, valid


def write(path: Path, image: NDArray[Any], **profile: Any) -> Path:
    count, height, width = image.shape
    with rasterio.open(
        path, 'w', driver='GTiff', height=height, width=width, count=count,
        dtype=image.dtype, crs='EPSG:32632',
        transform=Affine(10, 0, 600_000, 0, -10, 5_300_000), **profile,
    ) as target:  # fmt: skip
        target.write(image)
    return path


@settings(max_examples=80, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    size=st.sampled_from([1, 7, 16, 32]),
    batch_size=st.integers(1, 5),
    threads=st.integers(1, 3),
    dtype=st.sampled_from(['uint8', 'int16', 'uint16', 'int32', 'float32', 'float64']),
    tiled=st.booleans(),
    holes=st.lists(
        st.tuples(
            st.integers(0, 69),
            st.integers(0, 69),
            st.integers(1, 70),
            st.integers(1, 70),
        ),
        max_size=3,
    ),
    data=st.data(),
)
def test_an_identity_model_gives_the_image_back(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    size: int,
    batch_size: int,
    threads: int,
    dtype: str,
    tiled: bool,
    holes: list[tuple[int, int, int, int]],
    data: st.DataObject,
) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    image = (ramp(2, height, width) % 251 + 1).astype(dtype)
    for row, col, rows, cols in holes:
        image[:, row : row + rows, col : col + cols] = 0
    blocks = {'tiled': True, 'blockxsize': 16, 'blockysize': 16} if tiled else {}
    path = tmp_path_factory.mktemp('identity') / 'scene.tif'
    scene = open_scene(write(path, image, nodata=0, **blocks))
    strips = strips_of(
        scene, size=size, overlap=overlap, batch_size=batch_size, threads=threads
    )
    result, valid = joined(strips)
    np.testing.assert_array_equal(valid, image[0] != 0)
    np.testing.assert_allclose(result, image, rtol=1e-5)


def smooth(image: Tensor) -> Tensor:
    """The mean of 5 x 5 pixels, which shifts with the image."""
    return avg_pool2d(pad(identity(image), (2, 2, 2, 2), mode='replicate'), 5, 1)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    size=st.integers(16, 40),
    data=st.data(),
)
def test_a_network_that_sees_a_quarter_of_the_overlap_shows_no_seam(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    size: int,
    data: st.DataObject,
) -> None:
    """Including the frame of the scene, if the scene can hold a window."""
    overlap = data.draw(st.integers(8, size - 1))
    image = np.random.default_rng(0).integers(1, 255, (1, height, width), np.uint8)
    path = tmp_path_factory.mktemp('seamless') / 'scene.tif'
    scene = open_scene(write(path, image))
    result, _ = joined(strips_of(scene, smooth, size=size, overlap=overlap))
    # What a window has outside of a small scene is shown as 0.
    beyond = max(size - height, 0), max(size - width, 0)
    padded = pad(torch.from_numpy(image[None]).float(), (0, beyond[1], 0, beyond[0]))
    whole = smooth(padded)[0, :, :height, :width].numpy()
    np.testing.assert_allclose(result, whole, rtol=1e-4)


def test_overlap_hides_what_a_network_cannot_see_at_the_frame_of_a_window(
    write_raster: WriteRaster,
) -> None:
    image = np.random.default_rng(0).integers(1, 255, (1, 90, 75), np.uint8)
    scene = open_scene(write_raster('noise.tif', image))
    whole = smooth(torch.from_numpy(image[None]).float())[0].numpy()

    def error(overlap: int) -> float:
        result, _ = joined(strips_of(scene, smooth, size=32, overlap=overlap))
        return float(np.square(result - whole).mean())

    assert error(overlap=4) < error(overlap=0) / 5


def test_the_result_does_not_depend_on_batch_size_or_readers(
    write_raster: WriteRaster,
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (2, 90, 75), np.uint8)
    scene = open_scene(write_raster('noise.tif', image, nodata=0))
    torch.manual_seed(0)
    network = torch.nn.Conv2d(2, 2, 3, padding=1).requires_grad_(False)

    def predict(batch: Tensor) -> Tensor:
        probabilities: Tensor = network(identity(batch) / 255).softmax(dim=1)
        return probabilities

    first, _ = joined(strips_of(scene, predict, batch_size=1))
    for settings_ in ({'batch_size': 3}, {'batch_size': 64}, {'threads': 3}):
        again, _ = joined(strips_of(scene, predict, **settings_))
        np.testing.assert_allclose(again, first, atol=1e-6)
        np.testing.assert_array_equal(again.argmax(0), first.argmax(0))


def test_labels_are_those_of_all_windows_added_up_in_double_precision(
    write_raster: WriteRaster,
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 255, (5, 150, 130), np.uint8)
    scene = open_scene(write_raster('noise.tif', image))

    def predict(batch: Tensor) -> Tensor:
        return (batch / 50).softmax(dim=1)

    windows = WindowGrid(150, 130, 32, 8)
    total = np.zeros((5, 150, 130))
    for (row, top), (col, left) in (
        ((r, top), (c, left))
        for r, top in enumerate(windows.rows.offsets)
        for c, left in enumerate(windows.cols.offsets)
    ):
        cut = slice(top, top + 32), slice(left, left + 32)
        shown = predict(torch.from_numpy(image[(slice(None), *cut)].copy())[None])[0]
        weights = np.outer(windows.rows.weights[row], windows.cols.weights[col])
        total[(slice(None), *cut)] += shown.numpy().astype(np.float64) * weights
    result, _ = joined(strips_of(scene, predict, size=32, overlap=8))
    assert (result.argmax(axis=0) != total.argmax(axis=0)).sum() == 0


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_part_comes_out_as_in_the_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    height, width = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 80))
    image = np.random.default_rng(0).integers(0, 9, (2, height, width), np.uint8)
    path = tmp_path_factory.mktemp('part') / 'scene.tif'
    scene = open_scene(write(path, image, nodata=0))
    top, left = (
        data.draw(st.integers(0, height - 1)),
        data.draw(st.integers(0, width - 1)),
    )
    rows, cols = (
        data.draw(st.integers(1, height - top)),
        data.draw(st.integers(1, width - left)),
    )
    overlap = data.draw(st.integers(0, 15))
    whole, valid = joined(strips_of(scene, smooth, overlap=overlap))
    strips = strips_of(
        scene, smooth, overlap=overlap, part=Window(left, top, cols, rows)
    )
    assert strips[0].window.row_off == top
    assert {strip.window.col_off for strip in strips} == {left}
    part, there = joined(strips)
    cut = slice(top, top + rows), slice(left, left + cols)
    np.testing.assert_array_equal(there, valid[cut])
    np.testing.assert_array_equal(part, whole[(slice(None), *cut)])


def test_windows_without_data_are_not_predicted(write_raster: WriteRaster) -> None:
    image = ramp(1, 64, 64)
    image[:, :, 16:] = 0
    scene = open_scene(write_raster('edge.tif', image, nodata=0))
    shown: list[int] = []

    def count(batch: Tensor) -> Tensor:
        shown.append(len(batch))
        return identity(batch)

    strips_of(scene, count, overlap=0)
    assert sum(shown) == 4  # of 16


def test_batches_go_on_into_the_next_row_of_windows(write_raster: WriteRaster) -> None:
    scene = open_scene(write_raster('whole.tif', ramp(1, 48, 48)))
    shown: list[int] = []

    def count(batch: Tensor) -> Tensor:
        shown.append(len(batch))
        return identity(batch)

    strips_of(scene, count, overlap=0, batch_size=4)
    assert shown == [4, 4, 1]


def test_pixels_that_are_not_valid_reach_the_model_as_nan(
    write_raster: WriteRaster,
) -> None:
    image = ramp(1, 20, 20)
    image[:, 3, 4] = 0
    scene = open_scene(write_raster('speck.tif', image, nodata=0))
    seen: list[Tensor] = []

    def look(batch: Tensor) -> Tensor:
        seen.append(batch.clone())
        return identity(batch)

    strips_of(scene, look, size=24)
    expected = np.zeros((24, 24), bool)
    expected[3, 4] = expected[20:] = expected[:, 20:] = True
    np.testing.assert_array_equal(torch.isnan(seen[0][0, 0]), expected)


def test_the_model_sees_what_the_reader_gives(write_raster: WriteRaster) -> None:
    """Scale and offset are those of training: the same numbers, to the bit."""
    path = write_raster('scaled.tif', ramp(2, 20, 20))
    with rasterio.open(path, 'r+') as target:
        target.scales, target.offsets = (2.75e-5, 1), (-0.2, 0)
    scene = open_scene(path)
    seen: list[Tensor] = []

    def look(batch: Tensor) -> Tensor:
        seen.append(batch.clone())
        return identity(batch)

    strips_of(scene, look, size=20)
    image, _ = scene.read(Window(0, 0, 20, 20))
    np.testing.assert_array_equal(seen[0][0].numpy(), image)


def test_strips_come_from_top_to_bottom_and_are_no_higher_than_a_window(
    write_raster: WriteRaster,
) -> None:
    scene = open_scene(write_raster('tall.tif', ramp(1, 97, 20)))
    strips = strips_of(scene, size=32, overlap=8)
    assert [strip.window.row_off for strip in strips] == [0, 24, 48, 65]
    assert max(strip.window.height for strip in strips) <= 32


@pytest.mark.parametrize('tiled', [True, False])
def test_every_block_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiled: bool
) -> None:
    blocks: dict[str, Any] = {'tiled': True, 'blockxsize': 128, 'blockysize': 128}
    if not tiled:
        blocks = {'blockysize': 3}
    image = ramp(1, 900, 300)
    scene = open_scene(write(tmp_path / 'scene.tif', image, **blocks))
    reads = np.zeros((900, 300), int)
    tops: list[int] = []
    original: Callable[..., Any] = Scene.read_stored

    def spy(scene: Scene, window: Window) -> Any:
        reads[window.toslices()] += 1
        tops.append(int(window.row_off))
        return original(scene, window)

    monkeypatch.setattr(Scene, 'read_stored', spy)
    strips_of(scene, size=64, overlap=32)
    assert (reads == 1).all()
    step = rows_at_once(scene)
    assert step % (128 if tiled else 3) == 0
    assert sorted(tops) == list(range(0, 900, step))  # no block is cut


@contextmanager
def watched() -> Iterator[list[int]]:
    """Memory of this process in bytes, looked at while the block runs."""
    stop = threading.Event()
    seen: list[int] = []

    def watch() -> None:
        while not stop.wait(0.005):
            resident, shared = Path('/proc/self/statm').read_text().split()[1:3]
            seen.append((int(resident) - int(shared)) * os.sysconf('SC_PAGE_SIZE'))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        stop.set()
        watcher.join()


@pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')
def test_memory_does_not_grow_with_the_height(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks that GDAL keeps would fill up over the height, up to their bound.
    monkeypatch.setattr('eoseg.inference.reader.CACHE', 2**20)
    rng = np.random.default_rng(0)
    blocks = {'tiled': True, 'blockxsize': 256, 'blockysize': 256}
    row = rng.integers(1, 9999, (4, 256, 768), np.uint16)
    peaks = []
    # The first one warms up.
    for times in (10, 10, 80):
        image = np.tile(row, (1, times, 1))
        scene = open_scene(write(tmp_path / f'{times}.tif', image, **blocks))
        del image
        windows = WindowGrid(256 * times, 768, 256, 64)
        blender = BandBlender(4, windows)
        with watched() as seen:
            for strip in predict_scene(scene, identity, blender, batch_size=2):
                assert strip.probabilities.shape[2] == 768
        peaks.append(max(seen) - seen[0])
    # The image alone is 126 MB as stored, and twice that as numbers of the network.
    assert peaks[2] - peaks[1] < 40e6


def test_a_block_that_cannot_be_read_is_an_error_with_the_path(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (1, 600, 300), np.uint8)
    path = write(tmp_path / 'bad.tif', image, compress='deflate', blockysize=16)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(2000) + whole[middle + 2000 :])
    with pytest.raises(rasterio.errors.RasterioIOError, match=r'bad\.tif'):
        strips_of(open_scene(path), size=64)
