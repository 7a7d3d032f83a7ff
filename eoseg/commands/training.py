"""LightningCLI as eoseg uses it: the task learns from the data what it will see."""

import logging
import os
import re
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Deprecations of jsonargparse 5 in Lightning 2.6, for its authors and not for users;
# read when jsonargparse is imported.
os.environ.setdefault('JSONARGPARSE_DEPRECATION_WARNINGS', 'off')

from jsonargparse import set_parsing_settings
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from eoseg_datasets.splits import write_regions

from ..compat import GeoDataModule
from ..datamodules.lazy import opened
from ..datamodules.scenes import SceneDataModule
from ..inputs import Inputs
from ..tasks import DomainAdaptation
from ..tasks.base import Task
from .console import say, show_log

#: Packages whose classes a config may name: importing a module runs its code.
PACKAGES = [
    'eoseg', 'eoseg_datasets', 'torchgeo', 'lightning', 'torch', 'torchmetrics', 'kornia',
    'segmentation_models_pytorch', 'timm',
]  # fmt: skip

#: Warnings that are none for the user, and why.
NOISE = (
    "LightningCLI's args parameter",  # they come from the command line, by main()
    'The .*dataloader.* does not have many workers',  # a patch is read in milliseconds
    '(Experiment logs|Checkpoint) directory .* exists and is not empty',  # _make_room
    '.*isinstance.treespec, LeafSpec.',  # of Lightning 2.6 about torch 2.15
)


def train(words: Sequence[str], out: Path, *, overwrite: bool) -> None:
    """Run a command of LightningCLI.

    Args:
        words: Command and options.
        out: Folder of the run.
        overwrite: Whether an earlier run in it is removed.
    """
    set_parsing_settings(
        import_path_denylist=['*'],
        import_path_allowlist=PACKAGES,
        # Taken from the data as a whole, not field by field from the command line.
        subclasses_enabled=[Inputs],
    )
    for message in NOISE:
        warnings.filterwarnings('ignore', message=message)
    # Advertisements.
    logging.getLogger('lightning.pytorch.utilities.rank_zero').addFilter(
        lambda record: 'Tip' not in record.getMessage()
    )
    show_log()
    try:
        _CLI(words, out, overwrite=overwrite)
    except SystemExit as stop:
        # Lightning ends with 1 after Ctrl-C.
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    except ValueError as error:
        # What is wrong with the data, without the words of the link that asked for it.
        if error.__cause__ is not None and 'compute_fn' in str(error):
            raise error.__cause__ from None
        if '\nErrors:\n' in str(error):
            raise ValueError(_reasons(str(error))) from error
        raise


def _reasons(message: str) -> str:
    """What is wrong, without all that jsonargparse tried to make of it.

    Args:
        message: Of jsonargparse, with a list of errors.
    """
    _, _, errors = message.partition('\nErrors:\n')
    errors, _, _ = errors.partition('\nGiven value type:')
    parts = re.split('^ *- ', errors, flags=re.MULTILINE)
    reasons = [part.strip() for part in parts]
    # It tried None as well.
    told = [r for r in reasons if r and r != "Expected a <class 'NoneType'>"]
    return '\n'.join(told) or message


class _CLI(LightningCLI):
    """LightningCLI with a run folder."""

    def __init__(self, words: Sequence[str], out: Path, *, overwrite: bool) -> None:
        self.out = out
        self.overwrite = overwrite
        folder = out / 'checkpoints'
        self.best = ModelCheckpoint(
            folder,
            'best',
            monitor=Task.monitor,
            mode=Task.mode,
            save_weights_only=True,
            enable_version_counter=False,
        )
        self.last = ModelCheckpoint(folder, 'last', enable_version_counter=False)
        super().__init__(
            Task,
            GeoDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_kwargs={'overwrite': True},
            seed_everything_default=0,
            # In place of every option there is, sixty lines of them.
            parser_kwargs={words[0]: {'usage': f'eoseg {words[0]} DIR [OPTIONS]'}},
            args=list(words),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
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

    def before_instantiate_classes(self) -> None:
        """Read null where it was typed, as in ``--model.network.backbone_weights null``.

        jsonargparse 4.53 makes the text None of it inside of a mapping.
        """
        arguments = self._get(self.config, 'model').get('init_args') or {}
        for name, value in vars(arguments).items():
            if isinstance(value, dict):
                arguments[name] = {
                    k: None if v == 'None' else v for k, v in value.items()
                }

    def instantiate_trainer(self, **settings: Any) -> Trainer:
        if isinstance(self.model, DomainAdaptation):
            # The last weights: labels of the target, if there are some, choose nothing.
            self.best.monitor = None
        # Data and model are there: nothing is removed for a call that cannot work.
        _make_room(self.out, overwrite=self.overwrite)
        trainer = self._get(self.config_init, 'trainer')
        callbacks: list[Callback] = [
            *(trainer['callbacks'] or []),
            self.best,
            self.last,
            _SplitFile(self.out / 'split.gpkg'),
        ]
        if trainer['enable_progress_bar'] is not False:
            callbacks.append(RichProgressBar(console_kwargs={'stderr': True}))
        loggers = [
            CSVLogger(self.out, name='', version=''),
            TensorBoardLogger(self.out, name='', version=''),
        ]
        return super().instantiate_trainer(
            default_root_dir=self.out, logger=loggers, callbacks=callbacks, **settings
        )

    def after_fit(self) -> None:
        score, path = self.best.best_model_score, self.best.best_model_path
        if path and self.trainer.is_global_zero:
            if score is not None:
                say(f'best mIoU on the validation regions: {float(score):.3f}')
            say('map scenes with it: eoseg predict SCENES CHECKPOINT --out maps')
            print(path)


class _SplitFile(Callback):
    """Where patches come from, to look at: of training, validation and what is open."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = getattr(trainer, 'datamodule', None)
        if trainer.is_global_zero and isinstance(data, SceneDataModule):
            regions = [
                (use, part.dataset.scenes[region.scene], region.window)
                for use, part in opened(data.parts).items()
                for region in part.regions
            ]
            write_regions(self.path, regions)


def _make_room(out: Path, *, overwrite: bool) -> None:
    """Remove an earlier run, or put its log out of the way of the one that goes on."""
    log_file = out / 'metrics.csv'
    if overwrite and (out / 'checkpoints').is_dir():
        shutil.rmtree(out / 'checkpoints', ignore_errors=True)
        own = ('metrics*.csv', 'events.out.*', 'confusion_*.csv')
        for pattern in (*own, 'config.yaml', 'hparams.yaml'):
            for path in out.glob(pattern):
                path.unlink()
    elif log_file.is_file():
        earlier = len(list(out.glob('metrics_*.csv')))
        log_file.rename(out / f'metrics_{earlier}.csv')
