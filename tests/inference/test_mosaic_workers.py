"""Several blocks of a mosaic are worked on at a time, and it does not show."""

import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from earth import EAST, WEST, assemble, probabilities, two_zones, write
from numpy.typing import NDArray
from rasterio.windows import Window

from eoseg.inference import map_source
from eoseg.inference.map_source import MapSource
from eoseg.inference.modes import MODES, blend, with_agreement
from eoseg.inference.mosaic import block_windows, mosaic_blocks
from eoseg.inference.resources import Budget, Resources
from eoseg.inference.target import target_grid
from eoseg_datasets.handles import handle

FIELDS = ('classes', 'confidence', 'source', 'count', 'agreement')


@pytest.fixture
def sources(tmp_path: Path) -> list[MapSource]:
    """Two maps of probabilities and one of classes that overlap."""
    labels = np.zeros((1, *WEST.shape), np.uint8)
    labels[:, 20:] = 1
    return [*two_zones(tmp_path), write(tmp_path / 'labels.tif', WEST, labels)]


@pytest.mark.parametrize('workers', [2, 5])
@pytest.mark.parametrize('memory', [2**29, 100_000])
@pytest.mark.parametrize('name', MODES)
def test_workers_make_the_same_pixels(
    sources: list[MapSource], workers: int, memory: int, name: str
) -> None:
    target = target_grid([WEST, EAST])
    mode = with_agreement(MODES[name])
    one = assemble(sources, target, mode=mode, memory=memory)
    many = assemble(sources, target, mode=mode, memory=memory, workers=workers)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(many, field))


def test_blocks_come_in_the_order_of_their_windows(sources: list[MapSource]) -> None:
    target = target_grid([WEST, EAST])
    windows = list(block_windows(target, 32))[::-1]
    blocks = mosaic_blocks(
        sources, target, windows=windows, resources=Resources(workers=4)
    )
    assert [block.window for block in blocks] == windows


def test_no_more_blocks_are_begun_than_twice_the_workers(
    sources: list[MapSource],
) -> None:
    target = target_grid([WEST, EAST])
    begun: list[Window] = []

    def watched() -> Iterator[Window]:
        for window in block_windows(target, 16):
            begun.append(window)
            yield window

    blocks = mosaic_blocks(
        sources, target, windows=watched(), resources=Resources(workers=3)
    )
    for taken in range(1, 5):
        next(blocks)
        assert len(begun) <= taken + 5
    assert isinstance(blocks, Generator)
    blocks.close()
    assert len(begun) < 12


def test_threads_share_no_raster(
    sources: list[MapSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    users: dict[int, set[int]] = {}
    kept = []

    def watched(path: Path) -> rasterio.DatasetReader:
        raster = handle(path)
        kept.append(raster)  # or else another could get its id
        users.setdefault(id(raster), set()).add(threading.get_ident())
        time.sleep(0.002)  # so that more than one thread has work
        return raster

    monkeypatch.setattr(map_source, 'handle', watched)
    assemble(sources, target_grid([WEST, EAST]), size=32, workers=4)
    assert all(len(threads) == 1 for threads in users.values())
    assert len(set.union(*users.values())) > 1


def test_a_map_that_cannot_be_read_ends_the_mosaic(sources: list[MapSource]) -> None:
    target = target_grid([WEST, EAST])
    blocks = mosaic_blocks(
        sources,
        target,
        windows=block_windows(target, 32),
        resources=Resources(workers=3),
    )
    next(blocks)
    size = sources[0].path.stat().st_size
    sources[0].path.write_bytes(b'no raster'.ljust(size))
    with pytest.raises(rasterio.errors.RasterioIOError):
        list(blocks)


def test_torch_has_its_threads_back_afterwards(sources: list[MapSource]) -> None:
    before = torch.get_num_threads()
    assemble(sources, target_grid([WEST, EAST]), workers=2)
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == before


def test_threads_take_no_more_than_the_budget() -> None:
    budget = Budget(100)
    taken, most = 0, 0
    lock = threading.Lock()

    def work(amount: int) -> None:
        nonlocal taken, most
        with budget.take(amount):
            with lock:
                taken += amount
                most = max(most, taken)
            time.sleep(0.001)
            with lock:
                taken -= amount

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [40, 50, 10, 30, 100, 60, 70, 20] * 5))
    assert 50 < most <= 100


def test_who_needs_more_than_the_budget_works_alone() -> None:
    budget = Budget(100)
    order = []

    def small() -> None:
        with budget.take(1):
            order.append('small')

    with ThreadPoolExecutor(1) as pool, budget.take(1000):
        waiting = pool.submit(small)
        time.sleep(0.02)
        order.append('large')
    waiting.result()
    assert order == ['large', 'small']


def test_memory_is_for_all_workers_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a block needs is taken from one budget, however many workers there are."""
    source = probabilities(tmp_path / 'a.tif', WEST)
    largest, taken = 0, 0
    lock = threading.Lock()
    original = MapSource.read

    def watched(self: MapSource, window: Window, step: int = 1) -> NDArray[Any]:
        nonlocal largest, taken
        with lock:
            taken += 1
            largest = max(largest, taken)
        time.sleep(0.005)
        with lock:
            taken -= 1
        return original(self, window, step)

    monkeypatch.setattr(MapSource, 'read', watched)
    # Four blocks that need the same, all of them in the map.
    target = target_grid([WEST], EAST.crs).crop(Window(20, 12, 64, 64))
    assemble([source], target, mode=blend, size=32, workers=4)
    assert largest > 1
    largest = 0
    # Enough for one block at a time, so that none is made in parts.
    assemble([source], target, mode=blend, size=32, workers=4, memory=90_000)
    assert largest == 1
