"""Warping and mosaicking: eoseg.inference against its peers, in one run.

    python -m benchmarks.mosaic [--side PX] [--rounds N] [--device cuda] [--workers N]
                                [--gdalwarp FILE]

All ways take turns, as the speed of a machine changes from minute to minute; the median
of their rounds counts. ``CPU`` is processor time of all threads and child processes,
``wall`` what passed on the clock; a ratio says how many times as long as eoseg the peer
takes.

``memory`` brings bands from UTM zone 33 to other systems, from array to array; eoseg does
so in blocks of 512 pixels. ``files`` does so from a GeoTIFF to another, both tiled and
not compressed. ``mosaic`` makes a map of two scenes in two zones, from files to classes
in memory: the peers put one scene over the other and take the largest of the merged
bands, eoseg blends them, which is more to do.

Values are compared with those of scipy at the coordinates of PROJ: the root of the mean
squared difference for a field of variance 1, the share of equal pixels for labels.

The peers are rasterio, and those of these that are there: odc-geo (``pip install
odc-geo``), and the program ``gdalwarp`` (``gdal-bin`` of Debian).
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
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
from torch import Tensor

from eoseg.inference.map_source import MapSource
from eoseg.inference.mosaic import block_windows, mosaic_blocks
from eoseg.inference.resources import Resources
from eoseg.inference.target import target_grid
from eoseg.inference.warp import mean_footprint, nearest, nearest_footprint, warp
from eoseg_datasets.grid import Grid

#: Side of a block in pixels.
BLOCK = 512

#: Bands of an image, classes of a map.
BANDS = 5

UTM33 = CRS.from_epsg(32633)

#: Systems to warp to, and pixel sizes.
TARGETS = ((32632, 10), (3857, 15), (4326, 1e-4))

#: Ways to do the same, by name.
Ways = Mapping[str, Callable[[], NDArray[Any]]]

#: From a window of the source to its bands, and from a window of the target and its bands
#: to nothing.
Read = Callable[[Window], NDArray[Any]]
Write = Callable[[Window, NDArray[Any]], object]


@dataclass(frozen=True)
class Case:
    """An image and where it is to go."""

    name: str
    image: NDArray[Any]
    source: Grid
    target: Grid
    #: Whether pixels without a value are NaN.
    has_holes: bool = False

    @property
    def kernel(self) -> Resampling:
        """Labels are taken from the nearest pixel, images are interpolated."""
        is_map = self.image.dtype == np.uint8
        return Resampling.nearest if is_map else Resampling.bilinear


@dataclass(frozen=True)
class Bench:
    """How to measure."""

    side: int
    rounds: int
    device: str
    workers: int
    #: The program; None if it is not there.
    gdalwarp: str | None

    def run(self, name: str, case: Case | None, pixels: float, ways: Ways) -> None:
        """Measure and print a line for each way."""
        results = {way: function() for way, function in ways.items()}  # warm
        times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(self.rounds):
            for way, function in ways.items():
                cpu, wall = _cpu(), time.perf_counter()
                function()
                times[way].append((_cpu() - cpu, time.perf_counter() - wall))
        medians = {
            way: [statistics.median(column) for column in zip(*rounds, strict=True)]
            for way, rounds in times.items()
        }
        own_cpu, own_wall = medians['eoseg']
        for way, (cpu, wall) in medians.items():
            error = _error(results[way], case) if case else ''
            print(
                f'| {name} | {way} | {pixels / cpu:.1f} | {cpu / own_cpu:.1f} '
                f'| {wall / own_wall:.1f} | {error} |',
                flush=True,
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--side', type=int, default=2048, help='of a scene in pixels')
    add('--rounds', type=int, default=3)
    add('--device', default='cpu')
    add('--workers', type=int, default=1, help='of the mosaic')
    add('--gdalwarp', default=shutil.which('gdalwarp'))
    bench = Bench(**vars(parser.parse_args()))
    print('| | | Mpx/CPU-s | CPU x eoseg | wall x eoseg | exactness |')
    print('|---|---|---|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        for epsg, res in TARGETS:
            warps(bench, epsg, res, Path(folder))
        mosaics(bench, Path(folder))


def warps(bench: Bench, epsg: int, res: float, folder: Path) -> None:
    """Measure warps to one system and print their lines."""
    side = bench.side
    source = Grid(UTM33, Affine(10, 0, 500_000, 0, -10, 5_300_000), side, side)
    target = _middle(source, CRS.from_epsg(epsg), res, side * 10 // 16)
    rng = np.random.default_rng(0)
    image = rng.standard_normal((BANDS, side, side)).astype(np.float32)
    holed = image.copy()
    holed[:, rng.random((side, side)) < 0.01] = np.nan
    labels = rng.integers(0, BANDS, (1, side, side), np.uint8)
    pixels = target.width * target.height / 1e6
    for case in [
        Case(f'{BANDS} bands', image, source, target),
        Case(f'{BANDS} bands, NaN', holed, source, target, has_holes=True),
        Case('labels', labels, source, target),
    ]:
        title = f'{case.name}, EPSG:{epsg}'
        bench.run(f'{title}, memory', case, pixels, _in_memory(case, bench))
        bench.run(f'{title}, files', case, pixels, _in_files(case, bench, folder))


def _in_memory(case: Case, bench: Bench) -> Ways:
    ways = {
        'eoseg': lambda: _ours(case, bench.device),
        'rasterio': lambda: _reprojected(case),
    }
    if find_spec('odc') and find_spec('odc.geo'):
        ways['odc-geo'] = lambda: _odc(case.image, case.source, case.target, case)
    return ways


def _in_files(case: Case, bench: Bench, folder: Path) -> Ways:
    path, out = folder / 'image.tif', folder / 'warped.tif'
    with _open_tiled(path, case.source, case) as to:
        to.write(case.image)
    ways = {
        'eoseg': lambda: _our_files(case, path, out, bench.device),
        'WarpedVRT': lambda: _virtual(case, path, out),
    }
    if bench.gdalwarp:
        ways['gdalwarp'] = lambda: _gdalwarp(
            bench, [path], out, case.target, case.kernel, np.nan
        )
    return ways


def _middle(source: Grid, crs: CRS, res: float, side: int) -> Grid:
    centre = source.transform @ (source.width / 2, source.height / 2)
    x, y = Transformer.from_crs(source.crs, crs, always_xy=True).transform(*centre)
    half = res * side / 2
    return Grid(crs, Affine(res, 0, x - half, 0, -res, y + half), side, side)


def _ours(case: Case, device: str) -> NDArray[Any]:
    result = np.empty((len(case.image), *case.target.shape), case.image.dtype)

    def read(window: Window) -> NDArray[Any]:
        rows, cols = window.toslices()
        return case.image[:, rows, cols]

    def write(window: Window, bands: NDArray[Any]) -> None:
        rows, cols = window.toslices()
        result[:, rows, cols] = bands

    _warp_blocks(case, read, write, device)
    return result


def _our_files(case: Case, path: Path, out: Path, device: str) -> NDArray[Any]:
    with rasterio.open(path) as source, _open_tiled(out, case.target, case) as to:
        _warp_blocks(
            case,
            lambda window: np.asarray(source.read(window=window)),
            lambda window, bands: to.write(bands, window=window),
            device,
        )
    return _read(out)


def _warp_blocks(case: Case, read: Read, write: Write, device: str) -> None:
    warped = _nearest if case.kernel == Resampling.nearest else _bilinear
    for window in block_windows(case.target, BLOCK):
        write(window, warped(case, read, case.target.crop(window), device).numpy())


def _bilinear(case: Case, read: Read, target: Grid, device: str) -> Tensor:
    footprint = mean_footprint(case.source, target)
    values = torch.from_numpy(read(footprint.window)).to(device)
    if not case.has_holes:
        return warp(values, None, footprint)[0].cpu()
    total, share = warp(values, ~values[0].isnan(), footprint)
    return total.mul_(torch.where(share >= 0.5, 1 / share, torch.nan)).cpu()


def _nearest(case: Case, read: Read, target: Grid, device: str) -> Tensor:
    footprint = nearest_footprint(case.source, target)
    values = torch.from_numpy(read(footprint.window)[0]).to(device)
    return nearest(values, 255, footprint.positions)[None].cpu()


def _reprojected(case: Case) -> NDArray[Any]:
    result = np.empty((len(case.image), *case.target.shape), case.image.dtype)
    reproject(
        case.image,
        result,
        src_transform=case.source.transform,
        src_crs=case.source.crs,
        dst_transform=case.target.transform,
        dst_crs=case.target.crs,
        resampling=case.kernel,
        **({'src_nodata': np.nan, 'dst_nodata': np.nan} if case.has_holes else {}),
    )
    return result


def _odc(
    image: NDArray[Any], source: Grid, target: Grid, case: Case | None
) -> NDArray[Any]:
    # Not among what eoseg needs, so the type checker need not know it either.
    geobox, odc_warp = import_module('odc.geo.geobox'), import_module('odc.geo.warp')
    nodata = (np.nan if case.has_holes else None) if case else 255
    result = np.empty((len(image), *target.shape), image.dtype)
    places = [
        geobox.GeoBox(grid.shape, grid.transform, grid.crs.to_wkt())
        for grid in (source, target)
    ]
    kernel = (case.kernel if case else Resampling.bilinear).name
    odc_warp.rio_reproject(image, result, *places, kernel, nodata, nodata)
    return result


def _virtual(case: Case, path: Path, out: Path) -> NDArray[Any]:
    target = case.target
    with (
        rasterio.open(path) as source,
        WarpedVRT(
            source, crs=target.crs, transform=target.transform, width=target.width,
            height=target.height, resampling=case.kernel,
        ) as warped,
        _open_tiled(out, target, case) as to,
    ):  # fmt: skip
        for window in block_windows(target, BLOCK):
            to.write(warped.read(window=window), window=window)
    return _read(out)


def _gdalwarp(
    bench: Bench,
    paths: list[Path],
    out: Path,
    target: Grid,
    kernel: Resampling,
    nodata: float,
) -> NDArray[Any]:
    assert bench.gdalwarp
    kernel_name = 'near' if kernel == Resampling.nearest else kernel.name
    subprocess.run(
        [
            bench.gdalwarp, '-q', '-overwrite', '-t_srs', target.crs.to_wkt(),
            '-te', *map(repr, target.bounds), '-ts', *map(str, target.shape[::-1]),
            '-r', kernel_name, '-co', 'TILED=YES', '-co', f'BLOCKXSIZE={BLOCK}',
            '-co', f'BLOCKYSIZE={BLOCK}',
            *(() if np.isnan(nodata) else ('-dstnodata', f'{nodata:g}')),
            *map(str, paths), str(out),
        ],
        check=True,
    )  # fmt: skip
    return _read(out)


def _open_tiled(path: Path, grid: Grid, case: Case) -> Any:
    return rasterio.open(
        path, 'w', driver='GTiff', crs=grid.crs, transform=grid.transform,
        width=grid.width, height=grid.height, count=len(case.image),
        dtype=case.image.dtype, tiled=True, blockxsize=BLOCK, blockysize=BLOCK,
        nodata=np.nan if case.has_holes else None, interleave='band',
    )  # fmt: skip


def _read(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as source:
        return np.asarray(source.read())


def _error(got: NDArray[Any], case: Case) -> str:
    """Difference of the first band from its true values, on the first block."""
    side = min(BLOCK, *case.target.shape)
    cols, rows = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)
    to_source = Transformer.from_crs(
        case.target.crs, case.source.crs, always_xy=True
    ).transform
    place = to_source(*(case.target.transform @ (cols, rows)))
    x, y = ~case.source.transform @ place
    part = got[0, :side, :side]
    if case.kernel == Resampling.nearest:
        same = case.image[0][y.astype(int), x.astype(int)] == part
        return f'{same.mean():.3%} equal'
    at = [y - 0.5, x - 0.5]
    if not case.has_holes:
        difference = part - map_coordinates(case.image[0], at, order=1)
        return f'{np.sqrt((difference**2).mean()):.1e}'
    # The mean of what is there of the four neighbours.
    there = (~np.isnan(case.image[0])).astype(np.float64)
    total = map_coordinates(np.nan_to_num(case.image[0]).astype(float), at, order=1)
    share = map_coordinates(there, at, order=1)
    both = (share >= 0.51) & ~np.isnan(part)
    difference = part[both] - total[both] / share[both]
    return f'{np.sqrt((difference**2).mean()):.1e}'


def mosaics(bench: Bench, folder: Path) -> None:
    """Measure a mosaic of two scenes in two zones, and print its lines."""
    side = bench.side
    west = Grid(
        CRS.from_epsg(32632), Affine(10, 0, 715_000, 0, -10, 5.33e6), side, side
    )
    to_east = Transformer.from_crs(32632, UTM33, always_xy=True).transform
    left, top = to_east(715_000 + 6 * side, 5.33e6)
    east = Grid(UTM33, Affine(10, 0, round(left), 0, -10, round(top)), side, side)
    sources = [
        _write_map(folder / f'{i}.tif', grid, seed=i)
        for i, grid in enumerate([west, east])
    ]
    target = target_grid([west, east])
    ways = {
        'eoseg': lambda: _our_mosaic(sources, target, bench),
        'rasterio.merge': lambda: _merged(sources, target),
    }
    if find_spec('odc') and find_spec('odc.geo'):
        ways['odc-geo'] = lambda: _odc_mosaic(sources, target)
    if bench.gdalwarp:
        paths = [source.path for source in sources]
        out = folder / 'mosaic.tif'
        ways['gdalwarp'] = lambda: _largest(
            _gdalwarp(bench, paths, out, target, Resampling.bilinear, 255)
        )
    pixels = target.width * target.height / 1e6
    bench.run(f'mosaic, {BANDS} classes', None, pixels, ways)


def _write_map(path: Path, grid: Grid, seed: int) -> MapSource:
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


def _our_mosaic(sources: list[MapSource], target: Grid, bench: Bench) -> NDArray[Any]:
    result = np.empty(target.shape, np.uint8)
    means = Resources(workers=bench.workers, device=bench.device)
    for block in mosaic_blocks(sources, target, resources=means):
        result[block.window.toslices()] = block.classes
    return result


def _merged(sources: list[MapSource], target: Grid) -> NDArray[Any]:
    opened = [rasterio.open(source.path) for source in sources]
    warped = [
        WarpedVRT(source, crs=target.crs, resampling=Resampling.bilinear)
        for source in opened
    ]
    merged, _ = merge(warped, bounds=target.bounds, res=target.res, nodata=255)
    for source in [*warped, *opened]:
        source.close()
    return _largest(np.asarray(merged))


def _odc_mosaic(sources: list[MapSource], target: Grid) -> NDArray[Any]:
    merged = np.full((BANDS, *target.shape), 255, np.uint8)
    for source in sources[::-1]:
        warped = _odc(_read(source.path), source.grid, target, None)
        np.copyto(merged, warped, where=warped[0] != 255)
    return _largest(merged)


def _largest(bands: NDArray[Any]) -> NDArray[Any]:
    return np.where(bands[0] == 255, 255, bands.argmax(axis=0))


def _cpu() -> float:
    """Processor time of this process and of those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


if __name__ == '__main__':
    main()
