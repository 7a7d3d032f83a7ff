"""What adapters make of a frozen SAM: landslides from the air and from space.

    python -m benchmarks.tiny_sam DATA --out tiny-sam.pth
    python -m benchmarks.landslides DATA --base tiny-sam.pth [--out CSV]
    python -m benchmarks.landslides DATA --base tiny-sam.pth --resources
    python -m benchmarks.landslides DATA --costs

DATA has the folders pairs_landslide_sichuan (aerial pictures) and pairs_landslide_nepal
(false colours from space) with images/*.png and masks/*.png (0, 1 landslide). No weights
of SAM are at hand: the base is a tiny one whose encoder has learned from pictures without
labels, and whose mask decoder begins at random, anew for each seed. The arms are

* ``decoder``: the mask decoder alone is trained
* ``atl``: and the adapter of TransLandSeg in the frozen encoder
* ``lora``: and low-rank additions to query, key and value in place of it
* ``full``: all of it
* ``slow``: all of it, the encoder at a twentieth of the learning rate
* ``scratch``: all of it, from random weights

each for as many steps on the same patches, half of which are cut where there is a
landslide, with the learning rate that is best for it: in half the steps, on a third of
the scenes of Sichuan that the first seed trains on. Each picture is a scene of its own. A
seed draws weights and patches, and chooses which third of the scenes are tested on; the
three seeds test on each once. Scores come from one confusion matrix over all pixels of
the test scenes of a seed. Runs that the CSV has are not made again.

``--resources`` is what an arm trains, takes and stores. ``--costs`` counts operations and
memory of a training step with a ViT-L at 1024 pixels, without computing it.
"""

import argparse
import io
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.flop_counter import FlopCounterMode

from eoseg.losses import BCEDiceLoss
from eoseg.metrics import confusion_matrix
from eoseg.models import AdaptedSAM

from .memory import kept_for_backward
from .pictures import jittered, normal, read_picture
from .tables import markdown, read_rows, spread, write_rows

#: Side of the images that SAM sees.
SIDE = 128

BATCH_SIZE = 4
WEIGHT_DECAY = 0.01
LAST_LR = 1e-7

#: Learning rates that are tried.
RATES = (5e-4, 2e-3)

#: Arguments of AdaptedSAM by arm.
ARMS: dict[str, dict[str, Any]] = {
    'decoder': {'adapter': 'none'},
    'atl': {'adapter': 'mlp1'},
    'lora': {'adapter': {'kind': 'lora', 'rank': 8, 'alpha': 16}},
    'full': {'adapter': 'none', 'freeze': False},
    'slow': {'adapter': 'none', 'freeze': False},
    'scratch': {'adapter': 'none', 'freeze': False},
}

#: Learning rate of the encoder relative to the decoder, which begins at random.
ENCODER = {'slow': 0.05}

#: Those that differ in what they train and take.
DISTINCT = ('decoder', 'atl', 'lora', 'full')


class Region(NamedTuple):
    """A data set of landslides."""

    folder: str
    #: Factor that its pictures are made smaller by.
    reduce: int
    #: Side of a patch in pixels, shown at SIDE x SIDE.
    patch: int


REGIONS = {
    # Landslides of hundreds of pixels, and of a few.
    'sichuan': Region('pairs_landslide_sichuan', 4, 128),
    'nepal': Region('pairs_landslide_nepal', 1, 64),
}


class Scene(NamedTuple):
    """A picture and its mask."""

    name: str
    #: Values from 0 to 1, of shape (3, H, W).
    image: Tensor
    #: 1 where there is a landslide, of shape (H, W).
    mask: Tensor


@dataclass(frozen=True)
class Run:
    """One training."""

    region: str
    arm: str
    seed: int
    lr: float
    steps: int


@dataclass(frozen=True)
class Result(Run):
    """Pixels of the test scenes of a run."""

    #: Neither labelled nor found, found alone, labelled alone, and both.
    neither: int
    found: int
    labelled: int
    both: int

    @property
    def iou(self) -> float:
        """Of landslides, as are the others."""
        return _share(self.both, self.found + self.labelled + self.both)

    @property
    def precision(self) -> float:
        """Share of what is found that is labelled."""
        return _share(self.both, self.found + self.both)

    @property
    def recall(self) -> float:
        """Share of what is labelled that is found."""
        return _share(self.both, self.labelled + self.both)

    @property
    def positive(self) -> float:
        """Share of all pixels that is labelled; the IoU of a map of landslides only."""
        pixels = self.neither + self.found + self.labelled + self.both
        return _share(self.labelled + self.both, pixels)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def main() -> None:
    """Train every arm, write what comes of each run and print a table."""
    options = _options()
    torch.set_num_threads(options.threads)
    if options.costs:
        print(costs('vit_l', 1024))
        return
    if not options.base.is_file():
        raise FileNotFoundError(
            f'No {options.base}. Make it: python -m benchmarks.tiny_sam {options.data} '
            f'--out {options.base}'
        )
    if options.resources:
        print(resources(options.base))
        return
    results = read_rows(options.out, Result)
    for new in _measured(options, results):
        results.append(new)
        write_rows(options.out, results)
        print(new, f'IoU {new.iou:.3f}', flush=True)
    print(table(results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        'python -m benchmarks.landslides',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('data', type=Path, metavar='DATA')
    add('--base', type=Path, default=Path('tiny-sam.pth'))
    add('--arms', nargs='+', choices=ARMS, default=list(ARMS))
    add('--regions', nargs='+', choices=REGIONS, default=list(REGIONS))
    add('--seeds', nargs='+', type=int, default=[0, 1, 2])
    add('--steps', type=int, default=120)
    add('--lr', type=float, help='default: chosen for each arm')
    add('--out', type=Path, default=Path('landslides.csv'))
    add('--threads', type=int, default=1)
    add('--resources', action='store_true', help='what each arm takes')
    add('--costs', action='store_true', help='of ViT-L, counted')
    return parser.parse_args()


def _measured(options: argparse.Namespace, known: Sequence[Result]) -> Iterator[Result]:
    """Results of runs that are wanted and not known."""
    done = {(r.region, r.arm, r.seed) for r in known}
    for arm in options.arms:
        pairs = product(options.regions, options.seeds)
        missing = [(r, seed) for r, seed in pairs if (r, arm, seed) not in done]
        if not missing:
            continue
        lr = options.lr or chosen_rate(arm, options)
        for region, seed in missing:
            scenes = read_scenes(options.data, REGIONS[region])
            run = Run(region, arm, seed, lr, options.steps)
            yield measure(run, options.base, *divide(scenes, seed))


@cache
def read_scenes(data: Path, region: Region) -> list[Scene]:
    """Read all pictures of a region and their masks.

    Args:
        data: Folder of data sets.
        region: Which.

    Raises:
        FileNotFoundError: If there is no picture.
    """
    root = data / region.folder
    paths = sorted((root / 'images').glob('*.png'))
    if not paths:
        raise FileNotFoundError(
            f'No images/*.png in {root}. Give the folder of all data sets.'
        )
    return [_scene(path, root / 'masks' / path.name, region.reduce) for path in paths]


def _scene(path: Path, mask: Path, reduce: int) -> Scene:
    image = torch.from_numpy(read_picture(path)[:3] / np.float32(255))
    truth = torch.from_numpy(read_picture(mask)[0].astype(np.float32))
    if reduce > 1:
        image = F.avg_pool2d(image[None], reduce)[0]
        truth = F.avg_pool2d(truth[None, None], reduce)[0, 0]
    return Scene(path.stem, image, (truth >= 0.5).long())


def divide(scenes: Sequence[Scene], seed: int) -> tuple[list[Scene], list[Scene]]:
    """Divide scenes: every third, ordered by their share of landslides, is for testing.

    Args:
        scenes: All of them.
        seed: Which third.

    Returns:
        Those to learn from and those to test on.
    """
    order = sorted(scenes, key=lambda scene: (scene.mask.float().mean(), scene.name))
    test = [scene for i, scene in enumerate(order) if i % 3 == seed % 3]
    train = [scene for i, scene in enumerate(order) if i % 3 != seed % 3]
    return train, test


def chosen_rate(arm: str, options: argparse.Namespace) -> float:
    """The learning rate of greatest IoU on scenes that the first seed trains on.

    Args:
        arm: How.
        options: Of the command line.
    """
    scenes = read_scenes(options.data, REGIONS['sichuan'])
    train, _ = divide(scenes, options.seeds[0])
    inner, held = divide(train, 1)
    tried = [
        measure(
            Run('sichuan', arm, 7, lr, options.steps // 2), options.base, inner, held
        )
        for lr in RATES
    ]
    told = ', '.join(f'{one.lr:g}: {one.iou:.3f}' for one in tried)
    print(f'{arm}: IoU by learning rate {told}', flush=True)
    return max(tried, key=lambda one: one.iou).lr


def measure(
    run: Run, base: Path, train: Sequence[Scene], test: Sequence[Scene]
) -> Result:
    """Train a SAM and test it.

    Args:
        run: How.
        base: Weights of the base.
        train: Scenes to learn from.
        test: Scenes to test on.
    """
    side = REGIONS[run.region].patch
    model = network(run.arm, base, run.seed)
    random = np.random.default_rng(run.seed)
    optimizer = _optimizer(model, run.lr, ENCODER.get(run.arm, 1.0))
    falling = CosineAnnealingLR(optimizer, run.steps, LAST_LR)
    for _ in range(run.steps):
        step(model, optimizer, *draw(train, side, random))
        falling.step()
    confusion: Any = sum(confusion_of(model, scene, side) for scene in test)
    counts = map(int, confusion.ravel())
    return Result(run.region, run.arm, run.seed, run.lr, run.steps, *counts)


def network(arm: str, base: Path, seed: int) -> AdaptedSAM:
    """Build a SAM.

    Args:
        arm: How it is trained.
        base: Weights of the base; ``scratch`` goes without.
        seed: Of what begins at random.
    """
    torch.manual_seed(seed)
    weights = None if arm == 'scratch' else str(base)
    model = AdaptedSAM(
        3, 2, size='tiny', img_size=SIDE, weights=weights, **ARMS[arm]
    ).train()
    if arm != 'scratch':
        # The base has not learned to decode: each seed begins with a decoder of its own.
        fresh = AdaptedSAM(
            3, 2, size='tiny', img_size=SIDE, adapter='none', freeze=False
        )
        model.mask_decoder.load_state_dict(fresh.mask_decoder.state_dict())
    return model


def _optimizer(model: AdaptedSAM, lr: float, encoder: float = 1.0) -> AdamW:
    groups = [
        {
            'params': [p for p in part.parameters() if p.requires_grad],
            'lr': lr * (encoder if part is model.image_encoder else 1.0),
        }
        for part in model.children()
    ]
    return AdamW(groups, lr=lr, weight_decay=WEIGHT_DECAY)


def step(model: nn.Module, optimizer: AdamW, image: Tensor, mask: Tensor) -> None:
    """Train for one step, as :class:`eoseg.tasks.SAMAdapter` does.

    Args:
        model: Network.
        optimizer: Of its parameters.
        image: Images of shape (B, 3, H, W), standardized.
        mask: Classes of shape (B, H, W).
    """
    optimizer.zero_grad()
    torch.autograd.backward(BCEDiceLoss()(model(image), mask).total)
    optimizer.step()


def draw(
    scenes: Sequence[Scene], side: int, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a batch of patches, turned, flipped, brighter or darker.

    Args:
        scenes: What to draw from.
        side: Side of a patch in pixels.
        random: Draws.

    Returns:
        Images, standardized, and masks. Every other patch holds a landslide.
    """
    patches = [
        _patch(scenes[i], side, random, landslide=bool(n % 2))
        for n, i in enumerate(random.integers(len(scenes), size=BATCH_SIZE))
    ]
    images, masks = zip(*patches, strict=True)
    return normal(jittered(torch.stack(images), random)), torch.stack(masks)


def _patch(
    scene: Scene, side: int, random: np.random.Generator, *, landslide: bool
) -> tuple[Tensor, Tensor]:
    height, width = scene.mask.shape
    top, left = (int(random.integers(s - side + 1)) for s in (height, width))
    places = scene.mask.nonzero()
    if landslide and len(places):
        row, column = places[int(random.integers(len(places)))].tolist()
        top = int(np.clip(row - random.integers(side), 0, height - side))
        left = int(np.clip(column - random.integers(side), 0, width - side))
    turns, flipped = int(random.integers(4)), bool(random.integers(2))

    def cut(values: Tensor) -> Tensor:
        patch = values[..., top : top + side, left : left + side].rot90(turns, (-2, -1))
        return patch.flip(-1) if flipped else patch

    return cut(scene.image), cut(scene.mask)


@torch.no_grad()
def confusion_of(model: nn.Module, scene: Scene, side: int) -> Any:
    """Map a scene, window beside window, and compare.

    Args:
        model: Network.
        scene: What to map.
        side: Side of a window in pixels.

    Returns:
        Confusion matrix, true class first.
    """
    model.eval()
    height, width = scene.mask.shape
    found = np.zeros((height, width), np.uint8)
    for top, left in product(range(0, height, side), range(0, width, side)):
        window = np.s_[top : top + side, left : left + side]
        logits = model(normal(scene.image[:, *window])[None])
        found[window] = logits.argmax(1)[0].numpy()
    return confusion_matrix(scene.mask.numpy(), found, 2)


def table(results: Sequence[Result]) -> str:
    """Means and standard deviations over the seeds, in percent.

    Args:
        results: All runs.
    """
    header = (
        'region', 'arm', 'learning rate', 'IoU', 'precision', 'recall',
        'IoU less that of decoder', 'runs',
    )  # fmt: skip
    by_run = {(r.region, r.arm, r.seed): r for r in results}
    rows: list[list[object]] = []
    for region in dict.fromkeys(r.region for r in results):
        here = [r for r in results if r.region == region]
        shares = list({r.seed: r.positive for r in here}.values())
        share = spread(shares)
        rows.append([region, 'landslide everywhere', '', share, share, '100', '', ''])
        for arm in ARMS:
            runs = [r for r in here if r.arm == arm]
            if not runs:
                continue
            against = [by_run.get((region, 'decoder', r.seed)) for r in runs]
            gains = [r.iou - d.iou for r, d in zip(runs, against, strict=True) if d]
            rows.append(
                [
                    region,
                    arm,
                    f'{runs[0].lr:g}',
                    spread([r.iou for r in runs]),
                    spread([r.precision for r in runs]),
                    spread([r.recall for r in runs]),
                    spread(gains, '+') if gains and arm != 'decoder' else '',
                    len(runs),
                ]
            )
    return markdown(header, rows)


def resources(base: Path, rounds: int = 9) -> str:
    """What each arm trains and what a step of it takes.

    Steps are timed in turn, round by round, as the speed of a machine changes from minute
    to minute; by the time of the processor, so that other programs count less.

    Args:
        base: Weights of the base.
        rounds: Steps of each arm.

    Returns:
        A table.
    """
    image = torch.randn(BATCH_SIZE, 3, SIDE, SIDE)
    mask = torch.ones(BATCH_SIZE, SIDE, SIDE, dtype=torch.long)
    models = {arm: network(arm, base, 0) for arm in DISTINCT}
    optimizers = {arm: _optimizer(models[arm], 1e-9) for arm in DISTINCT}
    taken: dict[str, list[float]] = {arm: [] for arm in DISTINCT}
    for _, arm in product(range(rounds + 1), DISTINCT):
        start = time.process_time()
        step(models[arm], optimizers[arm], image, mask)
        taken[arm].append(time.process_time() - start)
    header = ('arm', *TRAINED, 'checkpoint', 'ms per step', 'kept for backward')
    rows = [
        [
            arm,
            *_trained(model),
            f'{_checkpoint_size(model) / 2**20:.2f} MiB',
            # The first step warms up.
            f'{1e3 * statistics.median(taken[arm][1:]):.0f}',
            f'{kept_for_backward(model, image) / 2**20:.0f} MiB',
        ]
        for arm, model in models.items()
    ]
    return markdown(header, rows)


#: Columns of :func:`_trained`.
TRAINED = ('trained', 'share')


def _trained(model: nn.Module) -> list[str]:
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return [f'{trained:,}', f'{100 * trained / total:.2f} %']


def _checkpoint_size(model: AdaptedSAM) -> int:
    frozen = model.frozen()
    file = io.BytesIO()
    state = {k: v for k, v in model.state_dict().items() if k not in frozen}
    torch.save(state, file)
    return file.tell()


def costs(size: str, side: int) -> str:
    """Operations and memory of a training step with one image, counted, not measured.

    Args:
        size: Of the SAM.
        side: Of the image in pixels.

    Returns:
        A table: operations of a step with activation checkpointing, and what a forward
        pass keeps for the backward one in single precision, without it and with it.
    """
    image = torch.empty(1, 3, side, side, device='meta')
    rows = []
    for arm in DISTINCT:
        kept = []
        for saving in (False, True):
            with torch.device('meta'):
                model = AdaptedSAM(
                    3, 2, size=size, img_size=side, checkpointing=saving, **ARMS[arm]
                )
            kept.append(f'{kept_for_backward(model, image) / 2**30:.1f} GiB')
        with FlopCounterMode(display=False) as counter:
            torch.autograd.backward(model(image).sum())
        flops = f'{counter.get_total_flops() / 1e12:.2f}'
        rows.append([arm, *_trained(model), flops, *kept])
    header = (f'{size}, {side} px', *TRAINED, 'TFLOP', 'kept', 'checkpointed')
    return markdown(header, rows)


if __name__ == '__main__':
    main()
