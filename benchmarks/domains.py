"""What adaptation adds where labels are of another satellite: clouds and their shadows.

    python -m benchmarks.domains DATA --weights DIR [--out domains.csv]

DATA has landsat5.npz and sentinel2.npz: ``img`` of shape (512, 512, 6), reflectances of
blue, green, red, near infrared and two short-wave infrared bands at 30 m, and ``msk`` (0
shadow of a cloud, 4 cloud, anything else clear). DIR has
tf_efficientnet_lite0.safetensors.

One image is the source, the other one the target; ``--shifts`` has the reverse. All labels of the
source are trained on. The target is cut into two halves with a gap between them: the
northern one may be seen without its labels, the southern one is tested on. Every arm has
the same network, the same steps and patches of the same size:

* ``source``: trained on labels of the source alone, and tested as it is
* ``statistics``: the same weights; bands are standardized by the statistics of the target,
  and those of the batch norms are taken anew there
* ``published``: ST-DASegNet with thresholds and weights of the paper
* ``adapted``: the same with those of :data:`FEW_STEPS`
* ``adversarial``, ``self-training``: that, without teachers or without
  discriminators
* ``target path``: the same weights, of which only the path of the target answers
* ``oracle``: trained on the labels of the northern half of the target

Scores are of one confusion matrix of the southern half; mean and standard deviation over
the seeds, which draw patches, flips and the new layers. What an arm closes is its gain over
``source``, as a share of that of ``oracle``. A line of the CSV is one arm of one seed;
trainings that the file has are not made again.

    python -m benchmarks.domains DATA --folders OUT

only writes both images as folders for ``eoseg fit --recipe clouds-stda-small``.
"""

import argparse
import logging
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import torch
from affine import Affine
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from rasterio.windows import Window
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from eoseg.datamodules import DomainPairDataModule, SceneFolderDataModule
from eoseg.datamodules.scenes import Part, Use
from eoseg.inputs import Inputs
from eoseg.metrics import confusion_matrix, scores
from eoseg.tasks import DomainAdaptation, Segmentation
from eoseg.tasks.base import Task
from eoseg.tasks.domain_adaptation import DOMAINS
from eoseg.transforms import standardizer
from eoseg_datasets.scene import ScenePatch

from .tables import markdown, read_rows, spread, write_rows

BANDS = ('B', 'G', 'R', 'NIR', 'SWIR1', 'SWIR2')
CLASSES = ('clear', 'shadow', 'cloud')
BACKBONE = 'tf_efficientnet_lite0'

#: Where the images are put: pixels of 30 m in UTM.
PLACE, GRID = 'EPSG:32632', Affine(30, 0, 500_000, 0, -30, 5_000_000)

#: Class of each value of ``msk``.
MEANING = np.array([1, 0, 0, 0, 2], np.uint8)

#: Source and target.
SHIFTS = ('landsat5>sentinel2', 'sentinel2>landsat5')

#: Rows between the halves, so that no patch shows pixels of both.
GAP = 32

#: Batches of the target that statistics of norms are taken from.
NORM_BATCHES = 25

#: Settings of few steps, in which hardly a pixel reaches the threshold of the paper.
FEW_STEPS = {'threshold': 0.8, 'self_training': 1.0}

#: Settings of the adaptations.
ADAPTATIONS: dict[str, dict[str, float]] = {
    'published': {},
    'adapted': FEW_STEPS,
    'adversarial': FEW_STEPS | {'self_training': 0.0},
    'self-training': FEW_STEPS | {'adversarial': 0.0},
}

#: What is trained, in the order of the table, and the arms that come from it.
TRAININGS: dict[str, tuple[str, ...]] = {
    'source': ('source', 'statistics'),
    'published': ('published',),
    'adversarial': ('adversarial',),
    'self-training': ('self-training',),
    'adapted': ('adapted', 'target path'),
    'oracle': ('oracle',),
}


class Row(NamedTuple):
    """One arm of one seed."""

    shift: str
    arm: str
    seed: int
    miou: float
    clear: float
    shadow: float
    cloud: float
    #: Of the last step of an adaptation, without a look at labels of the target.
    confident: float
    entropy: float
    agreement: float
    accuracy: float
    #: Processor time of the training.
    seconds: float


class OneScene(SceneFolderDataModule):
    """A scene to train on, or its northern half, and the southern one to test on."""

    def __init__(self, root: Path, halved: bool, **kwargs: Any) -> None:
        """Initialize a new OneScene instance.

        Args:
            root: Folder of the scene, see :func:`write_folders`.
            halved: Whether the southern half is not trained on.
            **kwargs: More arguments of the data module.
        """
        super().__init__(root, **kwargs)
        self.halved = halved

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """What is trained and what is tested on."""
        dataset = self.all_scenes
        height, width = dataset.scenes[0].grid.height, dataset.scenes[0].grid.width
        rows = (height - GAP) // 2
        south = Window(0, height - rows, width, rows)
        windows: dict[Use, Window] = {
            'train': Window(0, 0, width, rows if self.halved else height),
            'val': south,
            'test': south,
        }
        return {
            use: Part(dataset, (ScenePatch(0, window),))
            for use, window in windows.items()
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, test and print the table.

    Args:
        arguments: Words of the command line.
    """
    options = _parser().parse_args(arguments)
    if options.folders is not None:
        write_folders(options.data, options.folders)
        return
    warnings.filterwarnings('ignore', message='.*does not have many workers')
    warnings.filterwarnings('ignore', message='.*LeafSpec')
    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    torch.set_num_threads(1)
    rows = read_rows(options.out, Row)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_folders(options.data, root)
        for seed, shift, what in product(
            options.seeds, options.shifts, options.trainings
        ):
            done = {(row.shift, row.arm, row.seed) for row in rows}
            if (shift, what, seed) in done:
                continue
            for row in measure(shift, what, seed, root, options):
                rows.append(row)
                write_rows(options.out, rows)
                print(*row[:3], f'mIoU {100 * row.miou:.1f}', flush=True)
    print(table([row for row in rows if row.shift in options.shifts]))


def measure(
    shift: str, what: str, seed: int, root: Path, options: argparse.Namespace
) -> Iterator[Row]:
    """Train one network and test what comes from it.

    Args:
        shift: Source and target.
        what: One of :data:`TRAININGS`.
        seed: Draws patches, flips and the new layers.
        root: What :func:`write_folders` has written.
        options: What was asked for.

    Yields:
        A row for each of its arms.
    """
    drawn: dict[str, Any] = {
        'batch_size': options.batch,
        'patch_size': options.patch,
        'length': options.steps * options.batch,
        'seed': seed,
    }
    names = shift.split('>')
    source = OneScene(root / names[0], halved=False, **drawn)
    target = OneScene(root / names[1], halved=True, **drawn)
    seed_everything(seed, verbose=False)
    started = time.process_time()
    if what in ADAPTATIONS:
        pair = DomainPairDataModule(source, target)
        task = trained(_adaptation(pair.inputs, what, options), pair)
    else:
        alone = target if what == 'oracle' else source
        task = trained(_supervised(alone.inputs, options), alone)
    seconds = time.process_time() - started
    for arm in TRAININGS[what]:
        if arm == 'statistics':
            take_statistics(task, target)
        if arm == 'target path':
            task.model.target_alone()
        said = evaluate(task, target)
        yield Row(
            shift,
            arm,
            seed,
            miou=said['miou'],
            **{name: said[f'iou_{name}'] for name in CLASSES},
            **_proxies(task),
            seconds=seconds,
        )


def _proxies(task: Task) -> dict[str, float]:
    """Terms of the last step; NaN where there are none."""
    told = task.trainer.callback_metrics
    terms = {
        name: float(told.get(f'train/{name}', math.nan))
        for name in ('confident', 'entropy', 'agreement')
    }
    right = [float(told.get(f'train/accuracy_{d}', math.nan)) for d in DOMAINS]
    return terms | {'accuracy': statistics.mean(right)}


def _adaptation(
    inputs: Inputs, what: str, options: argparse.Namespace
) -> DomainAdaptation:
    return DomainAdaptation(
        inputs,
        _network(options),
        settings=ADAPTATIONS[what],
        lr=options.lr,
        discriminator_lr=options.discriminator_lr,
        warmup=0.1,
    )


def _supervised(inputs: Inputs, options: argparse.Namespace) -> Segmentation:
    return Segmentation(
        inputs, 'STDASegNet', _network(options), lr=options.lr, warmup=0.1
    )


def _network(options: argparse.Namespace) -> dict[str, Any]:
    weights = options.weights / f'{BACKBONE}.safetensors'
    return {
        'backbone': BACKBONE,
        'backbone_weights': str(weights),
        'head_channels': 64,
    }


def trained(task: Task, data: LightningDataModule) -> Task:
    """Train for one epoch, which has all steps.

    Args:
        task: With a network, which is changed in place.
        data: What it learns from.

    Returns:
        The task.
    """
    trainer = Trainer(
        accelerator='cpu',
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, datamodule=data)
    return task


@torch.no_grad()
def take_statistics(task: Task, data: OneScene) -> None:
    """Standardize by the target's bands, and take statistics of the norms there.

    Args:
        task: Trained on the source, changed in place.
        data: The target, whose labels are not looked at.
    """
    inputs = data.inputs
    task.standardize = standardizer(inputs.mean, inputs.std, inputs.radar)
    task.eval()
    for module in _norms(task.model):
        module.reset_running_stats()
        # A plain mean over batches.
        module.momentum = None
        module.train()
    data.learn_from(data.unlabelled, data.seed)
    for batch in islice(data.train_dataloader(), NORM_BATCHES):
        task.model(task.network_input(batch))


def _norms(network: nn.Module) -> Iterator[_BatchNorm]:
    return (module for module in network.modules() if isinstance(module, _BatchNorm))


@torch.no_grad()
def evaluate(task: Task, data: OneScene) -> dict[str, float]:
    """Scores of the southern half, seen as one image.

    Args:
        task: With a trained network.
        data: The target.
    """
    part = data.parts['test']
    sample = part.dataset[part.regions[0]]
    batch = {key: sample[key][None] for key in ('image', 'mask', 'valid')}
    answer = task.eval().model(task.network_input(batch)).argmax(dim=1)
    counts = confusion_matrix(batch['mask'].numpy(), answer.numpy(), len(CLASSES))
    return scores(counts, CLASSES)


def table(rows: Sequence[Row]) -> str:
    """Means and standard deviations over the seeds, in percent.

    Args:
        rows: Of all arms.
    """
    lines = []
    for shift in dict.fromkeys(row.shift for row in rows):
        here = [row for row in rows if row.shift == shift]
        means = {
            arm: statistics.mean(row.miou for row in here if row.arm == arm)
            for arm in (arm for arms in TRAININGS.values() for arm in arms)
            if any(row.arm == arm for row in here)
        }
        for arm, mean in means.items():
            its = [row for row in here if row.arm == arm]
            closed = ''
            if {'source', 'oracle'} <= means.keys() and arm not in ('source', 'oracle'):
                gap = means['oracle'] - means['source']
                closed = f'{(mean - means["source"]) / gap:.0%}'
            lines.append(
                [
                    shift.replace('>', ' → '),
                    arm,
                    *(spread([getattr(row, name) for row in its])
                      for name in ('miou', *CLASSES)),
                    closed,
                    len(its),
                    f'{statistics.median(row.seconds for row in its):.0f}',
                ]
            )  # fmt: skip
    header = ('shift', 'arm', 'mIoU', *CLASSES, 'closes', 'seeds', 'CPU s')
    return markdown(header, lines)


def write_folders(data: Path, root: Path) -> None:
    """Write both images as folders that ``eoseg fit`` takes.

    Where they were taken is not known. They are put somewhere, as ``eoseg predict`` maps
    nothing that lies nowhere.

    Args:
        data: Folder of the two files.
        root: Gets a folder for each, with ``images``, ``labels`` and ``classes.csv``.
    """
    for name in ('landsat5', 'sentinel2'):
        folder = root / name
        with np.load(data / f'{name}.npz') as file:
            layers = {
                'images': file['img'].transpose(2, 0, 1),
                'labels': MEANING[file['msk'].reshape(1, *file['img'].shape[:2])],
            }
        for place, values in layers.items():
            path = folder / place / f'{name}.tif'
            path.parent.mkdir(parents=True, exist_ok=True)
            count, height, width = values.shape
            with rasterio.open(
                path, 'w', driver='GTiff', dtype=values.dtype, count=count,
                height=height, width=width, crs=PLACE, transform=GRID,
            ) as out:  # fmt: skip
                out.write(values)
                if place == 'images':
                    out.descriptions = BANDS
        (folder / 'classes.csv').write_text(
            'value,name,color\n0,clear,#9c8f6a\n1,shadow,#3b4a78\n2,cloud,#f2f2f2\n'
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'python -m benchmarks.domains',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('data', type=Path, metavar='DATA')
    parser.add_argument('--weights', type=Path, default=Path(), metavar='DIR')
    parser.add_argument('--out', type=Path, default=Path('domains.csv'), metavar='CSV')
    parser.add_argument(
        '--trainings',
        nargs='+',
        choices=TRAININGS,
        default=['source', 'adapted', 'oracle'],
    )
    parser.add_argument('--shifts', nargs='+', choices=SHIFTS, default=SHIFTS[:1])
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--steps', type=int, default=400)
    parser.add_argument('--batch', type=int, default=2, help='patches of each domain')
    parser.add_argument('--patch', type=int, default=128, help='side in pixels')
    parser.add_argument('--lr', type=float, default=2e-3)
    parser.add_argument('--discriminator-lr', type=float, default=1e-4)
    parser.add_argument(
        '--folders', type=Path, metavar='OUT', help='write folders only'
    )
    return parser


if __name__ == '__main__':
    main()
