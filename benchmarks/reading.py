"""Patches per second: SceneFolder against TorchGeo's RasterDataset.

    python -m benchmarks.reading [--real FOLDER]

All read the same places in turn, as the speed of a machine changes from minute to minute.
Three ways are compared, in milliseconds of processor time (one thread) per patch:

* ``patch``: a window of a scene, as our samplers give it
* ``query``: the same place as a query of TorchGeo, bounds in the CRS of the data set
* ``torchgeo``: that query answered by RasterDataset, which warps what is in another CRS

``first`` is a patch whose blocks have to be decompressed, which takes every way the same
time; ``again`` is one whose blocks GDAL has kept, as in all epochs but the first of a
training whose scenes fit into its cache.
"""

import argparse
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.windows import Window
from torchgeo.datasets import RasterDataset

from eoseg_datasets import SceneFolder, ScenePatch

#: Side of a patch in pixels.
SIZE = 256


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--real', type=Path, help='a folder of scenes of one band count'
    )
    parser.add_argument('--patches', type=int, default=60)
    options = parser.parse_args()
    print(
        '| scenes | | patch | query | torchgeo | torchgeo / patch | / query | equal |'
    )
    print('|---|---|---|---|---|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        if options.real is not None:
            root = Path(folder) / 'real'
            shutil.copytree(options.real, root)
            compare(options.real.name, root, options.patches)
        for name, zones in [('one CRS', [32632]), ('mixed CRS', [32632, 32633])]:
            root = Path(folder) / name.replace(' ', '_')
            write_scenes(root, zones)
            compare(name, root, options.patches)


def write_scenes(root: Path, zones: Sequence[int], count: int = 6) -> None:
    """Scenes of noise: 6 bands of uint16, 2048 px, deflate tiles of 256 px."""
    root.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        # Smooth, so that they compress as scenes do.
        coarse = rng.integers(200, 4000, (6, 128, 128), dtype=np.uint16)
        image = np.kron(coarse, np.ones((1, 16, 16), np.uint16))
        image += rng.integers(0, 50, image.shape, dtype=np.uint16)
        zone = zones[i % len(zones)]
        west = 600_000 if zone == zones[0] else 200_000
        with rasterio.open(
            root / f'scene{i}.tif', 'w', driver='GTiff', crs=f'EPSG:{zone}',
            transform=Affine(10, 0, west + 25_000 * i, 0, -10, 5_300_000),
            width=2048, height=2048, count=6, dtype='uint16', nodata=0,
            tiled=True, blockxsize=256, blockysize=256, compress='deflate',
        ) as target:  # fmt: skip
            target.write(image)


def compare(name: str, root: Path, count: int) -> None:
    """Measure one folder and print its lines."""
    ours, theirs = SceneFolder(root), RasterDataset(root)
    patches = _patches(ours, count)
    queries = [_query(ours, patch, ours) for patch in patches]
    # A folder of its own, so that neither warms the cache of the other.
    other = root.parent / f'{root.name}_again'
    shutil.copytree(root, other)
    ways: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
        'patch': (ours.__getitem__, patches),
        'query': (SceneFolder(other).__getitem__, queries),
        'torchgeo': (theirs.__getitem__, [_query(ours, p, theirs) for p in patches]),
    }
    for label in ('first', 'again'):
        milliseconds, equal = _measure(ways, count)
        patch, query, torchgeo = (milliseconds[way] for way in ways)
        print(
            f'| {name} | {label} | {patch:.1f} | {query:.1f} | {torchgeo:.1f} '
            f'| {torchgeo / patch:.1f} | {torchgeo / query:.1f} | {equal} of {count} |'
        )


def _measure(
    ways: dict[str, tuple[Callable[[Any], Any], list[Any]]], count: int
) -> tuple[dict[str, float], int]:
    """Median milliseconds of each way, and how often all give the same pixels."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    equal = 0
    for i in range(count):
        images = []
        for way, (read, queries) in ways.items():
            start = time.thread_time()
            images.append(read(queries[i])['image'].numpy())
            seconds[way].append(time.thread_time() - start)
        equal += all(np.array_equal(images[0], image) for image in images)
    return {way: 1000 * statistics.median(s) for way, s in seconds.items()}, equal


def _patches(dataset: SceneFolder, count: int) -> list[ScenePatch]:
    """Random patches inside random scenes."""
    rng = np.random.default_rng(1)
    patches = []
    for _ in range(count):
        scene = int(rng.integers(len(dataset.scenes)))
        height, width = dataset.scenes[scene].grid.shape
        row, col = (
            rng.integers(max(height - SIZE, 1)),
            rng.integers(max(width - SIZE, 1)),
        )
        patches.append(ScenePatch(scene, Window(int(col), int(row), SIZE, SIZE)))
    return patches


def _query(
    scenes: SceneFolder, patch: ScenePatch, dataset: SceneFolder | RasterDataset
) -> tuple[slice, slice, slice]:
    """Bounds of a patch in the CRS of a data set, of as many of its pixels."""
    grid = scenes.scenes[patch.scene].grid.crop(patch.window)
    left, bottom, right, top = grid.bounds
    xres, yres = dataset.res
    to_dataset = Transformer.from_crs(grid.crs, dataset.crs, always_xy=True)
    if grid.crs == dataset.crs:
        x, y = slice(left, right, xres), slice(bottom, top, yres)
    else:
        east, north = to_dataset.transform((left + right) / 2, (bottom + top) / 2)
        half = SIZE / 2
        x = slice(east - half * xres, east + half * xres, xres)
        y = slice(north - half * yres, north + half * yres, yres)
    time_of_all = dataset.bounds[2]
    return x, y, time_of_all


if __name__ == '__main__':
    warnings.filterwarnings('ignore')
    main()
