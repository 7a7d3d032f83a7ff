"""Seconds to make samplers of many scenes, and to count the classes of a large raster.

    python -m benchmarks.samplers [--rows 20000] [--side 10000]

Samplers are made in turn, ours and TorchGeo's, as the speed of a machine changes from
minute to minute; the median of three rounds is given. The census is compared with
reading the labels in one piece and doing nothing with them.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import torchgeo.samplers
from affine import Affine
from rasterio.windows import Window
from shapely import box
from torchgeo.datasets import GeoDataset

from eoseg_datasets import GridSceneSampler, RandomSceneSampler, ScenePatch
from eoseg_datasets.census import cached_census, take_census
from eoseg_datasets.classes import Classes
from eoseg_datasets.labels import open_labels
from eoseg_datasets.scene import open_scene

#: Side of a scene and of a patch in pixels, and size of a pixel in metres.
SCENE, PATCH, RES = 1024, 256, 10

ROUNDS = 3

CLASSES = 8

Make = Callable[[], Any]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rows', type=int, default=20_000, help='scenes of a sampler')
    parser.add_argument('--side', type=int, default=10_000, help='of the label raster')
    options = parser.parse_args()
    print(f'| {options.rows:,} scenes | ours | TorchGeo | ratio |\n|---|---|---|---|')
    for name, (ours, theirs) in sampler_pairs(options.rows).items():
        a, b = interleaved(ours, theirs)
        print(f'| {name} | {a:.3f} s | {b:.3f} s | {b / a:.0f} |')
    print(f'\n| {options.side:,} x {options.side:,} labels | seconds |\n|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        os.environ['EOSEG_CACHE'] = folder
        for name, seconds in census_times(Path(folder), options.side).items():
            print(f'| {name} | {seconds:.3f} |')


def sampler_pairs(rows: int) -> dict[str, tuple[Make, Make]]:
    """Ours and TorchGeo's sampler of as many scenes, random and in a grid."""
    regions = [ScenePatch(i, Window(0, 0, SCENE, SCENE)) for i in range(rows)]
    dataset = _Rows(rows)
    theirs: Any = torchgeo.samplers
    # Since 0.10 under other names and with keywords only.
    random = getattr(theirs, 'RandomPatchSampler', theirs.RandomGeoSampler)
    if (grid := getattr(theirs, 'GriddedPatchSampler', None)) is None:
        grid = _with_stride(theirs.GridGeoSampler)
    return {
        'random': (
            lambda: RandomSceneSampler(regions, PATCH, rows),
            lambda: random(dataset, size=PATCH, length=rows),
        ),
        'grid': (
            lambda: GridSceneSampler(regions, PATCH),
            lambda: grid(dataset, size=PATCH),
        ),
    }


def interleaved(*makes: Make) -> list[float]:
    """Median seconds of each."""
    seconds = [[_seconds(make) for make in makes] for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*seconds, strict=True)]


def census_times(folder: Path, side: int) -> dict[str, float]:
    """Seconds of all that is done with one label raster."""
    path = _write_labels(folder / 'labels.tif', side)
    scene = open_scene(path)
    classes = Classes.named([f'class {i}' for i in range(CLASSES)])
    labels = open_labels(path, classes)
    whole = Window(0, 0, side, side)
    arguments = [scene], [ScenePatch(0, whole)], lambda _: labels, CLASSES
    times = {
        'read in one piece': _seconds(lambda: labels.read(scene.grid, whole)),
        'census': _seconds(lambda: take_census(*arguments)),
        'census, kept': _seconds(lambda: cached_census(*arguments, [path])),
        'census from the cache': _seconds(lambda: cached_census(*arguments, [path])),
    }
    census = cached_census(*arguments, [path])
    times['balanced density'] = _seconds(census.balanced)
    density = census.balanced()
    name = f'random sampler of {len(density.weight):,} boxes'
    regions = [ScenePatch(0, whole)]
    times[name] = _seconds(lambda: RandomSceneSampler(regions, PATCH, 1, 0, density))
    sampler = RandomSceneSampler(regions, PATCH, 20_000, 0, density)
    times['20,000 patches from it'] = _seconds(lambda: list(sampler))
    return times


class _Rows(GeoDataset):
    """Only the index of a data set: scenes side by side."""

    def __init__(self, rows: int) -> None:
        across, length = round(rows**0.5), SCENE * RES
        shapes = [
            box(x, y, x + length, y + length)
            for x, y in (
                (i % across * length, i // across * length) for i in range(rows)
            )
        ]
        day = pd.Interval(pd.Timestamp('2024'), pd.Timestamp('2025'), 'both')
        times = pd.IntervalIndex([day] * rows, closed='both', name='datetime')
        self.index = gpd.GeoDataFrame(geometry=shapes, index=times, crs='EPSG:32632')
        self._res = (RES, RES)

    def __getitem__(self, query: Any) -> dict[str, Any]:
        raise NotImplementedError


def _with_stride(sampler: Any) -> Any:
    return lambda dataset, size: sampler(dataset, size, size)


def _seconds(do: Make) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        start = time.perf_counter()
        do()
        return time.perf_counter() - start


def _write_labels(path: Path, side: int) -> Path:
    """Fields of eight classes, deflate tiles of 512 px."""
    rng = np.random.default_rng(0)
    fields = rng.integers(0, CLASSES, (side // 40 + 1, side // 40 + 1), np.uint8)
    labels = np.kron(fields, np.ones((40, 40), np.uint8))[:side, :side]
    with rasterio.open(
        path, 'w', driver='GTiff', crs='EPSG:32632',
        transform=Affine(RES, 0, 600_000, 0, -RES, 5_300_000), width=side, height=side,
        count=1, dtype='uint8', tiled=True, blockxsize=512, blockysize=512,
        compress='deflate',
    ) as target:  # fmt: skip
        target.write(labels, 1)
    return path


if __name__ == '__main__':
    main()
