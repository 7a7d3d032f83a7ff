"""What all tasks share: inputs, steps, scores, optimiser and checkpoint."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.classification import MulticlassConfusionMatrix

from eoseg_datasets.classes import Legend

from .. import __version__
from ..compat import BaseTask
from ..errors import CheckpointError
from ..inputs import CHECKPOINT_FORMAT, CHECKPOINT_KEY, Inputs
from ..metrics import confusion_csv, scores
from ..models import create_model, weights_hash
from ..transforms import standardizer
from .figure import comparison


class Task(BaseTask):
    """Base of the tasks: a network from images to classes.

    A subclass has a network and says what its losses are.
    """

    #: What weights begin like that training alone needs: a checkpoint of weights alone goes
    #: without them, and one that lacks them can be gone on with.
    training_only: tuple[str, ...] = ('model.auxiliary.',)

    #: The checkpoint holds them in plain words, see :meth:`on_save_checkpoint`.
    ignore: tuple[str, ...] = ('inputs',)
    monitor = 'val/miou'
    mode = 'max'

    def __init__(
        self,
        inputs: Inputs,
        architecture: str,
        network: Mapping[str, Any],
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
    ) -> None:
        """Initialize a new Task instance.

        Args:
            inputs: Bands, statistics and classes of the data.
            architecture: Name of a network of :mod:`eoseg.models`.
            network: Its arguments, beside in_channels and num_classes.
            lr: Peak learning rate of AdamW.
            weight_decay: Weight decay, not applied to biases and norms.
            warmup: Share of the steps in which the learning rate rises.
        """
        self.inputs = inputs
        self.architecture = architecture
        self.network = dict(network)
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        super().__init__()

    def configure_models(self) -> None:
        """Build the network."""
        self.standardize = standardizer(
            self.inputs.mean, self.inputs.std, self.inputs.radar
        )
        self.model = create_model(
            self.architecture,
            in_channels=self.inputs.in_channels,
            num_classes=self.inputs.num_classes,
            **self.network,
        )

    def configure_metrics(self) -> None:
        """One confusion matrix per split; every score comes from it."""
        for split in ('val', 'test'):
            matrix = MulticlassConfusionMatrix(
                self.inputs.num_classes, ignore_index=self.inputs.ignore_index
            )
            setattr(self, f'{split}_confusion', matrix)

    @abstractmethod
    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a training batch.

        Args:
            batch: With ``image``, ``mask`` and ``valid``.

        Returns:
            Terms by name; ``loss`` is what is minimised.
        """

    def network_input(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Standardized images of a batch, 0 where a pixel is not valid.

        Raises:
            ValueError: If the images have other bands than the network, or the masks
                other classes, or if the batch is one of two domains.
        """
        self._check(batch)
        hidden = ~batch['valid'][:, None]
        image: Tensor = self.standardize(batch['image'].masked_fill(hidden, math.nan))
        return image

    def _check(self, batch: Mapping[str, Tensor]) -> None:
        """Say what is wrong with a batch before a kernel fails on it without a word."""
        if 'image' not in batch:
            raise ValueError(
                'this task learns from one domain; the batch has '
                f'{" and ".join(batch)}, as those of a pair of domains. Give the data '
                'module of one of them as data, or a task that learns from both.'
            )
        inputs = self.inputs
        bands = batch['image'].shape[1]
        if bands != inputs.in_channels:
            raise ValueError(
                f'The network takes {inputs.in_channels} bands '
                f'({", ".join(inputs.bands)}), the images have {bands}. Give data with '
                'the bands that the network was made for.'
            )
        if 'mask' not in batch:  # a domain without labels
            return
        mask = batch['mask']
        outside = (mask < 0) | (mask >= inputs.num_classes)
        foreign = mask[outside & (mask != inputs.ignore_index)]
        if len(foreign):
            values = sorted(set(foreign.tolist()))
            raise ValueError(
                f'The masks have the values {", ".join(map(str, values))}, '
                f'which are none of the {inputs.num_classes} classes (0 '
                f'{inputs.classes[0]} to {inputs.num_classes - 1} {inputs.classes[-1]}). '
                f'Pixels without a label are {inputs.ignore_index}. Correct the labels, '
                'or name all classes.'
            )

    def forward(self, image: Tensor) -> Tensor:
        """Logits of images as the reader gives them.

        Args:
            image: Of shape (B, C, H, W), NaN where a pixel is not valid.

        Returns:
            Logits, of shape (B, K, H, W).
        """
        logits: Tensor = self.model(self.standardize(image))
        return logits

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of a batch."""
        losses = self.losses(batch)
        self.log_dict(
            {f'train/{name}': value for name, value in losses.items()},
            batch_size=len(batch['image']),
        )
        return losses['loss']

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Add a batch to the confusion matrix; show the first one."""
        prediction = self._count('val', batch)
        if batch_idx == 0 and not self.trainer.sanity_checking:
            self._show(batch, prediction)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Add a batch to the confusion matrix."""
        self._count('test', batch)

    def on_validation_epoch_end(self) -> None:
        """Log the scores."""
        self._log_scores('val')

    def on_test_epoch_end(self) -> None:
        """Log the scores."""
        self._log_scores('test')

    def _count(self, split: str, batch: Mapping[str, Tensor]) -> Tensor:
        prediction: Tensor = self.model(self.network_input(batch)).argmax(dim=1)
        getattr(self, f'{split}_confusion').update(prediction, batch['mask'])
        return prediction

    def _show(self, batch: Mapping[str, Tensor], prediction: Tensor) -> None:
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                legend = Legend(self.inputs.classes, self.inputs.colors)
                logger.experiment.add_image(
                    'val/image, mask, map',
                    comparison(batch, prediction, legend),
                    self.global_step,
                    dataformats='HWC',
                )

    def _log_scores(self, split: str) -> None:
        matrix = getattr(self, f'{split}_confusion')
        confusion = matrix.compute().cpu().numpy()
        matrix.reset()
        table = scores(confusion, self.inputs.classes)
        defined = {
            name: value for name, value in table.items() if not math.isnan(value)
        }
        self.log_dict(
            {f'{split}/{name.replace(" ", "_")}': v for name, v in defined.items()}
        )
        folder = self.trainer.log_dir
        if folder and self.trainer.is_global_zero and not self.trainer.sanity_checking:
            path = Path(folder) / f'confusion_{split}.csv'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(confusion_csv(confusion, self.inputs.classes))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; the learning rate rises linearly, then falls as a power of 0.9."""
        trained = [p for p in self.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {'params': [p for p in trained if p.ndim > 1]},
            {'params': [p for p in trained if p.ndim <= 1], 'weight_decay': 0.0},
        ]
        optimizer = AdamW(groups, lr=self.lr, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        rising = max(round(self.warmup * steps), 1)

        def factor(step: int) -> float:
            falling: float = max(1 - step / steps, 0) ** 0.9
            return min((step + 1) / rising, falling)

        return {
            'optimizer': optimizer,
            'lr_scheduler': {
                'scheduler': LambdaLR(optimizer, factor),
                'interval': 'step',
            },
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to map a scene with the checkpoint alone."""
        checkpoint[CHECKPOINT_KEY] = {
            'format': CHECKPOINT_FORMAT,
            'version': __version__,
            'architecture': self.architecture,
            'network': {
                # Where weights came from does not matter once they are trained on.
                name: None if name.endswith('weights') else value
                for name, value in self.network.items()
            },
            'inputs': self.inputs.to_dict(),
            'origin': self.origin(),
        }
        if 'optimizer_states' not in checkpoint:  # weights alone, not for resuming
            state = checkpoint['state_dict']
            checkpoint['state_dict'] = {
                key: value
                for key, value in state.items()
                if not key.startswith(self.training_only)
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with what the checkpoint was trained on, see :attr:`training_only`.

        Raises:
            CheckpointError: If the data have other bands or classes.
        """
        said = checkpoint.get(CHECKPOINT_KEY)
        if said is not None:
            self._adopt(Inputs.from_dict(said['inputs']))
        own, given = self.state_dict(), checkpoint['state_dict']
        spare = {k: v for k, v in own.items() if k.startswith(self.training_only)}
        # A test may have nothing of a kind, such as projectors without a teacher.
        absent = tuple(
            p for p in self.training_only if not any(k.startswith(p) for k in own)
        )
        known = {k: v for k, v in given.items() if not k.startswith(absent)}
        checkpoint['state_dict'] = spare | known

    def _adopt(self, inputs: Inputs) -> None:
        """Standardize as the weights expect it, whatever the data at hand are like."""
        for what in ('bands', 'classes'):
            theirs, ours = getattr(inputs, what), getattr(self.inputs, what)
            if theirs != ours:
                raise CheckpointError(
                    f'the checkpoint was trained on the {what} {", ".join(theirs)}, the '
                    f'data have {", ".join(ours)}; give data of the same {what}, in the '
                    'same order'
                )
        self.inputs = replace(
            self.inputs, mean=inputs.mean, std=inputs.std, radar=inputs.radar
        )
        self.standardize = standardizer(inputs.mean, inputs.std, inputs.radar).to(
            self.device
        )

    def origin(self) -> dict[str, Any]:
        """Networks and files of weights that the training began with."""
        return {
            'backbone': {
                'name': self.network.get('backbone'),
                'weights': hash_of(self.network.get('backbone_weights')),
            }
        }


def hash_of(path: str | None) -> str | None:
    """Hash of a file of weights, None without one."""
    return weights_hash(Path(path)) if path else None


@torch.no_grad()
def agreement(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """Cosine similarity of feature maps at each level, averaged over pixels."""
    similar = [
        torch.cosine_similarity(student, teacher, dim=1).mean()
        for student, teacher in zip(students, teachers, strict=True)
    ]
    return torch.stack(similar)
