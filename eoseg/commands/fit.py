"""fit, validate and test: LightningCLI, with a folder or a recipe before its options."""

import logging
import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OutputExistsError
from ..recipes import DEFAULT, find_recipe
from .console import say, show_log

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer
    from lightning.pytorch.cli import LightningArgumentParser

#: Packages whose classes a config may name: importing a module runs its code.
PACKAGES = [
    'eoseg', 'eoseg_datasets', 'torchgeo', 'lightning', 'torch', 'torchmetrics', 'kornia',
    'segmentation_models_pytorch', 'timm',
]  # fmt: skip

#: Networks of the default recipe, and the options for their weights.
BACKBONE, BACKBONE_WEIGHTS = 'tf_efficientnet_lite0', '--model.network.backbone_weights'
TEACHER, TEACHER_WEIGHTS = 'vit_small_patch14_dinov2', '--model.teacher.weights'

log = logging.getLogger(__name__)

USAGE = """\
usage: eoseg {word} DIR [--out RUN] [OPTIONS]
       eoseg {word} --recipe NAME --data.root DIR [--out RUN] [OPTIONS]
       eoseg {word} --config FILE [--out RUN] [OPTIONS]

DIR holds images/ and labels/ (or masks/) of the same names: rasters, or polygons as
GPKG or GeoJSON. Bands, statistics and classes are read from them. The run folder, by
default runs/DIR, gets config.yaml, metrics.csv, TensorBoard events and
checkpoints/best.ckpt, which `eoseg predict` takes.

  --recipe NAME        follow another recipe than {default} (eoseg recipes list)
  --out RUN            folder of this run
  --ckpt_path last     go on where a run stopped (fit); or the checkpoint to score
  --overwrite          train anew over a finished run

Options of every part, such as --data.patch_size 128, --trainer.max_epochs 20 or
--model.teacher.weights FILE: eoseg {word} --full-help
"""


def run(word: str, arguments: Sequence[str]) -> int:
    """Run ``eoseg fit``, ``validate`` or ``test``."""
    if not arguments or arguments[0] in ('-h', '--help'):
        print(USAGE.format(word=word, default=DEFAULT))
        return 0 if arguments else 2
    asked = _read(arguments)
    if '--full-help' in asked.rest:
        asked.rest[asked.rest.index('--full-help')] = '--help'
    else:
        _check(word, asked)
    with as_file(find_recipe(asked.recipe) / 'fit.yaml') as config:
        words = [word, *_before(asked, config), *asked.rest]
        # Scores of a checkpoint do not replace the log of its training.
        out = asked.out if word == 'fit' else asked.out / word
        _make_room(out, asked.overwrite)
        _lightning(words, out)
    return 0


@dataclass
class _Asked:
    """What was asked for, beside options of LightningCLI."""

    folder: Path | None
    recipe: str
    config: bool
    out: Path
    overwrite: bool
    rest: list[str]


def _read(arguments: Sequence[str]) -> _Asked:
    rest = list(arguments)
    folder = None if rest[0].startswith('-') else Path(rest.pop(0))
    recipe = _take(rest, '--recipe') or DEFAULT
    root = folder or _value(rest, '--data.root')
    out = _take(rest, '--out') or Path('runs') / (
        Path(root).resolve().name if root else 'run'
    )
    overwrite = '--overwrite' in rest
    if overwrite:
        rest.remove('--overwrite')
    config = any(word.split('=')[0] in ('-c', '--config') for word in rest)
    return _Asked(folder, recipe, config, Path(out), overwrite, rest)


def _value(words: list[str], option: str) -> str | None:
    for i, word in enumerate(words):
        if word.startswith(f'{option}='):
            return word.partition('=')[2]
        if word == option and i + 1 < len(words):
            return words[i + 1]
    return None


def _take(words: list[str], option: str) -> str | None:
    """Value of an option, which is removed."""
    value = _value(words, option)
    for i, word in enumerate(words):
        if word.startswith(f'{option}='):
            del words[i]
            break
        if word == option:
            del words[i : i + 2]
            break
    return value


def _check(word: str, asked: _Asked) -> None:
    """Refuse what cannot work before anything heavy is imported."""
    if asked.folder is not None and not asked.folder.is_dir():
        raise FileNotFoundError(
            f'{asked.folder} is no folder; give one with images/ and labels/'
        )
    if (
        asked.folder is None
        and not asked.config
        and not _value(asked.rest, '--data.root')
    ):
        raise LookupError(
            f'nothing to {word} on; give a folder of scenes and labels: eoseg {word} DIR'
        )
    checkpoint = _value(asked.rest, '--ckpt_path')
    last = asked.out / 'checkpoints' / 'last.ckpt'
    if checkpoint == 'last':
        if not last.is_file():
            raise FileNotFoundError(
                f'{last} does not exist, so there is nothing to go on with; '
                'leave out --ckpt_path last, or give the --out of that run'
            )
        asked.rest[:] = [str(last) if word == 'last' else word for word in asked.rest]
    elif word == 'fit' and last.is_file() and not asked.overwrite:
        raise OutputExistsError(
            f'{asked.out} has a run already. Go on with it: --ckpt_path last; '
            'train anew: --overwrite; keep both: --out ANOTHER'
        )
    elif word != 'fit' and checkpoint is None:
        raise LookupError(
            f'which checkpoint? eoseg {word} needs --ckpt_path, such as '
            f'--ckpt_path {asked.out}/checkpoints/best.ckpt'
        )


def _make_room(out: Path, overwrite: bool) -> None:
    """Remove an earlier run, or put its log out of the way of the one that goes on."""
    log_file = out / 'metrics.csv'
    if overwrite:
        shutil.rmtree(out / 'checkpoints', ignore_errors=True)
        for pattern in ('metrics*.csv', 'events.out.*', 'confusion_*.csv', '*.yaml'):
            for path in out.glob(pattern):
                path.unlink()
    elif log_file.is_file():
        earlier = len(list(out.glob('metrics_*.csv')))
        log_file.rename(out / f'metrics_{earlier}.csv')


def _before(asked: _Asked, config: Path) -> list[str]:
    """Options that stand before the user's own, which override them."""
    words = [] if asked.config else ['--config', str(config)]
    if asked.folder is not None:
        words += ['--data.root', str(asked.folder)]
    if asked.recipe == DEFAULT and not asked.config:
        words += _local_weights(asked.rest)
    return words


def _local_weights(given: list[str]) -> list[str]:
    """Pretrained weights of the default recipe, as far as they are on this machine."""
    from ..models import find_weights

    words = []
    for option, name, without in (
        (BACKBONE_WEIGHTS, BACKBONE, []),
        (TEACHER_WEIGHTS, TEACHER, ['--model.teacher', 'null']),
    ):
        if _value(given, option) is not None:
            continue
        if path := find_weights(name):
            words += [option, str(path)]
        else:
            words += without
            log.warning(
                'no weights of %s on this machine: training goes on without, which costs '
                'accuracy. Get model.safetensors of timm/%s from Hugging Face and save it '
                'as ~/.cache/eoseg/weights/%s.safetensors, or give %s FILE',
                name,
                name,
                name,
                option,
            )
    return words


def _lightning(words: list[str], out: Path) -> None:
    # Deprecations of jsonargparse 5 in Lightning 2.6, for its authors and not for users.
    os.environ.setdefault('JSONARGPARSE_DEPRECATION_WARNINGS', 'off')
    from jsonargparse import set_parsing_settings
    from lightning.pytorch.callbacks import EarlyStopping
    from lightning.pytorch.cli import LightningCLI
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    from ..compat import GeoDataModule
    from ..inputs import Inputs
    from ..tasks.base import Task

    set_parsing_settings(
        import_path_denylist=['*'],
        import_path_allowlist=PACKAGES,
        # Taken from the data as a whole, not field by field from the command line.
        subclasses_enabled=[Inputs],
    )
    for warning in (
        "LightningCLI's args parameter",  # they come from the command line, by main()
        'The .*dataloader.* does not have many workers',  # a patch is read in milliseconds
        '(Experiment logs|Checkpoint) directory .* exists and is not empty',  # _make_room
        '.*isinstance.treespec, LeafSpec.',  # of Lightning 2.6 about torch 2.15
    ):
        warnings.filterwarnings('ignore', message=warning)
    # Advertisements.
    logging.getLogger('lightning.pytorch.utilities.rank_zero').addFilter(
        lambda record: 'Tip' not in record.getMessage()
    )

    class CLI(LightningCLI):
        """LightningCLI whose task learns from the data what it will see."""

        def add_arguments_to_parser(self, parser: 'LightningArgumentParser') -> None:
            parser.link_arguments(
                'data',
                'model.init_args.inputs',
                compute_fn=lambda data: data.inputs,
                apply_on='instantiate',
            )
            parser.add_lightning_class_args(EarlyStopping, 'early_stopping')
            parser.set_defaults(
                {
                    'early_stopping.monitor': Task.monitor,
                    'early_stopping.mode': Task.mode,
                    'early_stopping.patience': 10,
                }
            )

        def instantiate_trainer(self, **settings: Any) -> 'Trainer':
            configured = self._get(self.config_init, 'trainer')['callbacks'] or []
            return super().instantiate_trainer(
                default_root_dir=out,
                logger=[
                    CSVLogger(out, name='', version=''),
                    TensorBoardLogger(out, name='', version=''),
                ],
                callbacks=[*configured, *_callbacks(out / 'checkpoints')],
                **settings,
            )

    show_log()
    cli = CLI(
        Task,
        GeoDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_kwargs={'overwrite': True},
        seed_everything_default=0,
        args=words,
    )
    best = out / 'checkpoints' / 'best.ckpt'
    if words[0] == 'fit' and best.is_file():
        score = cli.trainer.callback_metrics[Task.monitor]
        say(f'mIoU of the validation regions after the last epoch: {float(score):.3f}')
        say('map scenes with it: eoseg predict SCENES CHECKPOINT --out maps')
        print(best)


def _callbacks(folder: Path) -> list['Callback']:
    """The best weights, all that is needed to go on, and a progress bar."""
    from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar

    from ..tasks.base import Task

    best = ModelCheckpoint(
        folder,
        'best',
        monitor=Task.monitor,
        mode=Task.mode,
        save_weights_only=True,
        enable_version_counter=False,
    )
    last = ModelCheckpoint(folder, 'last', enable_version_counter=False)
    return [best, last, RichProgressBar(console_kwargs={'stderr': True})]
