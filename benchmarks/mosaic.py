"""Warping and mosaicking: eoseg.inference against rasterio, in one run.

    python -m benchmarks.mosaic [--side PX] [--rounds N] [--device cuda]

All ways take turns, as the speed of a machine changes from minute to minute; the median
of their rounds counts. ``warp`` brings bands from UTM zone 33 to other systems, from
memory to memory, in blocks of 512 pixels; its values are compared with those of scipy at
the coordinates of PROJ. ``mosaic`` makes a map of two scenes in two zones, from files to
memory: ``rasterio.merge`` over ``WarpedVRT`` puts one scene over the other, ``eoseg``
blends them and chooses the class, which is more to do.

``CPU`` is processor time of all threads, ``wall`` what passed on the clock.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.merge import merge
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject
from rasterio.windows import Window
from scipy.ndimage import map_coordinates

from eoseg.inference.mosaic import MapSource, mosaic_blocks
from eoseg.inference.target import target_grid
from eoseg.inference.warp import mean_footprint, nearest, nearest_footprint, warp
from eoseg_datasets.grid import Grid

#: Side of a block in pixels.
BLOCK = 512

#: Bands of an image, classes of a map.
BANDS = 5

UTM33 = CRS.from_epsg(32633)

#: Processor and clock time of each round.
Times = list[tuple[float, float]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--side', type=int, default=2048, help='of a scene in pixels')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--device', default='cpu')
    options = parser.parse_args()
    print('| | | eoseg, Mpx/CPU-s | rasterio | ratio CPU | ratio wall | rms | rms |')
    print('|---|---|---|---|---|---|---|---|')
    for epsg, res in [(32632, 10), (3857, 15), (4326, 1e-4)]:
        warps(epsg, res, options.side, options.rounds, options.device)
    mosaics(options.side, options.rounds, options.device)


def warps(epsg: int, res: float, side: int, rounds: int, device: str) -> None:
    """Measure warps to one system and print their lines."""
    source = Grid(UTM33, Affine(10, 0, 500_000, 0, -10, 5_300_000), side, side)
    target = _middle(source, CRS.from_epsg(epsg), res, side * 10 // 16)
    rng = np.random.default_rng(0)
    image = rng.standard_normal((BANDS, side, side)).astype(np.float32)
    holed = image.copy()
    holed[:, rng.random((side, side)) < 0.01] = np.nan
    labels = rng.integers(0, BANDS, (1, side, side), np.uint8)
    pixels = target.width * target.height / 1e6
    cases: list[tuple[str, NDArray[Any], Callable[..., NDArray[Any]], Resampling]] = [
        (f'{BANDS} bands bilinear', image, _ours, Resampling.bilinear),
        (f'{BANDS} bands bilinear, NaN', holed, _ours, Resampling.bilinear),
        ('labels nearest', labels, _our_labels, Resampling.nearest),
    ]
    for name, values, ours, kernel in cases:
        ways = {
            'eoseg': _bound(ours, values, source, target, device),
            'rasterio': _bound(_theirs, values, source, target, kernel),
        }
        times, results = _measure(ways, rounds)
        errors = [_error(results[way], values, source, target, kernel) for way in ways]
        _print(name, f'EPSG:{epsg}', pixels, times, errors)


def _bound(
    function: Callable[..., NDArray[Any]], *arguments: object
) -> Callable[[], NDArray[Any]]:
    return lambda: function(*arguments)


def _middle(source: Grid, crs: CRS, res: float, side: int) -> Grid:
    centre = source.transform @ (source.width / 2, source.height / 2)
    x, y = Transformer.from_crs(source.crs, crs, always_xy=True).transform(*centre)
    half = res * side / 2
    return Grid(crs, Affine(res, 0, x - half, 0, -res, y + half), side, side)


def _blocks(target: Grid) -> Iterator[Window]:
    for row in range(0, target.height, BLOCK):
        for col in range(0, target.width, BLOCK):
            height, width = (
                min(BLOCK, target.height - row),
                min(BLOCK, target.width - col),
            )
            yield Window(col, row, width, height)


def _ours(
    image: NDArray[np.float32], source: Grid, target: Grid, device: str
) -> NDArray[np.float32]:
    result = np.empty((len(image), *target.shape), np.float32)
    has_holes = bool(np.isnan(image[0, 0]).any())
    for window in _blocks(target):
        footprint = mean_footprint(source, target.crop(window))
        rows, cols = footprint.window.toslices()
        values = torch.from_numpy(image[:, rows, cols]).to(device)
        valid = ~values[0].isnan() if has_holes else None
        total, share = warp(values, valid, footprint)
        if has_holes:
            total /= torch.where(share >= 0.5, share, torch.nan)
        rows, cols = window.toslices()
        result[:, rows, cols] = total.cpu().numpy()
    return result


def _our_labels(
    labels: NDArray[np.uint8], source: Grid, target: Grid, device: str
) -> NDArray[np.uint8]:
    result = np.empty((1, *target.shape), np.uint8)
    for window in _blocks(target):
        footprint = nearest_footprint(source, target.crop(window))
        rows, cols = footprint.window.toslices()
        values = torch.from_numpy(labels[0, rows, cols]).to(device)
        rows, cols = window.toslices()
        result[0, rows, cols] = nearest(values, 255, footprint.positions).cpu().numpy()
    return result


def _theirs(
    values: NDArray[Any], source: Grid, target: Grid, resampling: Resampling
) -> NDArray[Any]:
    result = np.empty((len(values), *target.shape), values.dtype)
    has_holes = values.dtype == np.float32 and bool(np.isnan(values[0, 0]).any())
    nodata = {'src_nodata': np.nan, 'dst_nodata': np.nan} if has_holes else {}
    reproject(
        values,
        result,
        src_transform=source.transform,
        src_crs=source.crs,
        dst_transform=target.transform,
        dst_crs=target.crs,
        resampling=resampling,
        **nodata,
    )
    return result


def _error(
    got: NDArray[Any],
    values: NDArray[Any],
    source: Grid,
    target: Grid,
    kernel: Resampling,
) -> str:
    """Difference of the first band from its true values, on the first block."""
    side = min(BLOCK, *target.shape)
    cols, rows = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)
    to_source = Transformer.from_crs(target.crs, source.crs, always_xy=True)
    x, y = ~source.transform @ to_source.transform(*(target.transform @ (cols, rows)))
    part = got[0, :side, :side]
    if kernel == Resampling.nearest:
        same = values[0][y.astype(int), x.astype(int)] == part
        return f'{same.mean():.3%} equal'
    if np.isnan(values).any():
        return ''
    true = map_coordinates(values[0], [y - 0.5, x - 0.5], order=1)
    return f'{np.sqrt(((part - true) ** 2).mean()):.1e}'


def mosaics(side: int, rounds: int, device: str) -> None:
    """Measure a mosaic of two scenes in two zones, and print its line."""
    with tempfile.TemporaryDirectory() as folder:
        west = Grid(
            CRS.from_epsg(32632), Affine(10, 0, 715_000, 0, -10, 5.33e6), side, side
        )
        to_east = Transformer.from_crs(32632, UTM33, always_xy=True).transform
        left, top = to_east(715_000 + 6 * side, 5.33e6)
        east = Grid(UTM33, Affine(10, 0, round(left), 0, -10, round(top)), side, side)
        sources = [
            _write(Path(folder) / f'{i}.tif', grid, seed=i)
            for i, grid in enumerate([west, east])
        ]
        target = target_grid([west, east])
        ways = {
            'eoseg': _bound(_our_mosaic, sources, target, device),
            'rasterio': _bound(_their_mosaic, sources, target),
        }
        times, _ = _measure(ways, rounds)
        pixels = target.width * target.height / 1e6
        _print(f'mosaic, {BANDS} classes', 'EPSG:32632', pixels, times, ['', ''])


def _write(path: Path, grid: Grid, seed: int) -> MapSource:
    """Probabilities as predict writes them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 50, (BANDS, grid.height // 16, grid.width // 16), np.uint8)
    stored = np.kron(coarse, np.ones((1, 16, 16), np.uint8))
    with rasterio.open(
        path, 'w', driver='GTiff', crs=grid.crs, transform=grid.transform, nodata=255,
        width=grid.width, height=grid.height, count=BANDS, dtype='uint8', tiled=True,
        blockxsize=BLOCK, blockysize=BLOCK, compress='deflate', interleave='band',
    ) as target:  # fmt: skip
        target.write(stored)
    return MapSource(path.stem, path, grid, BANDS, has_probabilities=True)


def _our_mosaic(sources: list[MapSource], target: Grid, device: str) -> NDArray[Any]:
    result = np.empty(target.shape, np.uint8)
    for block in mosaic_blocks(sources, target, device=device):
        result[block.window.toslices()] = block.classes
    return result


def _their_mosaic(sources: list[MapSource], target: Grid) -> NDArray[Any]:
    opened = [rasterio.open(source.path) for source in sources]
    warped = [
        WarpedVRT(source, crs=target.crs, resampling=Resampling.bilinear)
        for source in opened
    ]
    merged, _ = merge(warped, bounds=target.bounds, res=target.res, nodata=255)
    for source in [*warped, *opened]:
        source.close()
    return np.asarray(merged.argmax(axis=0))


def _measure(
    ways: Mapping[str, Callable[[], NDArray[Any]]], rounds: int
) -> tuple[dict[str, Times], dict[str, NDArray[Any]]]:
    times: dict[str, Times] = {way: [] for way in ways}
    results = {way: function() for way, function in ways.items()}  # warm
    for _ in range(rounds):
        for way, function in ways.items():
            cpu, wall = time.process_time(), time.perf_counter()
            function()
            times[way].append((time.process_time() - cpu, time.perf_counter() - wall))
    return times, results


def _print(
    name: str, crs: str, pixels: float, times: dict[str, Times], errors: list[str]
) -> None:
    (cpu, wall), (their_cpu, their_wall) = (
        [statistics.median(column) for column in zip(*rounds, strict=True)]
        for rounds in times.values()
    )
    print(
        f'| {name} | {crs} | {pixels / cpu:.1f} | {pixels / their_cpu:.1f} '
        f'| {their_cpu / cpu:.1f} | {their_wall / wall:.1f} | {" | ".join(errors)} |',
        flush=True,
    )


if __name__ == '__main__':
    main()
