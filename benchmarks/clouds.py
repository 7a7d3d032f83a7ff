"""What a teacher adds on few labels: clouds in Landsat 8 images, scenes kept apart.

    python -m benchmarks.clouds DATA --weights DIR

DATA has images/*.png and masks/*.png (0 clear, 1 cloud) of one size; what precedes the
first underscore of a name is the scene. DIR has tf_efficientnet_lite0.safetensors and
vit_small_patch14_dinov2.safetensors.

The scenes are divided into three folds. Each is tested once, by students that were
trained on the other two. A student is the small KTDA network on EfficientNet-Lite0,
trained in one of these arms

* ``labels``: on labels alone
* ``transfer``: on the maps of the teacher too, those of images whose labels are withheld
  among them
* ``modulation``: on labels alone, with blocks of feature modulation of the kind
  ``pooled`` (``vit``, ``window`` and ``mlp`` are other kinds of them)
* ``both``
* ``taught``: on labels alone, after 1200 steps of lessons on other images, those of
  ``--unlabelled``
* ``unet``: on labels alone, and the student is a U-Net on the same backbone

from weights of ImageNet (``pretrained``) or from random ones (``scratch``, and
``scratch-long`` with twice the steps), and with some number of labelled images. Every arm
but ``taught`` has the same steps; with random weights the first of those of ``transfer``
and ``both`` learn from the teacher alone.

A line of the CSV is what one student made of one image; runs that the file has are not
made again. The table has one confusion matrix of all images per seed, and of the scores
their mean and standard deviation over the seeds, which draw the initial weights, the
patches and which of the images are labelled. Another table has the images that most of
what is wrong is in.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eoseg.metrics import scores
from eoseg.models import KTDA, UNet

from .lessons import (
    TEACHER,
    Lesson,
    Pair,
    maps_of,
    read_pairs,
    read_unlabelled,
    taught,
)
from .students import (
    BACKBONE,
    CLASSES,
    Schedule,
    evaluate,
    learn_from_both,
    learn_from_labels,
    learn_from_teacher,
    student,
    unet,
)
from .tables import markdown, read_rows, spread, write_rows

FOLDS = 3

#: Kind of feature modulation of each arm of the KTDA network.
MODULATION = {
    'labels': None,
    'transfer': None,
    'modulation': 'pooled',
    'both': 'pooled',
    'vit': 'vit',
    'window': 'window',
    'mlp': 'mlp',
    'taught': None,
}

#: Arms that the teacher has a part in.
TRANSFER = ('transfer', 'both')

ARMS = (*MODULATION, 'unet')
INITS = ('pretrained', 'scratch', 'scratch-long')

#: By initial weights, and whether there is a teacher. Chosen on parts of the training
#: scenes that were not trained on, by a few trials each.
SCHEDULES = {
    ('pretrained', False): Schedule(lr=1e-3, steps=75, backbone=0.3),
    ('pretrained', True): Schedule(lr=1e-3, steps=75, weight=1.0, backbone=0.3),
    ('scratch', False): Schedule(lr=2e-3, steps=150),
    ('scratch', True): Schedule(lr=2e-3, steps=75, lessons=75),
    ('scratch-long', False): Schedule(lr=2e-3, steps=300),
    ('scratch-long', True): Schedule(lr=2e-3, steps=75, lessons=225),
}

#: Lessons on images without labels, before the first label.
LESSONS = Schedule(lr=2e-3, steps=0, lessons=1200)

COLUMNS = (
    'init',
    'labelled images',
    'arm',
    'mIoU',
    'gain',
    'IoU of cloud',
    'F1',
    'seeds',
    'ms per step',
    'ms per map',
)


@dataclass(frozen=True)
class Run:
    """One student."""

    init: str
    arm: str
    #: Labelled images; 0 for all.
    labelled: int
    seed: int
    #: Which of the folds it is tested on.
    fold: int


@dataclass(frozen=True)
class Result:
    """What a student made of an image."""

    init: str
    arm: str
    labelled: int
    seed: int
    fold: int
    image: str
    #: Pixels, true class first.
    clear_clear: int
    clear_cloud: int
    cloud_clear: int
    cloud_cloud: int
    #: Processor time of a training step, and of the map of an image.
    ms_step: float
    ms_map: float

    @property
    def run(self) -> Run:
        """The student."""
        return Run(self.init, self.arm, self.labelled, self.seed, self.fold)

    @property
    def wrong(self) -> int:
        """Pixels of the other class."""
        return self.clear_cloud + self.cloud_clear


class Course(NamedTuple):
    """All images."""

    pairs: list[Pair]
    #: What the teacher says of each.
    maps: list[list[Tensor]]

    def divided(self, fold: int) -> tuple[list[Lesson], list[Pair]]:
        """Divide by scene.

        Args:
            fold: Which part to test on.

        Returns:
            What is learned from, and what is tested on.
        """
        parts = fold_of(self.pairs)
        train = [i for i, part in enumerate(parts) if part != fold]
        test = [i for i, part in enumerate(parts) if part == fold]
        lessons = taught([self.pairs[i] for i in train], [self.maps[i] for i in train])
        return lessons, [self.pairs[i] for i in test]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train all students, write what they made of each image and print the tables.

    Args:
        arguments: Words of the command line.
    """
    options = _options(arguments)
    results = read_rows(options.out, Result)
    if options.table:
        wanted = [result.run for result in results]
    else:
        wanted = _wanted(options)
    done = {result.run for result in results}
    with tempfile.TemporaryDirectory() as folder:
        options.cache = options.cache or Path(folder)
        for new in _measured([run for run in wanted if run not in done], options):
            results += new
            write_rows(options.out, results)
            print(f'{new[0].run}: mIoU {100 * total(new)["miou"]:.1f}', flush=True)
    asked = {*wanted}
    told = [result for result in results if result.run in asked]
    print(f'{table(told)}\n\n{hardest(told)}')


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('data', type=Path)
    add('--weights', type=Path, required=True)
    add('--arms', nargs='+', choices=ARMS, default=ARMS[:4])
    add('--init', nargs='+', choices=INITS, default=INITS[:2])
    add('--unlabelled', type=Path, help='folder of images for the arm taught')
    add('--seeds', nargs='+', type=int, default=[0, 1, 2])
    add('--labelled', nargs='+', default=['all'], help='labelled images, or all')
    add('--out', type=Path, default=Path('clouds.csv'))
    add('--cache', type=Path, help='folder that keeps the maps of the teacher')
    add('--jobs', type=int, default=1, help='students at a time')
    add(
        '--table', action='store_true', help='print all that the CSV has, train nothing'
    )
    return parser.parse_args(arguments)


def _wanted(options: argparse.Namespace) -> list[Run]:
    labelled = [0 if count == 'all' else int(count) for count in options.labelled]
    return [
        Run(init, arm, count, seed, fold)
        for seed, count, init, arm, fold in product(
            options.seeds, labelled, options.init, options.arms, range(FOLDS)
        )
    ]


def _measured(
    runs: Sequence[Run], options: argparse.Namespace
) -> Iterator[list[Result]]:
    if not runs:
        return
    # The first process asks the teacher, the others find its maps in the cache.
    _course(options.data, options.weights, options.cache)
    for run in runs:
        if run.arm == 'taught':
            _taught(run, options)
    with ProcessPoolExecutor(options.jobs, get_context('spawn')) as pool:
        yield from pool.map(_measure, runs, [options] * len(runs))


def _measure(run: Run, options: argparse.Namespace) -> list[Result]:
    torch.set_num_threads(1)
    course = _course(options.data, options.weights, options.cache)
    initial = torch.load(_taught(run, options)) if run.arm == 'taught' else None
    return measure(run, *course.divided(run.fold), _backbone(options), initial)


def _backbone(options: argparse.Namespace) -> Path:
    path: Path = options.weights / f'{BACKBONE}.safetensors'
    return path


@cache
def _course(data: Path, weights: Path, folder: Path) -> Course:
    pairs = read_pairs(data)
    return Course(pairs, maps_of(pairs, weights / f'{TEACHER}.safetensors', folder))


def _taught(run: Run, options: argparse.Namespace) -> Path:
    """Weights of a student that has seen no label, made where they are missing."""
    begun = 'pretrained' if run.init == 'pretrained' else 'random'
    path: Path = options.cache / f'taught_{begun}_{run.seed}.pt'
    if path.is_file():
        return path
    if options.unlabelled is None:
        raise SystemExit('the arm taught needs --unlabelled, a folder of images')
    others = read_unlabelled(options.unlabelled)
    maps = maps_of(others, options.weights / f'{TEACHER}.safetensors', options.cache)
    torch.manual_seed(run.seed)
    model = student(_backbone(options) if begun == 'pretrained' else None, None)
    random = np.random.default_rng(run.seed)
    learn_from_teacher(model, taught(others, maps), LESSONS, random)
    torch.save(model.state_dict(), path)
    return path


def fold_of(pairs: Sequence[Pair]) -> list[int]:
    """Divide by scene, so that every fold has scenes of little and of much cloud.

    Args:
        pairs: All of them.

    Returns:
        The fold of each pair.
    """
    cloudy: dict[str, list[float]] = {}
    for pair in pairs:
        cloudy.setdefault(pair.scene, []).append(pair.mask.float().mean().item())
    order = sorted(cloudy, key=lambda scene: (statistics.mean(cloudy[scene]), scene))
    return [order.index(pair.scene) % FOLDS for pair in pairs]


def few(scenes: Sequence[str], count: int, seed: int) -> list[int]:
    """Draw images, of as many scenes as can be; fewer are the first of more.

    Args:
        scenes: Scene of each image.
        count: How many; 0 for all.
        seed: Of the draw.

    Returns:
        Positions of the drawn images.
    """
    order = np.random.default_rng(seed).permutation(len(scenes)).tolist()
    nth = {i: [j for j in order if scenes[j] == scenes[i]].index(i) for i in order}
    return sorted(order, key=lambda i: nth[i])[: count or None]


def measure(
    run: Run,
    lessons: Sequence[Lesson],
    test: Sequence[Pair],
    weights: Path,
    initial: Mapping[str, Tensor] | None = None,
) -> list[Result]:
    """Train a student and test it.

    Args:
        run: How.
        lessons: Training images.
        test: Test images.
        weights: Weights of the backbone.
        initial: Weights of the student to begin with, where it has learned before.
    """
    torch.manual_seed(run.seed)
    model = _network(run, weights)
    if initial is not None:
        model.load_state_dict(initial)
    schedule = SCHEDULES[run.init, run.arm in TRANSFER]
    start = time.process_time()
    _train(model, run, lessons, schedule)
    trained = time.process_time()
    confusions = evaluate(model, test)
    mapped = time.process_time()
    steps = schedule.steps + schedule.lessons
    return [
        Result(
            **asdict(run),
            image=pair.name,
            clear_clear=int(confusion[0, 0]),
            clear_cloud=int(confusion[0, 1]),
            cloud_clear=int(confusion[1, 0]),
            cloud_cloud=int(confusion[1, 1]),
            ms_step=round(1000 * (trained - start) / steps, 1),
            ms_map=round(1000 * (mapped - trained) / len(test), 1),
        )
        for pair, confusion in zip(test, confusions, strict=True)
    ]


def _network(run: Run, weights: Path) -> KTDA | UNet:
    initial = weights if run.init == 'pretrained' else None
    if run.arm == 'unet':
        return unet(initial)
    return student(initial, MODULATION[run.arm])


def _train(
    model: KTDA | UNet, run: Run, lessons: Sequence[Lesson], schedule: Schedule
) -> None:
    random = np.random.default_rng(run.seed)
    scenes = [lesson.scene for lesson in lessons]
    chosen = [lessons[i] for i in few(scenes, run.labelled, run.seed)]
    if isinstance(model, KTDA) and schedule.lessons:
        learn_from_teacher(model, lessons, schedule, random)
    if isinstance(model, KTDA) and schedule.weight:
        learn_from_both(model, chosen, lessons, schedule, random)
    else:
        learn_from_labels(model, chosen, schedule, random)


def total(results: Iterable[Result]) -> Mapping[str, float]:
    """Scores of one confusion matrix of all images, from 0 to 1.

    Args:
        results: Of one student per image.
    """
    pixels = [
        [[r.clear_clear, r.clear_cloud], [r.cloud_clear, r.cloud_cloud]]
        for r in results
    ]
    return scores(np.array(pixels).sum(0), CLASSES)


def table(results: Sequence[Result]) -> str:
    """Means and standard deviations over the seeds, in percent.

    The gain is the difference in mIoU from the labels alone, of the same seeds.

    Args:
        results: Of all students.
    """
    groups: dict[tuple[str, int, str], dict[int, list[Result]]] = {}
    for r in results:
        seeds = groups.setdefault((r.init, r.labelled, r.arm), {})
        seeds.setdefault(r.seed, []).append(r)
    rows = [
        [
            init,
            labelled or 'all',
            arm,
            *_cells(seeds, groups.get((init, labelled, 'labels'), {})),
        ]
        for (init, labelled, arm), seeds in groups.items()
    ]
    return markdown(COLUMNS, rows)


def _cells(
    seeds: Mapping[int, Sequence[Result]], alone: Mapping[int, Sequence[Result]]
) -> list[object]:
    """Scores and cost of an arm, beside those of *alone*, by seed."""
    every = [r for group in seeds.values() for r in group]
    totals = {seed: total(group) for seed, group in seeds.items()}
    gains = [
        totals[seed]['miou'] - total(alone[seed])['miou']
        for seed, group in seeds.items()
        if group is not alone.get(seed)
        and _images(group) == _images(alone.get(seed, []))
    ]
    spreads = [
        spread([found[name] for found in totals.values()])
        for name in ('miou', 'iou_cloud', 'f1')
    ]
    return [
        spreads[0],
        spread(gains, '+') if gains else '',
        *spreads[1:],
        len(seeds),
        f'{statistics.median(r.ms_step for r in every):.0f}',
        f'{statistics.median(r.ms_map for r in every):.0f}',
    ]


def _images(results: Iterable[Result]) -> set[str]:
    return {result.image for result in results}


def hardest(results: Sequence[Result], count: int = 5) -> str:
    """Table of the images that have most of what is wrong, in percent.

    Args:
        results: Of all students.
        count: How many images.
    """
    images: dict[str, list[Result]] = {}
    for result in results:
        images.setdefault(result.image, []).append(result)
    # A mean over students, so that an image counts once.
    wrong = {
        name: statistics.mean(result.wrong for result in group)
        for name, group in images.items()
    }
    rows = []
    for name in sorted(wrong, key=lambda name: -wrong[name])[:count]:
        one = images[name][0]
        cloudy = one.cloud_clear + one.cloud_cloud
        pixels = cloudy + one.clear_clear + one.clear_cloud
        shares = (
            cloudy / pixels,
            wrong[name] / pixels,
            wrong[name] / sum(wrong.values()),
        )
        rows.append([name, *(f'{100 * share:.0f}' for share in shares)])
    header = ('image', 'cloud', 'of its pixels wrong', 'of all wrong pixels')
    return markdown(header, rows)


if __name__ == '__main__':
    main()
