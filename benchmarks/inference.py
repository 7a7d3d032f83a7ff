"""Mapping a scene: eoseg against pure forward passes and against its peers, in one run.

    python -m benchmarks.inference [--model light] [--side PX] [--rounds N] [--ways …]

Needs the dependency group ``peers`` for MONAI and TerraTorch. All ways take turns, each
time in a process of its own, as the speed of a machine changes from minute to minute; the
median of the rounds counts. A way reads a file of four bands and writes a file of classes,
with windows of 512 pixels that share 128; ``forward`` only passes as many windows through
the network and is what no way can beat.

``equal`` gives all ways what `eoseg predict` has: channels-last weights, an allocator that
keeps its memory, and threads that do not spin while they wait; ``shipped`` leaves the peers as they are. ``CPU`` is processor time of all
threads, ``wall`` what passed on the clock, both after a first batch; ``memory`` is the
peak above what the process had before. ``eoseg`` writes the units that a killed run goes on
from, ``cog`` also the map made of them: cloud optimised, with overviews, and read back; in
`eoseg predict` that is done in the background.

``--check`` compares the classes of eoseg with those of all windows added up in double
precision, over the whole scene in memory, and prints how many differ.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import torch
from affine import Affine
from rasterio.windows import Window
from scipy.ndimage import zoom
from torch import Tensor, nn

from eoseg.inference.allocator import keep_memory

if TYPE_CHECKING:
    from eoseg.inference.windows import WindowGrid
    from eoseg.io.journal import Journal

SIZE, OVERLAP, BATCH = 512, 128, 4
BANDS, CLASSES = 4, 5

#: Ways that always have the settings of eoseg.
OURS = ('forward', 'eoseg', 'cog')

#: Bytes of a page of memory.
_PAGE = 4096

Predict = Callable[[Tensor], Tensor]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--model', choices=MODELS, default='light')
    add('--side', type=int, default=3000, help='width of the scene in pixels')
    add('--height', type=int, help='by default the width')
    add('--layout', choices=('tiled', 'striped'), default='tiled')
    add('--compress', default='deflate', help='deflate, zstd, none')
    add('--settings', choices=('equal', 'shipped'), default='equal')
    add('--rounds', type=int, default=3)
    add('--ways', nargs='+', choices=WAYS, default=list(WAYS))
    add('--precision', choices=('float32', 'bfloat16'), default='float32')
    add('--device', default='cpu')
    add('--check', action='store_true', help='compare classes; nothing is timed')
    add('--run', choices=WAYS, help=argparse.SUPPRESS)
    add('--scene', type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(_measure(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.scene = Path(folder) / 'scene.tif'
        height = options.height or options.side
        write_scene(options.scene, height, options.side, options)
        if options.check:
            _check(options, Path(folder) / 'map.tif')
            return
        rounds = [
            {way: _in_a_process(way, options) for way in options.ways}
            for _ in range(options.rounds)
        ]
    _print(rounds, height * options.side / 1e6, options)


def write_scene(
    path: Path, height: int, width: int, options: argparse.Namespace
) -> None:
    """A scene of smooth noise with a wedge of nodata at two corners, row by row."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(500, 9000, (BANDS, 70, width // 64 + 2))
    layout: dict[str, Any] = {'blockysize': 1}
    if options.layout == 'tiled':
        layout = {'tiled': True, 'blockxsize': 512, 'blockysize': 512}
    with rasterio.open(
        path, 'w', driver='GTiff', width=width, height=height, count=BANDS,
        dtype='uint16', nodata=0, crs='EPSG:32632', compress=options.compress,
        transform=Affine(10, 0, 600_000, 0, -10, 5_300_000), BIGTIFF='IF_SAFER', **layout,
    ) as target:  # fmt: skip
        for top in range(0, height, 512):
            rows = min(512, height - top)
            band = coarse[:, top // 64 % 50 : top // 64 % 50 + 10]
            fine = zoom(band, (1, 64, 64), order=1)[:, :rows, :width]
            image = (fine + rng.normal(0, 60, fine.shape)).clip(1, 65535)
            line = np.arange(top, top + rows)[:, None] / 4
            across = np.arange(width)[None]
            image[:, (across < width / 8 - line) | (across > width * 1.06 - line)] = 0
            target.write(image.astype(np.uint16), window=Window(0, top, width, rows))


def null() -> nn.Module:
    """One product per pixel: what is left is the way itself."""
    return nn.Conv2d(BANDS, CLASSES, 1)


def _unet(encoder: str, decoder_channels: Sequence[int]) -> nn.Module:
    import segmentation_models_pytorch as smp

    model: nn.Module = smp.Unet(
        encoder,
        encoder_weights=None,
        decoder_channels=decoder_channels,
        in_channels=BANDS,
        classes=CLASSES,
    )
    return model


def light() -> nn.Module:
    """About 0.16 s of a processor for a window."""
    return _unet('mobilenet_v2', (64, 32, 16, 16, 8))


def resnet18() -> nn.Module:
    """About 0.4 s."""
    return _unet('resnet18', (256, 128, 64, 32, 16))


MODELS = {'null': null, 'light': light, 'resnet18': resnet18}


def _predict(options: argparse.Namespace) -> Predict:
    torch.manual_seed(0)
    model = MODELS[options.model]().eval().to(options.device)
    if _has_our_settings(options, options.run):
        model = model.to(memory_format=torch.channels_last)
    dtype = getattr(torch, options.precision)
    model = model.to(dtype)

    def predict(image: Tensor) -> Tensor:
        values = image.to(options.device).nan_to_num(nan=0).mul(1 / 5000)
        logits: Tensor = model(values.to(dtype))
        return logits.float().softmax(dim=1)

    return predict


def forward(scene: Path, predict: Predict, out: Path) -> None:
    """As many windows through the network, and nothing else."""
    with closing(rasterio.open(scene)) as source:
        shape = source.shape
    down, across = (-(-(side - OVERLAP) // (SIZE - OVERLAP)) for side in shape)
    image = _images(BATCH)
    for start in range(0, down * across, BATCH):
        predict(image[: down * across - start])


def eoseg(scene: Path, predict: Predict, out: Path) -> None:
    """The engine, from the scene to units of classes."""
    _units(scene, predict, out)


def cog(scene: Path, predict: Predict, out: Path) -> None:
    """The engine, from the scene to a map with overviews."""
    from eoseg.io.cog import MapWriter
    from eoseg_datasets.scene import open_scene

    journal, plan = _units(scene, predict, out)
    with MapWriter(out, open_scene(scene).grid) as writer:
        for window in plan:
            writer.write_block(journal.load(window), window)


def _units(scene: Path, predict: Predict, out: Path) -> tuple['Journal', list[Window]]:
    from eoseg.inference.blending import BandBlender
    from eoseg.inference.layers import Layers
    from eoseg.inference.planner import WRITING, units
    from eoseg.inference.scene import predict_scene
    from eoseg.inference.threads import ahead
    from eoseg.io.journal import Journal
    from eoseg_datasets.scene import open_scene

    opened = open_scene(scene)
    blender = BandBlender(CLASSES, _windows(opened.grid.height, opened.grid.width))
    strips = predict_scene(opened, predict, blender, BATCH)
    layers = Layers(('classes',), CLASSES)
    journal = Journal(out.parent, 'benchmark', layers.count)
    cut = units(strips, layers, blender.part)
    return journal, list(ahead(journal.save, cut, WRITING))


def _windows(height: int, width: int) -> 'WindowGrid':
    from eoseg.inference.windows import WindowGrid

    return WindowGrid(height, width, SIZE, OVERLAP)


def exact(scene: Path, predict: Predict) -> Tensor:
    """Classes of all windows added up in double precision, of shape (H, W)."""
    image = _whole(scene)[0]
    image[:, (image == 0).all(dim=0)] = torch.nan
    windows = _windows(*image.shape[1:])
    down, across = (
        [torch.from_numpy(weights).double() for weights in axis.weights]
        for axis in (windows.rows, windows.cols)
    )
    total = torch.zeros(CLASSES, *image.shape[1:], dtype=torch.float64)
    for (top, rows), (left, cols) in product(
        zip(windows.rows.offsets, down, strict=True),
        zip(windows.cols.offsets, across, strict=True),
    ):
        cut = slice(None), slice(top, top + SIZE), slice(left, left + SIZE)
        total[cut] += predict(image[cut][None])[0].double() * rows[:, None] * cols
    return total.argmax(dim=0)


def _check(options: argparse.Namespace, out: Path) -> None:
    options.run = 'cog'
    predict = _predict(options)
    with torch.inference_mode():
        cog(options.scene, predict, out)
        expected = exact(options.scene, predict).numpy()
    with closing(rasterio.open(out)) as source:
        classes = source.read(1)
    valid = classes != 255
    wrong = int((classes != expected)[valid].sum())
    print(
        f'{options.model}, {classes.shape[0]} x {classes.shape[1]} px: {wrong} of '
        f'{int(valid.sum())} classes differ from those in double precision'
    )


def monai(scene: Path, predict: Predict, out: Path) -> None:
    """The whole scene in memory, blended with Gaussian weights."""
    blended = import_module('monai.inferers').sliding_window_inference(
        _whole(scene), SIZE, BATCH, predict, overlap=OVERLAP / SIZE, mode='gaussian'
    )
    _write(out, scene, blended[0].argmax(dim=0))


def terratorch(scene: Path, predict: Predict, out: Path) -> None:
    """The whole scene in memory, blended with cosine ramps."""
    module = import_module('terratorch.tasks.tiled_inference')
    blended = module.tiled_inference(
        predict,
        _whole(scene),
        CLASSES,
        crop=SIZE,
        stride=SIZE - OVERLAP,
        batch_size=BATCH,
    )
    _write(out, scene, blended[0].argmax(dim=0))


def torchgeo(scene: Path, predict: Predict, out: Path) -> None:
    """The loop of TorchGeo's users: sampler, loader, sums in memory."""
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    dataset = RasterDataset(scene)
    sampler = GridGeoSampler(dataset, size=SIZE, stride=SIZE - OVERLAP)
    loader = DataLoader(
        dataset, batch_size=BATCH, sampler=sampler, collate_fn=stack_samples
    )
    with closing(rasterio.open(scene)) as source:
        height, width, place = source.height, source.width, source.transform
    total = torch.zeros(CLASSES, height, width)
    for batch in loader:
        for probabilities, bounds in zip(predict(batch['image']), batch['bounds']):
            left, bottom = _corner(bounds, place)
            cut = slice(max(bottom - SIZE, 0), bottom), slice(left, left + SIZE)
            there = total[(slice(None), *cut)]
            there += probabilities[:, -there.shape[1] :, : there.shape[2]]
    _write(out, scene, total.argmax(dim=0))


WAYS = {
    'forward': forward,
    'eoseg': eoseg,
    'cog': cog,
    'monai': monai,
    'terratorch': terratorch,
    'torchgeo': torchgeo,
}


def _corner(bounds: Any, place: Affine) -> tuple[int, int]:
    """Left column and row below the last, of the bounds of a sample."""
    if isinstance(bounds, Tensor):
        left, bottom = float(bounds[0]), float(bounds[3])
    elif hasattr(bounds, 'minx'):
        left, bottom = bounds.minx, bounds.miny
    else:
        left, bottom = bounds[0].start, bounds[1].start
    col, row = ~place @ (left, bottom)
    return round(col), round(row)


def _whole(scene: Path) -> Tensor:
    with closing(rasterio.open(scene)) as source:
        return torch.from_numpy(source.read(out_dtype='float32'))[None]


def _write(out: Path, scene: Path, classes: Tensor) -> None:
    with closing(rasterio.open(scene)) as source:
        profile = source.profile
    profile |= {
        'count': 1, 'dtype': 'uint8', 'nodata': 255, 'tiled': True, 'blockxsize': 512,
        'blockysize': 512, 'compress': 'zstd', 'zstd_level': 1,
    }  # fmt: skip
    with rasterio.open(out, 'w', **profile) as target:
        target.write(classes.to(torch.uint8).numpy(), 1)


def _images(count: int) -> Tensor:
    image = torch.rand(count, BANDS, SIZE, SIZE) * 5000
    return image.contiguous(memory_format=torch.channels_last)


def _measure(options: argparse.Namespace) -> dict[str, float]:
    if _has_our_settings(options, options.run):
        keep_memory()
    predict = _predict(options)
    with torch.inference_mode():
        predict(_images(BATCH))
    way = WAYS[options.run]
    for module in _MODULES[options.run]:
        import_module(module)
    with (
        tempfile.TemporaryDirectory() as folder,
        _watched() as memory,
        torch.inference_mode(),
    ):
        cpu, wall = time.process_time(), time.perf_counter()
        way(options.scene, predict, Path(folder) / 'map.tif')
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {'cpu': cpu, 'wall': wall, 'memory': max(memory) - memory[0]}


#: What a way imports, which is not measured.
_MODULES = {
    'forward': (),
    'eoseg': ('eoseg.inference.planner', 'eoseg.io.journal', 'eoseg_datasets.scene'),
    'cog': ('eoseg.inference.planner', 'eoseg.io.journal', 'eoseg_datasets.scene'),
    'monai': ('monai.inferers',),
    'terratorch': ('terratorch.tasks.tiled_inference',),
    'torchgeo': ('torchgeo.datasets', 'torchgeo.samplers'),
}


@contextmanager
def _watched() -> Iterator[list[float]]:
    """Memory of this process in GB, looked at while the block runs."""
    seen = [_memory()]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            seen.append(_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        stop.set()
        watcher.join()


def _memory() -> float:
    resident, shared = Path('/proc/self/statm').read_text().split()[1:3]
    return (int(resident) - int(shared)) * _PAGE / 1e9


def _has_our_settings(options: argparse.Namespace, way: str) -> bool:
    return options.settings == 'equal' or way in OURS


def _in_a_process(way: str, options: argparse.Namespace) -> dict[str, float]:
    words = [
        *('--run', way, '--scene', options.scene, '--model', options.model),
        *('--settings', options.settings, '--precision', options.precision),
        *('--device', options.device),
    ]
    threads = {'OMP_WAIT_POLICY': 'PASSIVE'} if _has_our_settings(options, way) else {}
    ran = subprocess.run(
        [sys.executable, '-m', 'benchmarks.inference', *map(str, words)],
        env=os.environ | threads, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _print(
    rounds: list[dict[str, dict[str, float]]],
    pixels: float,
    options: argparse.Namespace,
) -> None:
    about = (
        f'{options.model}, {options.side} x {options.height or options.side} px, '
        f'{options.layout}, {options.compress}, {options.settings}, '
        f'{options.precision}, median of {len(rounds)}'
    )
    print(f'\n{about}\n')
    print('| way | CPU-s | wall s | Mpx/CPU-s | CPU / eoseg | memory GB |')
    print('|---|---|---|---|---|---|')
    medians = {
        way: {key: statistics.median(r[way][key] for r in rounds) for key in found}
        for way, found in rounds[0].items()
    }
    ours = medians.get('eoseg', {}).get('cpu', float('nan'))
    for way, found in medians.items():
        print(
            f'| {way} | {found["cpu"]:.1f} | {found["wall"]:.1f} '
            f'| {pixels / found["cpu"]:.2f} | {found["cpu"] / ours:.2f} '
            f'| {found["memory"]:.2f} |'
        )


if __name__ == '__main__':
    main()
