"""What an optical teacher adds to a radar student on one flood, with water drawn by hand.

    python -m benchmarks.floods DATA --weights DIR [--out OUT] [--arms ARM ...]

DATA has Spain_7370579_S1Hand_west.tif (VV and VH of Sentinel-1 in decibel), …_S2Hand_…
(13 bands of Sentinel-2) and …_LabelHand_… (1 water, 0 land, -1 unknown), a sample of
Sen1Floods11. DIR has tf_efficientnet_lite0.safetensors, for --init pretrained.

The image is cut into a northern and a southern part with a gap between them. Each network
is trained on one and tested on the other, and the reverse, for the same number of steps
with the same schedule, from the same weights. The arms are

* ``ridge-sar``, ``ridge-optical``: a linear classifier of single pixels, for orientation
* ``optical``: the network on the 13 optical bands, the teacher of those below
* ``sar``: the network on VV and VH alone
* ``distilled``: as ``sar``, and taught with the defaults
* others, one change each to ``distilled``: see VARIANTS
* ``pairs``: as ``both``, and half of the patches are pairs of the part that is tested on,
  without labels: what the teacher sees there

Scores are of water, from one confusion matrix over the test part; mean and standard
deviation over the seeds, which draw patches, flips and the new layers. The gain is that
over ``sar`` with the same seed. OUT keeps teachers and the scores of each training: a run
that was stopped goes on there.

    python -m benchmarks.floods DATA --weights DIR --folds inner

cuts each part once more, into west and east, and tests there: settings are chosen by it,
so that nothing is chosen by what is reported.

    python -m benchmarks.floods DATA --folder FOLDER

only writes the three files as a folder for `eoseg fit FOLDER --recipe flood-hfd-small`.
"""

import argparse
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import torch
from lightning.pytorch import Trainer, seed_everything
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rasterio.windows import Window

from eoseg.datamodules import RadarOpticalDataModule
from eoseg.datamodules.scenes import Part, Use
from eoseg.metrics import confusion_matrix, scores
from eoseg.tasks import CrossModalDistillation
from eoseg.tasks.base import Task
from eoseg_datasets.scene import ScenePatch

from .tables import markdown, read_rows, spread, write_rows

SAR = {'VV': 'dB', 'VH': 'dB'}
OPTICAL = (
    'B1', 'B2', 'B3', 'B4', 'B5', 'B6', 'B7', 'B8', 'B8A', 'B9', 'B10', 'B11', 'B12',
)  # fmt: skip
CLASSES = ('land', 'water')
BACKBONE = 'tf_efficientnet_lite0'

#: Parts that are trained on and tested on: those of the table, and those within a part.
FOLDS = {
    'outer': ('north>south', 'south>north'),
    'inner': (
        'north west>north east', 'north east>north west',
        'south west>south east', 'south east>south west',
    ),
}  # fmt: skip

#: Arms whose maps are drawn, and their titles.
PICTURED = {
    'optical': 'teacher, sees optical',
    'sar': 'student, sees radar',
    'distilled': 'student, taught',
}

#: How maps are drawn: land and water.
_WATER: dict[str, Any] = {
    'cmap': ListedColormap(['#c8b98f', '#1f6fb4']), 'vmin': 0, 'vmax': 1,
}  # fmt: skip

#: Value of masks where there is no label.
IGNORED = 255

#: Rows that neither part has: 640 m, so that no patch shows pixels of both.
GAP = 64

#: Columns that neither half of a part has.
INNER_GAP = 16

#: Side in pixels of the blocks that labels are kept or left out in.
BLOCK = 32

#: Arguments of the distillation by arm.
VARIANTS: dict[str, dict[str, Any]] = {
    'distilled': {},
    'weight-0.1': {'weight': 0.1},
    'weight-10': {'weight': 10.0},
    'aggregated': {'levels': ['z']},
    'backbone': {'levels': ['f1', 'f2', 'f3', 'f4']},
    'deep': {'levels': ['f3', 'f4', 'z']},
    'no-projector': {'projector': False},
    'mse': {'distance': 'mse'},
    'cwd': {'distance': 'cwd'},
    'attention': {'distance': 'attention'},
    'classes': {'weight': 0.0, 'logits': 1.0},
    'both': {'logits': 1.0},
    'aggregated-classes': {'levels': ['z'], 'logits': 1.0},
    'tolerant': {'tolerance': 4},
    'pairs': {'logits': 1.0},
}


class Fold(NamedTuple):
    """Where to train and where to test."""

    name: str
    train: Window
    test: Window


class FloodData(RadarOpticalDataModule):
    """One part of the scene to train on, the other to test on."""

    def __init__(
        self, root: Path, fold: Fold, pairs: bool = False, **kwargs: Any
    ) -> None:
        """Initialize a new FloodData instance.

        Args:
            root: What :func:`write_folder` has written.
            fold: Which rows are for what.
            pairs: Whether the part to test on is trained on, too, without its labels.
            **kwargs: More arguments of the data module.
        """
        super().__init__(root, SAR, OPTICAL, class_names=CLASSES, **kwargs)  # type: ignore[arg-type]
        self.fold = fold
        self.pairs = pairs

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """The two parts."""
        dataset, fold = self.all_scenes, self.fold
        uses: dict[Use, Window] = {
            'train': fold.train, 'val': fold.test, 'test': fold.test
        }  # fmt: skip
        parts = {
            use: Part(dataset, (ScenePatch(0, window),)) for use, window in uses.items()
        }
        if self.pairs:
            # The second scene is the first one without labels.
            regions = (*parts['train'].regions, ScenePatch(1, fold.test))
            parts['train'] = Part(dataset, regions)
        return parts


def main() -> None:
    """Train, test and print the table."""
    options = _parser().parse_args()
    if options.folder is not None:
        write_folder(options.data, options.folder)
        return
    warnings.filterwarnings('ignore', message='.*does not have many workers')
    warnings.filterwarnings('ignore', message='.*LeafSpec')
    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_folder(options.data, root / 'all')
        write_folder(options.data, root / 'some', options.labels)
        out = options.out or root
        out.mkdir(parents=True, exist_ok=True)
        rows = read_rows(out / 'scores.csv', Row)
        for row in run(root, out, options, {row[:3] for row in rows}):
            rows.append(row)
            write_rows(out / 'scores.csv', rows)
            print(
                f'{row.fold} {row.arm} seed {row.seed}: IoU {row.iou:.3f}', flush=True
            )
        if options.picture is not None:
            for fold in _folds(root / 'all', FOLDS[options.folds])[-1:]:
                compared(root / 'all', fold, out).savefig(options.picture, dpi=80)
    for name in dict.fromkeys(row.fold for row in rows):
        print(f'\n{name}\n\n{table([row for row in rows if row.fold == name])}')


class Row(NamedTuple):
    """Scores of one training."""

    fold: str
    arm: str
    seed: int
    iou: float
    f1: float


def run(
    root: Path,
    out: Path,
    options: argparse.Namespace,
    done: Collection[tuple[object, ...]],
) -> Iterator[Row]:
    """Train and test all arms with all seeds on each division of the scene.

    Args:
        root: What :func:`write_folder` has written.
        out: Folder of the teachers.
        options: What was asked for.
        done: Fold, arm and seed of what need not be done again.

    Yields:
        Scores, as soon as they are there.
    """
    folds = _folds(root / 'all', FOLDS[options.folds])
    linear = {'ridge-sar': [*SAR], 'ridge-optical': [*OPTICAL]}
    for fold, (arm, bands) in product(folds, linear.items()):
        if arm in options.arms and (fold.name, arm, 0) not in done:
            known = ridge(root / 'some', root / 'all', fold, bands)
            yield Row(fold.name, arm, 0, *known)
    trained = _in_order(options.arms)
    for seed, fold, arm in product(range(options.seeds), folds, trained):
        if (fold.name, arm, seed) not in done:
            teacher = out / f'{_file_name(fold)} {seed}.ckpt'
            task = _task(root, fold, arm, seed, teacher, options)
            train(task, root, fold, arm, seed, options)
            if arm == 'optical':
                task.trainer.save_checkpoint(teacher, weights_only=True)
            truth, answer = mapped(task, FloodData(root / 'all', fold))
            np.save(out / f'{_file_name(fold)} {arm} {seed}.npy', answer)
            yield Row(fold.name, arm, seed, *_scores(truth, answer))


def train(
    task: Task,
    root: Path,
    fold: Fold,
    arm: str,
    seed: int,
    options: argparse.Namespace,
) -> None:
    """Train a network on one part.

    Args:
        task: What is trained.
        root: What :func:`write_folder` has written.
        fold: The division.
        arm: What is trained.
        seed: Draws patches and flips.
        options: What was asked for.
    """
    data = _data(root, fold, seed, options, arm)
    seed_everything(seed, verbose=False)
    settings: dict[str, Any] = {
        'accelerator': 'cpu', 'max_steps': options.steps, 'logger': False,
        'enable_checkpointing': False, 'enable_progress_bar': False,
        'enable_model_summary': False, 'limit_val_batches': 0,
        'gradient_clip_val': 5.0,
    }  # fmt: skip
    Trainer(**settings).fit(task, datamodule=data)


@torch.no_grad()
def mapped(task: Task, data: FloodData) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels and map of the test part, seen as one image.

    Args:
        task: With a trained network.
        data: Where the test part is.
    """
    part = data.parts['test']
    sample = part.dataset[part.regions[0]]
    batch = {key: sample[key][None] for key in ('image', 'mask', 'valid')}
    answer = task.eval().model(task.network_input(batch)).argmax(dim=1)
    return sample['mask'].numpy(), answer[0].numpy()


def ridge(
    some: Path, every: Path, fold: Fold, bands: Sequence[str]
) -> tuple[float, float]:
    """IoU and F1 of water by a linear classifier of pixels.

    Its threshold is the one that has the best IoU on the training part.

    Args:
        some: What :func:`write_folder` has written, to train on.
        every: The same with all labels, to test on.
        fold: The division.
        bands: What it looks at.
    """

    def pixels(use: Use, root: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        part = FloodData(root, fold, bands=bands).parts[use]
        sample = part.dataset[part.regions[0]]
        known = (sample['mask'] != IGNORED).numpy()
        return (
            sample['image'].numpy()[:, known].T.astype(np.float64),
            sample['mask'].numpy()[known] == 1,
        )

    (train, truth), (test, test_truth) = pixels('train', some), pixels('test', every)
    mean, std = train.mean(axis=0), train.std(axis=0)

    def features(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([(values - mean) / std, np.ones(len(values))])

    known = features(train)
    gram = known.T @ known + 1e-2 * np.eye(known.shape[1])
    weights = np.linalg.solve(gram, known.T @ (2.0 * truth - 1))
    thresholds = np.linspace(-1, 1, 41)
    seen = known @ weights
    best = max(thresholds, key=lambda t: _scores(truth, seen > t)[0])
    return _scores(test_truth, features(test) @ weights > best)


def table(rows: Sequence[Row]) -> str:
    """Mean and standard deviation over the seeds by arm, in percent.

    Args:
        rows: Scores of all trainings on one division.
    """
    alone = {row.seed: row.iou for row in rows if row.arm == 'sar'}
    lines = []
    for arm in dict.fromkeys(row.arm for row in rows):
        here = [row for row in rows if row.arm == arm]
        taught = arm in VARIANTS
        gains = [row.iou - alone[row.seed] for row in here if row.seed in alone]
        lines.append(
            [
                f'`{arm}`',
                spread([row.iou for row in here]),
                spread([row.f1 for row in here]),
                spread(gains, '+') if taught and gains else '',
            ]
        )
    return markdown(('arm', 'IoU of water', 'F1', 'gain of IoU'), lines)


def compared(root: Path, fold: Fold, out: Path) -> Figure:
    """What the sensors see of the test part, what was drawn there, and maps of it.

    Args:
        root: What :func:`write_folder` has written.
        fold: The division.
        out: Maps of all arms.
    """
    part = FloodData(root, fold).parts['test']
    sample = part.dataset[part.regions[0]]
    image, mask = sample['image'].numpy(), sample['mask'].numpy()
    bands = [*SAR, *OPTICAL]
    optical = np.stack([image[bands.index(band)] for band in ('B12', 'B8', 'B4')], -1)
    panels = {
        'radar, VV': (image[0], {'cmap': 'gray', 'vmin': -22, 'vmax': -3}),
        'optical, B12 B8 B4': ((optical / 4000).clip(0, 1), {}),
        'drawn by hand': (np.ma.masked_equal(mask, IGNORED), _WATER),
    }
    for arm, title in PICTURED.items():
        answer = np.load(out / f'{_file_name(fold)} {arm} 0.npy')
        iou, _ = _scores(mask, answer)
        panels[f'{title}: {100 * iou:.0f} %'] = answer, _WATER
    figure = Figure(figsize=(12, 7.4), layout='constrained')
    for axes, (title, (values, how)) in zip(
        figure.subplots(2, 3).flat, panels.items(), strict=True
    ):
        axes.imshow(values, interpolation='nearest', **how)
        axes.set_title(title)
        axes.set_axis_off()
    return figure


def write_folder(data: Path, folder: Path, labels: float | None = None) -> None:
    """Write the sample as a folder that `eoseg fit` takes.

    Args:
        data: Folder of the three files.
        folder: Gets ``images``, ``optical``, ``labels`` and ``classes.csv``.
        labels: Share of square blocks whose labels are kept. With it, there is a second
            scene, the same without labels.
    """
    for kind, place in (('S1', 'images'), ('S2', 'optical'), ('Label', 'labels')):
        target = folder / place / 'spain.tif'
        target.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(data / f'Spain_7370579_{kind}Hand_west.tif') as source:
            values, profile = source.read(), source.profile
        if kind == 'Label':
            values = np.where(values < 0, IGNORED, values).astype(np.uint8)
            profile |= {'dtype': 'uint8', 'nodata': None}
            if labels is not None:
                values[:, ~_kept(values.shape[1:], labels)] = IGNORED
        with rasterio.open(target, 'w', **profile) as out:
            out.write(values)
        if labels is not None and kind != 'Label':
            shutil.copy(target, target.with_stem('spain_again'))
    (folder / 'classes.csv').write_text(
        'value,name,color\n0,land,#c8b98f\n1,water,#1f6fb4\n'
    )


def _kept(shape: tuple[int, int], share: float) -> NDArray[np.bool_]:
    """Blocks whose labels are kept, the same every time."""
    rows, cols = -(-shape[0] // BLOCK), -(-shape[1] // BLOCK)
    chosen = np.random.default_rng(0).random((rows, cols)) < share
    return np.kron(chosen, np.ones((BLOCK, BLOCK), bool))[: shape[0], : shape[1]]


def _task(
    root: Path,
    fold: Fold,
    arm: str,
    seed: int,
    teacher: Path,
    options: argparse.Namespace,
) -> CrossModalDistillation:
    seed_everything(seed, verbose=False)
    weights = options.weights / f'{BACKBONE}.safetensors'
    pretrained = {'backbone': BACKBONE, 'backbone_weights': str(weights)}
    backbone = pretrained if options.init == 'pretrained' else {'backbone': 'resnet10t'}
    taught = arm not in ('optical', 'sar')
    if taught and not teacher.is_file():
        raise SystemExit(f'{arm} needs a teacher; name optical in --arms, too')
    return CrossModalDistillation(
        _data(root, fold, seed, options, arm).inputs,
        stage='teacher' if arm == 'optical' else 'student',
        network={'channels': options.channels, 'detail': options.detail, **backbone},
        teacher=str(teacher) if taught else None,
        distillation=VARIANTS[arm] if taught else None,
        radar={'looks': options.looks} if options.looks else None,
        dice=options.dice,
        lr=options.lr,
    )


def _data(
    root: Path, fold: Fold, seed: int, options: argparse.Namespace, arm: str
) -> FloodData:
    return FloodData(
        root / 'some',
        fold,
        arm == 'pairs',
        batch_size=options.batch,
        patch_size=options.patch,
        length=options.steps * options.batch,
        seed=seed,
    )


def _folds(root: Path, names: Sequence[str]) -> list[Fold]:
    with rasterio.open(root / 'images' / 'spain.tif') as source:
        height, width = source.shape
    rows = _halves(height, GAP, ('north', 'south'))
    cols = _halves(width, INNER_GAP, ('west', 'east')) | {'': (0, width)}

    def window(name: str) -> Window:
        part, _, half = name.partition(' ')
        return Window.from_slices(rows[part], cols[half])

    pairs = [(name, *name.split('>')) for name in names]
    return [Fold(name, window(train), window(test)) for name, train, test in pairs]


def _halves(
    length: int, gap: int, names: tuple[str, str]
) -> dict[str, tuple[int, int]]:
    middle = length // 2
    first, second = names
    return {first: (0, middle - gap // 2), second: (middle + gap // 2, length)}


def _in_order(arms: Sequence[str]) -> list[str]:
    """Arms that are trained, the teacher first."""
    trained = [arm for arm in arms if not arm.startswith('ridge')]
    return sorted(trained, key=lambda arm: arm != 'optical')


def _scores(truth: NDArray[Any], answer: NDArray[Any]) -> tuple[float, float]:
    """IoU and F1 of water."""
    confusion = confusion_matrix(
        truth.astype(np.int64), answer.astype(np.int64), len(CLASSES), IGNORED
    )
    iou = scores(confusion, CLASSES)['iou_water']
    return iou, 2 * iou / (1 + iou)


def _file_name(fold: Fold) -> str:
    return fold.name.replace('>', '-')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('python -m benchmarks.floods', description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add: Callable[..., Any] = parser.add_argument
    add('data', type=Path, metavar='DATA')
    add('--weights', type=Path, default=Path('.'), metavar='DIR')
    arms = ['ridge-sar', 'ridge-optical', 'optical', 'sar', 'distilled']
    every = [*arms[:-1], *VARIANTS]
    add('--arms', nargs='+', choices=every, default=arms, metavar='ARM')
    add('--labels', type=float, default=1.0, help='share of blocks with labels')
    add('--init', choices=('pretrained', 'scratch'), default='pretrained')
    add('--folds', choices=[*FOLDS], default='outer', help='of the table, or to choose')
    add('--seeds', type=int, default=3)
    add('--steps', type=int, default=100)
    add('--lr', type=float, default=1e-3)
    add('--dice', type=float, default=1.0, help='weight of the Dice loss')
    add('--batch', type=int, default=16, help='patches of a batch')
    add('--patch', type=int, default=64, help='side of a patch in pixels')
    add('--channels', type=int, default=32, help='of the maps after the backbone')
    add('--detail', type=int, default=16, help='channels of the path for detail')
    add('--looks', type=float, default=0.0, help='of speckle added in training')
    add('--out', type=Path, metavar='OUT', help='folder of scores and teachers')
    add('--picture', type=Path, metavar='FILE', help='draw maps of the last division')
    add('--folder', type=Path, metavar='FOLDER', help='write it and end')
    return parser


if __name__ == '__main__':
    main()
