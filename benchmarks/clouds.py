"""What a teacher adds on few labels: clouds in Landsat 8 images, scenes kept apart.

    python -m benchmarks.clouds DATA --weights DIR --unlabelled FOLDER …

DATA has images/*.png and masks/*.png (0 clear, 1 cloud) of one size; what precedes the
first underscore of a name is the scene. DIR has tf_efficientnet_lite0.safetensors and
vit_small_patch14_dinov2.safetensors. The first three bands of each image of a FOLDER are
red, green and blue; the centre of it is shown to the teacher.

The student is the small KTDA network on EfficientNet-Lite0. The arms are

* ``labels``: it is trained on labels alone
* ``transfer``: it learns the maps of the teacher too; from random weights before it sees
  a label, on all training images and those of FOLDER, else beside the labels
* ``modulation``: labels alone, with blocks of feature modulation
* ``both``

each from ImageNet weights (``pretrained``) or from random ones (``scratch``), and for
some numbers of labelled images. Scores come from one confusion matrix over the images of
all test scenes. They are the mean and the standard deviation over the seeds, which draw
the initial weights, the patches and which of the images are labelled.
"""

import argparse
import csv
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from eoseg.losses import DistillationLoss, DistillationTerms, masked_cross_entropy
from eoseg.metrics import confusion_matrix, scores
from eoseg.models import KTDA, CachedTeacher, Teacher

CLASSES = ('clear', 'cloud')
BACKBONE = 'tf_efficientnet_lite0'
TEACHER = 'vit_small_patch14_dinov2'

#: Half the patches of DINOv2, whose weights are resampled: clouds are small in Landsat,
#: and a linear classifier on scenes it has not seen likes these maps better.
CELL = 7

#: Blocks of the teacher, chosen by that classifier: the last ones know least of clouds.
BLOCKS = (3, 5, 7, 8)

#: Mean and standard deviation of ImageNet, which both networks were made for.
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

#: Side of a training patch, in cells of the teacher.
SIDE = 20

BATCH_SIZE = 8
WEIGHT_DECAY = 0.01
WARMUP = 0.05

#: Largest norm of a gradient.
CLIP = 5.0

#: Value of masks where there is no label.
IGNORED = 255

#: Side of what is taken of an image without labels.
LARGEST = 378

#: Percentiles that become black and white in images without labels.
STRETCH = (1, 99.5)

#: Strength of random changes of brightness: the images were stretched one by one.
JITTER = 0.15

#: Cheap enough for a CPU.
MODULATION = {'kind': 'pooled', 'depth': 1, 'heads': 4, 'side': 12}


class Pair(NamedTuple):
    """An image and its mask."""

    scene: str
    #: Values from 0 to 1, of shape (3, H, W).
    image: Tensor
    #: Classes, of shape (H, W).
    mask: Tensor


class Lesson(NamedTuple):
    """A training image and what the teacher says of it."""

    scene: str
    image: Tensor
    mask: Tensor
    #: Maps of shape (dim, H / CELL, W / CELL), one per block.
    maps: list[Tensor]


class Batch(NamedTuple):
    """Patches of training images, standardized."""

    #: Of shape (B, 3, h, w).
    image: Tensor
    #: Of shape (B, h, w).
    mask: Tensor
    #: Of shape (B, dim, SIDE, SIDE), one per block.
    maps: list[Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn."""

    lr: float
    #: Steps of learning from labels.
    steps: int
    #: Steps of learning from the teacher, before.
    lessons: int = 0
    #: Weight of the teacher beside the labels; it falls to 0 in a straight line.
    weight: float = 0.0
    #: Learning rate of the backbone relative to the rest.
    backbone: float = 1.0


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    init: str
    arm: str
    #: Labelled images; 0 for all.
    chips: int


@dataclass(frozen=True)
class Result:
    """Scores of one run, from 0 to 1."""

    init: str
    arm: str
    chips: int
    seed: int
    miou: float
    iou_cloud: float
    f1: float
    seconds: float
    confusion: str


#: Chosen on parts of the training scenes that were not trained on, by a few trials each.
SCHEDULES = {
    ('pretrained', False): Schedule(lr=1e-3, steps=80, backbone=0.3),
    ('pretrained', True): Schedule(lr=1e-3, steps=80, weight=0.2, backbone=0.3),
    ('scratch', False): Schedule(lr=2e-3, steps=160),
    ('scratch', True): Schedule(lr=2e-3, steps=160, lessons=500),
}
ARMS = ('labels', 'transfer', 'modulation', 'both')
INITS = ('pretrained', 'scratch')


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every arm, print a table and write the results of all runs.

    Args:
        arguments: Words of the command line.
    """
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    pairs = read_pairs(options.data)
    train, test = divide(pairs)
    others = read_unlabelled(options.unlabelled)
    print(
        f'{len(train)} images to learn from, {len(others)} without labels, '
        f'{len(test)} of other scenes to test on'
    )
    with tempfile.TemporaryDirectory() as folder:
        cache = options.cache or Path(folder)
        lessons = prepare(
            train + others, options.weights / f'{TEACHER}.safetensors', cache
        )
    arms = [
        Arm(init, arm, 0 if chips == 'all' else int(chips))
        for init, arm, chips in product(options.init, options.arms, options.chips)
    ]
    weights = options.weights / f'{BACKBONE}.safetensors'
    results = []
    for seed, arm in product(options.seeds, arms):
        results.append(measure(arm, seed, lessons, test, weights))
        write_csv(options.out, results)
        print(results[-1], flush=True)
    print(markdown(results))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', type=Path)
    parser.add_argument('--weights', type=Path, required=True)
    parser.add_argument('--unlabelled', nargs='+', type=Path, default=[])
    parser.add_argument('--arms', nargs='+', choices=ARMS, default=ARMS)
    parser.add_argument('--init', nargs='+', choices=INITS, default=INITS)
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument(
        '--chips', nargs='+', default=['all'], help='labelled images, or all'
    )
    parser.add_argument('--out', type=Path, default=Path('clouds.csv'))
    parser.add_argument(
        '--cache', type=Path, help='folder that keeps the maps of the teacher'
    )
    parser.add_argument('--threads', type=int, default=1)
    return parser.parse_args(arguments)


def read_pairs(root: Path) -> list[Pair]:
    """Read all images and their masks.

    Args:
        root: Folder with ``images`` and ``masks``.

    Raises:
        FileNotFoundError: If there is no image.
    """
    paths = sorted((root / 'images').glob('*.png'))
    if not paths:
        raise FileNotFoundError(
            f'No images/*.png in {root}. Give the folder with images and masks.'
        )
    return [
        Pair(
            path.name.split('_')[0],
            torch.from_numpy(_read(path)[:3] / np.float32(255)),
            torch.from_numpy(_read(root / 'masks' / path.name)[0].astype(np.int64)),
        )
        for path in paths
    ]


def _read(path: Path) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        file = rasterio.open(path)
    with file:
        values: NDArray[Any] = file.read()
    return values


def read_unlabelled(folders: Iterable[Path]) -> list[Pair]:
    """Read images to show to the teacher.

    Args:
        folders: Folders of images. Those of fewer than three bands, those smaller than a
            training patch and masks are left out.

    Returns:
        The centres of the images, brought to values from 0 to 1, with empty masks.
    """
    paths = [
        path
        for folder in folders
        for path in sorted(folder.rglob('*'))
        if path.suffix in ('.png', '.tif') and 'masks' not in path.parts
    ]
    images = [_centre(image) for path in paths if len(image := _read(path)) >= 3]
    return [
        Pair('', _stretched(image), torch.full(image.shape[1:], IGNORED))
        for image in images
        if min(image.shape[1:]) >= SIDE * CELL
    ]


def _centre(image: NDArray[Any]) -> NDArray[Any]:
    _, height, width = image.shape
    top, left = max(height - LARGEST, 0) // 2, max(width - LARGEST, 0) // 2
    return image[:3, top : top + LARGEST, left : left + LARGEST]


def _stretched(image: NDArray[Any]) -> Tensor:
    low, high = np.percentile(image[image > 0], STRETCH)
    return torch.from_numpy(((image - low) / (high - low)).clip(0, 1)).float()


def divide(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Divide by scene: of every eight, ordered by their share of cloud, three test.

    Args:
        pairs: All of them.

    Returns:
        Those to learn from and those to test on.
    """
    cloudy: dict[str, list[float]] = {}
    for pair in pairs:
        cloudy.setdefault(pair.scene, []).append(pair.mask.float().mean().item())
    order = sorted(cloudy, key=lambda scene: (statistics.mean(cloudy[scene]), scene))
    tested = {scene for i, scene in enumerate(order) if i % 8 in (1, 4, 6)}
    train = [pair for pair in pairs if pair.scene not in tested]
    return train, [pair for pair in pairs if pair.scene in tested]


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


def prepare(pairs: Iterable[Pair], weights: Path, cache: Path) -> list[Lesson]:
    """Ask the teacher about every image.

    The maps of each channel are brought to mean 0 and standard deviation 1: a few
    channels of DINOv2 are many times as large as the others, and blocks differ.

    Args:
        pairs: Training images.
        weights: Weights of the teacher.
        cache: Folder that keeps its maps.
    """
    teacher = CachedTeacher(Teacher(TEACHER, weights, BLOCKS, patch_size=CELL), cache)
    cut = [_whole_cells(pair) for pair in pairs]
    maps = [teacher(_normal(pair.image)[None]) for pair in cut]
    levels = [_standard(level) for level in zip(*maps, strict=True)]
    return [
        Lesson(*pair, list(level))
        for pair, level in zip(cut, zip(*levels, strict=True), strict=True)
    ]


def _whole_cells(pair: Pair) -> Pair:
    # Turned and flipped, an image of whole cells has cells at the same places.
    height, width = (side // CELL * CELL for side in pair.mask.shape)
    return Pair(pair.scene, pair.image[:, :height, :width], pair.mask[:height, :width])


def _standard(maps: Sequence[Tensor]) -> list[Tensor]:
    cells = torch.cat([one[0].flatten(1) for one in maps], dim=1)
    mean, std = (value[:, None, None] for value in (cells.mean(1), cells.std(1)))
    return [((one[0] - mean) / std).half() for one in maps]


def _normal(image: Tensor) -> Tensor:
    return (image - MEAN) / STD


def measure(
    arm: Arm, seed: int, lessons: Sequence[Lesson], test: Sequence[Pair], weights: Path
) -> Result:
    """Train a student and test it.

    Args:
        arm: How.
        seed: Of weights, patches and labelled images.
        lessons: Training images.
        test: Test images.
        weights: Weights of the backbone.
    """
    start = time.process_time()
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    transfer = arm.arm in ('transfer', 'both')
    schedule = SCHEDULES[arm.init, transfer]
    model = student(
        weights if arm.init == 'pretrained' else None,
        modulation=arm.arm in ('modulation', 'both'),
    )
    labelled = [x for x in lessons if (x.mask != IGNORED).any()]
    chosen = few([x.scene for x in labelled], arm.chips, seed)
    if schedule.lessons:
        learn_from_teacher(model, lessons, schedule, random)
    learn_from_labels(model, [labelled[i] for i in chosen], schedule, random)
    confusion = evaluate(model, test)
    seconds = time.process_time() - start
    table = scores(confusion, CLASSES)
    return Result(
        **asdict(arm),
        seed=seed,
        miou=table['miou'],
        iou_cloud=table['iou_cloud'],
        f1=table['f1'],
        seconds=seconds,
        confusion=' '.join(map(str, confusion.ravel())),
    )


def student(weights: Path | None, modulation: bool) -> KTDA:
    """Build the network.

    Args:
        weights: Weights of the backbone; None for random ones.
        modulation: Whether it has blocks of feature modulation.
    """
    model = KTDA(
        3,
        len(CLASSES),
        backbone=BACKBONE,
        backbone_weights=None if weights is None else str(weights),
        dim=384,
        patch_size=CELL,
        align='student',
        decoder_channels=32,
        modulation=MODULATION if modulation else 'none',
        head_channels=32,
        auxiliary=False,
    )
    # Convolutions on a CPU like it.
    return model.to(memory_format=torch.channels_last)


def learn_from_teacher(
    model: KTDA,
    lessons: Sequence[Lesson],
    schedule: Schedule,
    random: np.random.Generator,
) -> None:
    """Bring the aligned maps of the student near those of the teacher.

    Args:
        model: Student, changed in place.
        lessons: All training images, whose masks are not looked at.
        schedule: How long and how fast.
        random: Draws the patches.
    """

    def loss(done: float) -> Tensor:
        batch = draw(lessons, random)
        return distance(model.aligned(batch.image), batch.maps)

    minimize(loss, model, schedule, schedule.lessons)


def learn_from_labels(
    model: KTDA,
    lessons: Sequence[Lesson],
    schedule: Schedule,
    random: np.random.Generator,
) -> None:
    """Train on masks, and on the maps of the teacher if they have a weight.

    Args:
        model: Student, changed in place.
        lessons: The labelled training images.
        schedule: How long and how fast.
        random: Draws the patches.
    """

    def loss(done: float) -> Tensor:
        batch = draw(lessons, random)
        output = model.forward_train(batch.image)
        labels = masked_cross_entropy(output.logits, batch.mask)
        if not schedule.weight:
            return labels
        weight = schedule.weight * (1 - done)
        return labels + weight * distance(output.aligned, batch.maps)

    minimize(loss, model, schedule, schedule.steps)


def distance(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """Mean squared difference of maps.

    Args:
        students: Maps of the student, each of shape (B, C, H, W).
        teachers: As many of the teacher.
    """
    criterion = DistillationLoss(kl_weight=0.0, mse_weight=1.0)
    terms: DistillationTerms = criterion(students, teachers)
    return terms.total


def minimize(
    loss: Callable[[float], Tensor], model: KTDA, schedule: Schedule, steps: int
) -> None:
    """Train as :class:`eoseg.tasks.Distillation` does.

    Args:
        loss: Draws a batch and gives its loss, told which share of the steps is done.
        model: Network, changed in place.
        schedule: How fast.
        steps: How long.
    """
    optimizer = AdamW([*parameter_groups(model, schedule)], weight_decay=WEIGHT_DECAY)
    rising = max(round(WARMUP * steps), 1)
    falling = LambdaLR(
        optimizer, lambda step: min((step + 1) / rising, (1 - step / steps) ** 0.9)
    )
    model.train()
    for step in range(steps):
        optimizer.zero_grad()
        loss(step / steps).backward()  # type: ignore[no-untyped-call]  # torch
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        falling.step()


def parameter_groups(model: KTDA, schedule: Schedule) -> Iterator[dict[str, Any]]:
    """Parameters with their learning rates; biases and norms do not decay.

    Args:
        model: Network.
        schedule: How fast.

    Yields:
        Groups as optimisers of torch take them.
    """
    for name, parameter in model.named_parameters():
        share = schedule.backbone if name.startswith('backbone.') else 1.0
        group: dict[str, Any] = {'params': [parameter], 'lr': schedule.lr * share}
        yield group if parameter.ndim > 1 else group | {'weight_decay': 0.0}


def draw(lessons: Sequence[Lesson], random: np.random.Generator) -> Batch:
    """Draw a batch of patches, turned, flipped, brighter or darker.

    The teacher's maps are those of the image as it is: what the student learns from
    them does not depend on brightness.

    Args:
        lessons: Images to draw from.
        random: Draws.

    Returns:
        The batch.
    """
    repeated = len(lessons) < BATCH_SIZE
    chosen = random.choice(len(lessons), BATCH_SIZE, replace=repeated)
    patches = [_patch(lessons[i], random) for i in chosen]
    images, masks, maps = zip(*patches, strict=True)
    return Batch(
        _normal(_jittered(torch.stack(images), random)),
        torch.stack(masks),
        [torch.stack(level).float() for level in zip(*maps, strict=True)],
    )


def _patch(lesson: Lesson, random: np.random.Generator) -> Batch:
    height, width = lesson.maps[0].shape[-2:]
    row = int(random.integers(height - SIDE + 1))
    col = int(random.integers(width - SIDE + 1))
    turns, flipped = int(random.integers(4)), bool(random.integers(2))

    def cut(values: Tensor, cell: int) -> Tensor:
        side = SIDE * cell
        top, left = row * cell, col * cell
        patch = values[..., top : top + side, left : left + side].rot90(turns, (-2, -1))
        return patch.flip(-1) if flipped else patch

    return Batch(
        cut(lesson.image, CELL),
        cut(lesson.mask, CELL),
        [cut(level, 1) for level in lesson.maps],
    )


def _jittered(images: Tensor, random: np.random.Generator) -> Tensor:
    def normal(channels: int) -> Tensor:
        values = random.normal(scale=JITTER, size=(len(images), channels, 1, 1))
        return torch.from_numpy(values.astype(np.float32))

    gain = torch.exp(normal(1) + 0.3 * normal(3))
    return (images * gain + 0.3 * normal(1)).clamp(0, 1.2)


@torch.no_grad()
def evaluate(model: nn.Module, test: Sequence[Pair]) -> NDArray[np.int64]:
    """One confusion matrix over all test images, each mapped as a whole.

    Args:
        model: Network.
        test: Images and masks.
    """
    model.eval()
    total = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for pair in test:
        prediction = model(_normal(pair.image)[None]).argmax(1)[0].numpy()
        total += confusion_matrix(pair.mask.numpy(), prediction, len(CLASSES))
    return total


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write a line per run.

    Args:
        path: File, replaced if there is one.
        results: All runs so far.
    """
    with path.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Result)])
        writer.writerows(astuple(result) for result in results)


def markdown(results: Sequence[Result]) -> str:
    """Table of means and standard deviations over the seeds, in percent.

    Args:
        results: All runs.
    """
    lines = [
        '| init | labelled images | arm | mIoU | IoU of cloud | F1 | runs | s |',
        '|---|---|---|---|---|---|---|---|',
    ]
    arms = dict.fromkeys((r.init, r.chips, r.arm) for r in results)
    for init, chips, arm in arms:
        runs = [r for r in results if (r.init, r.chips, r.arm) == (init, chips, arm)]
        cells = [
            init,
            str(chips or 'all'),
            arm,
            _spread([r.miou for r in runs]),
            _spread([r.iou_cloud for r in runs]),
            _spread([r.f1 for r in runs]),
            str(len(runs)),
            f'{statistics.mean(r.seconds for r in runs):.0f}',
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _spread(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f'{100 * statistics.mean(values):.1f} ± {100 * deviation:.1f}'


if __name__ == '__main__':
    main()
