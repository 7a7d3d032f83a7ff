"""Opening a folder of many scenes: the first time, again, and with TorchGeo.

    python -m benchmarks.index [--scenes N] [--rounds N]

All ways open the same files one after the other in every round, as the speed of a machine
changes from minute to minute:

* ``headers``: every file is opened, as `find_scenes` does
* ``first``: the index is made, with statistics of every scene
* ``again``: the index is there and nothing has changed
* ``one new``: one file has been written again
* ``torchgeo``: RasterDataset, which opens every file each time

The files are in the memory of the machine throughout; from a disk or a network drive,
opening them takes longer, and looking at their time of writing hardly does.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from torchgeo.datasets import RasterDataset

from eoseg_datasets.index import indexed_scenes
from eoseg_datasets.inventory import find_scenes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--scenes', type=int, default=1000)
    parser.add_argument('--rounds', type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder, 'scenes'), Path(folder, 'cache')
        os.environ['EOSEG_CACHE'] = str(cache)
        write_scenes(root, options.scenes)
        report(measure(root, cache, options.rounds), options.scenes)


def write_scenes(root: Path, count: int) -> None:
    """Small scenes: 4 bands of uint16, 256 px, one deflate tile."""
    root.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        # Smooth, so that they compress as scenes do.
        coarse = rng.integers(200, 4000, (4, 16, 16), dtype=np.uint16)
        image = np.kron(coarse, np.ones((1, 16, 16), np.uint16))
        image += rng.integers(0, 50, image.shape, dtype=np.uint16)
        place = Affine(
            10, 0, 400_000 + 2560 * (i % 100), 0, -10, 5_300_000 - 2560 * (i // 100)
        )
        with rasterio.open(
            root / f'{i:05}.tif', 'w', driver='GTiff', crs='EPSG:32632',
            transform=place, width=256, height=256, count=4, dtype='uint16', nodata=0,
            tiled=True, compress='deflate',
        ) as target:  # fmt: skip
            target.write(image)


def measure(
    root: Path, cache: Path, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds on the clock and of processors, of each way and round."""
    ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        'headers': (_nothing, lambda: find_scenes(root)),
        'first': (lambda: shutil.rmtree(cache, True), lambda: indexed_scenes(root)),
        'again': (_nothing, lambda: indexed_scenes(root)),
        'one new': (min(root.iterdir()).touch, lambda: indexed_scenes(root)),
        'torchgeo': (_nothing, lambda: RasterDataset(root)),
    }
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (prepare, open_folder) in ways.items():
            prepare()
            start = time.perf_counter(), time.process_time()
            open_folder()
            clock, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
            seconds[way].append((clock, cpu))
    return seconds


def report(seconds: dict[str, list[tuple[float, float]]], count: int) -> None:
    """Print the median of each way, and how many times `again` it takes."""
    print(f'| {count} scenes | clock, s | CPU, s | clock / again | CPU / again |')
    print('|---|---|---|---|---|')
    again = np.median(seconds['again'], axis=0)
    for way, rounds in seconds.items():
        clock, cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f'| {way} | {clock:.3f} | {cpu:.3f} '
            f'| {clock / again[0]:.1f} | {cpu / again[1]:.1f} |'
        )


def _nothing() -> None:
    """No preparation."""


if __name__ == '__main__':
    warnings.filterwarnings('ignore')
    main()
