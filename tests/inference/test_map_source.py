"""Of a map no more is read and done than its block of the mosaic needs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from earth import (
    UTM32,
    UTM33,
    WEST,
    assemble,
    certain,
    finished,
    probabilities,
    write,
)
from numpy.typing import NDArray
from rasterio.windows import Window

from eoseg.inference import map_source
from eoseg.inference.map_source import MapSource
from eoseg.inference.modes import MODES, Contribution, with_agreement
from eoseg.inference.target import target_grid
from eoseg_datasets.grid import Grid
from eoseg_datasets.handles import handle


@dataclass
class Watched:
    """An open raster that says what is read of it."""

    raster: Any
    path: Path
    reads: list[tuple[str, tuple[int, ...], Window]]

    @property
    def scales(self) -> tuple[float, ...]:
        return tuple(self.raster.scales)

    def read(self, bands: int | None = None, *, window: Window) -> NDArray[Any]:
        values = np.asarray(self.raster.read(bands, window=window))
        self.reads.append((self.path.name, values.shape, window))
        return values


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...], Window]]:
    """What is read: name of the file, shape and window; nothing may be warped."""
    found: list[tuple[str, tuple[int, ...], Window]] = []

    def watched(path: Path) -> Watched:
        return Watched(handle(path), path, found)

    def never(*_: Any) -> None:
        pytest.fail('warped')

    monkeypatch.setattr(map_source, 'handle', watched)
    monkeypatch.setattr(map_source, 'warp', never)
    monkeypatch.setattr(map_source, 'nearest', never)
    return found


def with_classes(source: MapSource) -> tuple[MapSource, NDArray[np.uint8]]:
    """A map beside classes that are not just the largest probability: ties were cut."""
    classes = np.zeros(source.grid.shape, np.uint8)
    classes[::3] = 1
    classes[:, :7] = 255
    return replace(source, finished=finished(source, classes)), classes


def test_a_scene_on_the_grid_of_the_mosaic_is_copied_block_by_block(
    tmp_path: Path, reads: list[tuple[str, tuple[int, ...], Window]]
) -> None:
    source, classes = with_classes(probabilities(tmp_path / 'a.tif', WEST))
    mosaic = assemble([source], WEST, size=32)
    np.testing.assert_array_equal(mosaic.classes, classes)
    with rasterio.open(tmp_path / 'a.confidence.tif') as stored:
        expected = np.where(classes == 255, 0, stored.read(1) / 254)
    np.testing.assert_allclose(mosaic.confidence, expected, atol=1e-6)
    np.testing.assert_array_equal(mosaic.source, np.where(classes == 255, -1, 0))
    windows = [
        Window(col, row, min(32, 90 - col), min(32, 80 - row))
        for row in (0, 32, 64)
        for col in (0, 32, 64)
    ]
    # Each block of classes and of confidence once, of probabilities none.
    assert reads == [
        (name, (window.height, window.width), window)
        for window in windows
        for name in ('a.classes.tif', 'a.confidence.tif')
    ]


def test_probabilities_are_read_only_where_scenes_overlap(
    tmp_path: Path, reads: list[tuple[str, tuple[int, ...], Window]]
) -> None:
    shifted = replace(WEST, transform=WEST.transform @ Affine.translation(64, 0))
    sources = [
        with_classes(probabilities(tmp_path / f'{name}.tif', grid))[0]
        for name, grid in [('a', WEST), ('b', shifted)]
    ]
    target = replace(WEST, width=154)
    assemble(sources, target, size=32, feather=50)
    columns = {(name, window.col_off) for name, _, window in reads}
    assert {col for name, col in columns if name == 'a.tif'} == {64}
    assert {col for name, col in columns if name == 'b.tif'} == {0}
    assert {col for name, col in columns if name == 'a.classes.tif'} == {0, 32}
    assert {col for name, col in columns if name == 'b.classes.tif'} == {32, 64}


def test_classes_alone_are_copied_too(
    tmp_path: Path, reads: list[tuple[str, tuple[int, ...], Window]]
) -> None:
    labels = np.indices(WEST.shape).sum(axis=0)[None] % 3 % 2
    labels[:, 50:60] = 9  # nodata
    source = write(tmp_path / 'a.tif', WEST, labels.astype(np.uint8), nodata=9)
    larger = replace(WEST, transform=WEST.transform @ Affine.translation(-20, -5))
    mosaic = assemble([source], replace(larger, width=130), size=512)
    expected = np.full((80, 130), 255)
    expected[5:, 20:110] = np.where(labels[0] == 9, 255, labels[0])[:75]
    np.testing.assert_array_equal(mosaic.classes, expected)
    np.testing.assert_array_equal(mosaic.confidence, expected != 255)
    assert [(name, shape) for name, shape, _ in reads] == [('a.tif', (1, 75, 90))]


def test_on_another_grid_what_a_scene_shows_is_warped(tmp_path: Path) -> None:
    source, _ = with_classes(probabilities(tmp_path / 'a.tif', WEST))
    target = target_grid([WEST], UTM33)
    with_files = assemble([source], target)
    without = assemble([replace(source, finished=None)], target)
    np.testing.assert_array_equal(with_files.classes, without.classes)


@pytest.mark.parametrize('name', MODES)
@pytest.mark.parametrize('crs', [UTM32, UTM33])
def test_alone_a_scene_shows_what_every_mode_would_show(
    tmp_path: Path, name: str, crs: Any
) -> None:
    grid = Grid(UTM32, WEST.transform, 90, 80)
    bands = np.random.default_rng(0).integers(0, 254, (2, *grid.shape), np.uint8)
    bands[:, 10:20, 30:50] = 255
    source = write(tmp_path / 'a.tif', grid, bands)
    target = target_grid([grid], crs)
    got = assemble([source], target, size=512)
    footprint = source.footprint(target)
    values, there = map_source.probabilities(
        source, footprint, target, torch.device('cpu')
    )
    mode = with_agreement(MODES[name])
    expected = mode([Contribution(0, values, there.float())])
    for field in ('classes', 'confidence', 'source', 'count', 'agreement'):
        np.testing.assert_array_equal(
            getattr(got, field), getattr(expected, field).numpy()
        )


def test_what_counts_twice_as_much_wins(tmp_path: Path) -> None:
    sources = [
        certain(tmp_path / 'a.tif', WEST, 0, sure=200),
        certain(tmp_path / 'b.tif', WEST, 1, sure=200),
    ]
    for weighty in (0, 1):
        weighed = [
            replace(source, priority=1 if i == weighty else 0.5)
            for i, source in enumerate(sources)
        ]
        mosaic = assemble(weighed, WEST)
        assert (mosaic.classes == weighty).all()
        assert (mosaic.source == weighty).all()
        expected = (2 * 200 + 54) / 3 / 254
        np.testing.assert_allclose(mosaic.confidence, expected, atol=1e-5)
