"""Cost of KTDA: operations, time and memory, by part and by preset.

    python -m benchmarks.ktda [--size 256] [--batch 2] [--rounds 5] [--timed PRESET ...]

Operations (two per multiplication with addition) are counted without computing, so also
for presets that are too large for the machine. Only presets that are named are timed; in
turn, round by round, as the speed of a machine changes from minute to minute, and the
medians are compared. Memory is the peak of a training step, above what it begins with.
Maps of a teacher are computed, computed and kept in a folder, and read from there.
"""

import argparse
import gc
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from eoseg.losses import DistillationLoss, masked_cross_entropy
from eoseg.models import KTDA, CachedTeacher, FeatureModulation, Teacher
from eoseg.models.modulation import Kind

from .memory import kept_for_backward

#: Arguments of KTDA, and the name of the teacher.
PRESETS: dict[str, tuple[dict[str, Any], str]] = {
    'paper': ({}, 'vit_base_patch14_dinov2'),
    'paper-pooled': ({'modulation': 'pooled'}, 'vit_base_patch14_dinov2'),
    'paper-window': ({'modulation': 'window'}, 'vit_base_patch14_dinov2'),
    'tiny': (
        {'backbone': 'convnext_tiny', 'decoder_channels': 256, 'head_channels': 256},
        'vit_small_patch14_dinov2',
    ),
    'femto': (
        {
            'backbone': 'convnextv2_femto',
            'align': 'student',
            'modulation': {'kind': 'pooled', 'depth': 1},
            'decoder_channels': 128,
            'head_channels': 128,
        },
        'vit_small_patch14_dinov2',
    ),
    'scenes-ktda': (
        {
            'backbone': 'tf_efficientnet_lite0',
            'align': 'student',
            'modulation': {'kind': 'mlp', 'depth': 1},
            'decoder_channels': 128,
            'head_channels': 128,
        },
        'vit_small_patch14_dinov2',
    ),
}

#: Parts of KTDA in the order of an image through them.
PARTS = ('backbone', 'alignment', 'neck', 'modulation', 'head')

CLASSES = 5


def main() -> None:
    """Print the tables."""
    options = _parser().parse_args()
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    print(f'{options.size} x {options.size} pixels, {device}\n')
    operations(options.size)
    modulations(options.size, options.rounds, device)
    teachers(options.size, options.batch, options.rounds, device)
    if options.timed:
        times(options.timed, options.size, options.batch, options.rounds, device)


def operations(size: int) -> None:
    """Operations of one image by part."""
    print(f'{"GFLOP per image":<16}' + ''.join(f'{p:>12}' for p in (*PARTS, 'teacher')))
    for name, (network, teacher) in PRESETS.items():
        with torch.device('meta'):
            model, taught = _networks(network, teacher)
            image = torch.empty(1, 3, size, size)
        counts = _count(model.eval(), image)
        parts = [counts.get(f'KTDA.{part}', 0) for part in PARTS]
        parts.append(_count(taught, image)['Global'])
        print(f'{name:<16}' + ''.join(f'{part / 1e9:12.1f}' for part in parts))
    print()


def modulations(size: int, rounds: int, device: torch.device) -> None:
    """Time and memory of a block of each kind on the finest map."""
    side, dim = 4 * -(-size // 14), 768
    cells = torch.randn(1, dim, side, side, device=device)
    kinds: tuple[Kind, ...] = ('vit', 'pooled', 'window', 'mlp')
    blocks = {
        kind: FeatureModulation(dim, 1, kind, depth=1).to(device).eval()
        for kind in kinds
    }

    def run(kind: Kind) -> None:
        with torch.inference_mode():
            blocks[kind]([cells])

    print(f'one block of the modulation on {side} x {side} cells of {dim} channels')
    _compare({kind: partial(run, kind) for kind in kinds}, rounds, device)
    for kind, block in blocks.items():
        kept = kept_for_backward(block, [cells])
        print(f'{kind:<16}{kept / 2**20:10.0f} MB kept for the backward pass')
    print()


def teachers(size: int, batch: int, rounds: int, device: torch.device) -> None:
    """Time that the maps of a teacher take: computed, kept as well, and read again."""
    image = torch.randn(batch, 3, size, size, device=device)
    with tempfile.TemporaryDirectory() as folder:
        for name in ('vit_small_patch14_dinov2', 'vit_base_patch14_dinov2'):
            teacher = Teacher(name).to(device)
            cached = CachedTeacher(teacher, Path(folder))

            def keep(cached: CachedTeacher = cached) -> None:
                shutil.rmtree(cached.folder, ignore_errors=True)
                cached(image)

            runs: dict[str, Callable[[], object]] = {
                'computed': partial(teacher, image),
                'and kept': keep,
                'read': partial(cached, image),
            }
            print(f'maps of {name} of {batch} images')
            _compare(runs, rounds, device)
            kept = sum(
                path.stat().st_size for path in cached.folder.rglob('*.safetensors')
            )
            print(f'{kept / batch / 1e6:.1f} MB per image\n')


def times(
    names: Sequence[str], size: int, batch: int, rounds: int, device: torch.device
) -> None:
    """Time of an image in prediction and of a step in training, and its memory."""
    image = torch.randn(batch, 3, size, size, device=device)
    mask = torch.randint(CLASSES, (batch, size, size), device=device)
    steps, predictions = {}, {}
    for name in names:
        model, teacher = _networks(*PRESETS[name])
        steps[name] = _step(model.to(device), teacher.to(device), image, mask)
        predictions[name] = _prediction(model, image)
        before = _peak(device, reset=True)
        steps[name]()
        gained = (_peak(device) - before) / 2**20
        print(f'{name:<16}{gained:10.0f} MB for a step with {batch} images')
    print('\na step of training')
    _compare(steps, rounds, device)
    print(f'prediction of {batch} images')
    _compare(predictions, rounds, device)


def _networks(network: dict[str, Any], name: str) -> tuple[KTDA, Teacher]:
    teacher = Teacher(name)
    model = KTDA(3, CLASSES, dim=teacher.dim, patch_size=teacher.patch_size, **network)
    return model, teacher


def _count(model: nn.Module, image: Tensor) -> dict[str, int]:
    """Operations by name of a module."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    counts = counter.get_flop_counts()
    return {name: sum(parts.values()) for name, parts in counts.items()}


def _step(
    model: KTDA, teacher: Teacher, image: Tensor, mask: Tensor
) -> Callable[[], None]:
    criterion = DistillationLoss(preset='balanced')
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def step() -> None:
        output = model.train().forward_train(image)
        loss = masked_cross_entropy(output.logits, mask)
        if output.auxiliary is not None:
            loss = loss + 0.4 * masked_cross_entropy(output.auxiliary, mask)
        loss = loss + criterion(output.aligned, teacher(image)).total
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def _prediction(model: KTDA, image: Tensor) -> Callable[[], None]:
    def predict() -> None:
        with torch.inference_mode():
            model.eval()(image)

    return predict


def _compare(
    runs: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> None:
    """Print medians of runs in turn, and their ratios to the first."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):  # the first one warms up
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if device.type == 'cuda':
                torch.cuda.synchronize()
            if number:
                taken[name].append(time.perf_counter() - start)
    first = taken[next(iter(runs))]
    for name, seconds in taken.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, first, strict=True))
        print(f'{name:<16}{statistics.median(seconds) * 1e3:10.0f} ms{ratio:8.2f} x')
    print()


def _peak(device: torch.device, *, reset: bool = False) -> int:
    """Most bytes that were in use since the last reset; on a CPU those of the process."""
    gc.collect()
    if device.type == 'cuda':
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated()
    if reset:  # of Linux: the peak becomes what is in use
        Path('/proc/self/clear_refs').write_text('5')
    status = Path('/proc/self/status').read_text()
    peak = next(line for line in status.splitlines() if line.startswith('VmHWM'))
    return int(peak.split()[1]) * 1024


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('python -m benchmarks.ktda', description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add('--size', type=int, default=256, help='side of an image in pixels')
    add('--batch', type=int, default=2, help='images of a batch')
    add('--rounds', type=int, default=5)
    add('--timed', nargs='+', choices=PRESETS, default=[], metavar='PRESET')
    return parser


if __name__ == '__main__':
    main()
