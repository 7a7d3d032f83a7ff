"""Adapt a network to a domain without labels (ST-DASegNet)."""

import copy
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from eoseg_datasets.classes import Legend

from ..errors import CheckpointError, check_choice
from ..inputs import CHECKPOINT_KEY, Inputs
from ..losses import (
    PseudoLabels,
    RunningShares,
    adversarial_loss,
    cross_entropy_over_all,
    discriminator_accuracy,
    discriminator_loss,
    masked_cross_entropy,
    pseudo_labels,
    self_training_loss,
)
from ..models import FeatureDiscriminator, STDAOutput, STDASegNet
from ..models.discriminator import choose_downs
from ..models.heads import resize
from ..transforms import standardizer
from .adaptation_settings import check_weights, choose, two_lists
from .base import Task
from .figure import comparison

log = logging.getLogger(__name__)

#: What the target's path can do without.
SOURCE_PATH = ('model.source_backbone.', 'model.source_head.')

#: Optimisers, each of which Lightning counts as a step: students, two discriminators.
OPTIMIZERS = 3

#: Averages of the gradient and of its square that the discriminators' Adam remembers.
DISCRIMINATOR_BETAS = (0.9, 0.99)

DOMAINS = ('source', 'target')

#: A class of which the source has this much is lost in the target when teachers find less
#: than this share of it there.
LEAST, LOST = 0.01, 0.1


class _Answer(NamedTuple):
    """What the students make of a batch."""

    terms: dict[str, Tensor]
    #: Of images of the source and of the target.
    source: STDAOutput
    target: STDAOutput
    labels: PseudoLabels
    #: Logits of the target, mean of both decoders, of shape (B, K, H, W).
    logits: Tensor


class DomainAdaptation(Task):
    r"""Train ST-DASegNet: labels of a source, images alone of a target.

    Batches are those of :class:`~eoseg.datamodules.DomainPairDataModule`. In each
    iteration

    1. the teachers move towards the students: with the iterations :math:`k` so far, their
       weights become :math:`a \theta' + (1 - a) \theta`, :math:`a = \min(1 - 1 / (k + 1),
       \mathit{decay})`
    2. the students learn to label the source, what the teachers say of the target, and
       that their features are alike for both discriminators
    3. the discriminator of the source's backbone learns to tell the domains apart, then
       that of the target's

    The loss of the students is the sum over both decoders of

        cross-entropy of the source + 0.25 x that of pseudo-labels of the target
        + 0.005 x adversarial loss

    Labels of the target, if there are some, are used for scores alone; ``eoseg fit`` keeps
    the last weights, and not those of the best score. Optimisation is
    manual, with three optimisers: ``trainer.max_steps`` counts three for each iteration,
    ``trainer.max_epochs`` as ever. Distributed training needs the strategy
    ``ddp_find_unused_parameters_true``.

    If you use this task in your research, please cite the following paper:

    * https://arxiv.org/abs/2301.05526
    """

    training_only = (
        *Task.training_only, 'discriminators.', 'teachers.', 'iteration', 'shares.',
    )  # fmt: skip

    def __init__(
        self,
        inputs: Inputs,
        network: Mapping[str, Any] | None = None,
        preset: Literal['default', 'paper'] = 'default',
        settings: Mapping[str, Any] | None = None,
        class_weights: Sequence[float] | Sequence[Sequence[float]] | None = None,
        pseudo_class_weights: Sequence[float] | None = None,
        downs: int | Literal['auto'] = 'auto',
        target_side: int | None = None,
        lr: float = 6e-5,
        discriminator_lr: float = 1e-5,
        weight_decay: float = 0.01,
        warmup: float = 0.02,
    ) -> None:
        """Initialize a new DomainAdaptation instance.

        Args:
            inputs: Bands, statistics and classes of the target.
            network: Arguments of :class:`~eoseg.models.STDASegNet`, beside in_channels
                and num_classes. With *paths* ``target``, scores and checkpoints of weights
                alone are those of the target's path; both are trained.
            preset: Where *settings* that are not given come from: the ``default``, or
                ``paper``.
            settings: In place of those of the preset: *normalization*, whether losses
                are means over ``valid`` pixels or sums divided by the number of ``all``;
                *teacher_init*, whether teachers begin as a ``copy`` or at ``random``;
                *teacher_dropout*, whether they drop channels; *statistics*, whether
                those of batch norms are of the ``target`` or of ``both``. And for every
                preset: *teacher*, teachers of both decoders (``decoder``) or of the
                target's backbone and decoder (``target``); their *decay* (0.999);
                *threshold* and *rare_threshold* of :func:`~eoseg.losses.pseudo_labels`;
                weights of *self_training* (0.25) and *adversarial* (0.005).
            class_weights: Weight of each class in the cross-entropy, or two such lists,
                one for each decoder. By default all are 1.
            pseudo_class_weights: Weight of each class of pseudo-labels that the teachers
                are fairly sure of. By default all are 1.
            downs: Convolutions by which the discriminators halve the maps, see
                :class:`~eoseg.models.FeatureDiscriminator`; by default 2, as published,
                or as many as the patches allow.
            target_side: Training images of the target are resized to this side in
                pixels. The authors squash whole tiles to the size of a patch.
            lr: Peak learning rate of AdamW, of the students.
            discriminator_lr: Peak learning rate of Adam, of the discriminators.
            weight_decay: Weight decay of the students, not applied to biases and norms.
            warmup: Share of the iterations in which the learning rates rise.

        Raises:
            ValueError: If an argument is none of the above, or patches are too small for
                the discriminators.
        """
        self.settings = choose(preset, settings or {})
        self.preset = preset
        named = {'backbone': 'mit_b5', **(network or {})}
        # A network without a source path cannot be trained.
        self.paths: Literal['both', 'target'] = named.pop('paths', 'both')
        check_choice('paths', self.paths, ('both', 'target'))
        if self.paths == 'target':
            self.training_only += SOURCE_PATH
        self.target_side = target_side
        patch = target_side or inputs.patch_size
        self.downs = choose_downs(downs, patch)
        self.class_weights = two_lists(class_weights, inputs)
        self.pseudo_class_weights = pseudo_class_weights
        if pseudo_class_weights is not None:
            check_weights('pseudo_class_weights', pseudo_class_weights, inputs)
        self.discriminator_lr = discriminator_lr
        super().__init__(inputs, 'STDASegNet', named, lr, weight_decay, warmup)
        self.automatic_optimization = False

    model: STDASegNet
    iteration: Tensor
    worth: Tensor | None

    def configure_models(self) -> None:
        """Build students, discriminators and teachers."""
        super().configure_models()
        self.standardize_source = self.standardize
        self._scored: str = 'target'
        channels = self.model.feature_channels
        self.discriminators = nn.ModuleDict(
            {name: FeatureDiscriminator(channels, self.downs) for name in DOMAINS}
        )
        self.teachers = self._make_teachers().requires_grad_(False)
        self.shares = nn.ModuleDict(
            {name: RunningShares(self.inputs.num_classes) for name in DOMAINS}
        )
        self.model.paths = self.paths
        # In the state of the task, so that a run that goes on does not begin anew.
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))
        for name, weights in zip(DOMAINS, self.class_weights, strict=True):
            self.register_buffer(f'weights_{name}', _tensor(weights), persistent=False)
        self.register_buffer(
            'worth', _tensor(self.pseudo_class_weights), persistent=False
        )

    def _make_teachers(self) -> nn.ModuleDict:
        first = (
            'source_head' if self.settings.teacher == 'decoder' else 'target_backbone'
        )
        parts = (first, 'target_head')
        model = self.model
        if self.settings.teacher_init == 'random':
            named = {**self.network, 'backbone_weights': None}
            inputs = self.inputs
            model = STDASegNet(inputs.in_channels, inputs.num_classes, **named)
        return nn.ModuleDict(
            {name: copy.deepcopy(getattr(model, name)) for name in parts}
        )

    def setup(self, stage: str) -> None:
        """Standardize the source as its data module says.

        Args:
            stage: 'fit', 'validate', 'test' or 'predict'.
        """
        data: Any = getattr(self.trainer, 'datamodule', None)
        self._scored = getattr(data, 'val_domain', 'target')
        if not hasattr(data, 'source_inputs'):
            return
        if stage == 'fit' or self._scored == 'source':
            self.see_source(data.source_inputs)
        if stage == 'fit' and self._scored == 'target':
            log.info(
                'the target has labels: they are used for scores alone, no loss sees them '
                'and no checkpoint is chosen by them'
            )

    def see_source(self, inputs: Inputs) -> None:
        """Standardize images of the source by its own statistics.

        Args:
            inputs: Bands, statistics and patches of the source.

        Raises:
            ValueError: If its patches are too small for the discriminators.
        """
        try:
            choose_downs(self.downs, inputs.patch_size)
        except ValueError as error:
            raise ValueError(f'source: {error}') from None
        self.standardize_source = standardizer(
            inputs.mean, inputs.std, inputs.radar
        ).to(self.device)

    def network_input(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Standardized images of the domain that is scored, see :meth:`Task.network_input`.

        That is the target; the source, if the target has no labels.
        """
        return self._standardized(batch, self._scored)

    def _standardized(self, batch: Mapping[str, Tensor], domain: str) -> Tensor:
        self._check(batch)
        hidden = ~batch['valid'][:, None]
        image = batch['image'].masked_fill(hidden, math.nan)
        standardize = (
            self.standardize_source if domain == 'source' else self.standardize
        )
        standardized: Tensor = standardize(image)
        return standardized

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of the students, as :meth:`Task.losses` says.

        Args:
            batch: With ``source`` and ``target``.
        """
        return self._students(batch).terms

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:  # type: ignore[override]
        """One iteration: teachers, students, and both discriminators.

        Raises:
            ValueError: If the batch is one of a single domain.
        """
        students, *discriminators = cast(list[Optimizer], self.optimizers())
        self.update_teachers()
        with self._learning(students):
            answer = self._students(batch)
            self.manual_backward(answer.terms['loss'])
        terms = {name: value.detach() for name, value in answer.terms.items()}
        for name, optimizer in zip(DOMAINS, discriminators, strict=True):
            with self._learning(optimizer):
                told = self._discriminate(name, answer)
                loss = told[f'discriminator_{name}']
                self.manual_backward(self.settings.adversarial * loss)
            terms |= {key: value.detach() for key, value in told.items()}
        for schedule in cast(list[LambdaLR], self.lr_schedulers()):
            schedule.step()
        self.iteration += 1
        self.log_dict(
            {f'train/{name}': value for name, value in terms.items()},
            batch_size=len(answer.labels.mask),
        )
        if batch_idx == 0:
            self._show_labels(batch['target'], answer)

    @contextmanager
    def _learning(self, optimizer: Optimizer) -> Iterator[None]:
        """Nothing but what an optimiser has in its care gets gradients, and then it steps."""
        self.toggle_optimizer(optimizer)
        optimizer.zero_grad()
        yield
        optimizer.step()
        self.untoggle_optimizer(optimizer)

    @torch.no_grad()
    def update_teachers(self) -> None:
        """Move the weights of the teachers towards those of the students.

        Statistics of batch norms are the teachers' own, and of the batch at hand.
        """
        count = int(self.iteration)
        if count == 0:
            return
        kept = min(1 - 1 / (count + 1), self.settings.decay)
        for name, teacher in self.teachers.items():
            student: nn.Module = getattr(self.model, name)
            pairs = zip(teacher.parameters(), student.parameters(), strict=True)
            for theirs, ours in pairs:
                theirs.mul_(kept).add_(ours, alpha=1 - kept)

    def _students(self, batch: Mapping[str, Any]) -> _Answer:
        _check_pair(batch)
        mask = batch['source']['mask']
        image, valid = self._target(batch['target'])
        with self._source_statistics():
            source = self.model.forward_train(
                self._standardized(batch['source'], 'source')
            )
        target = self.model.forward_train(image)
        labels = self._labels(image, target, valid)
        self.shares['source'](mask)
        said = self.shares['target'](labels.mask)
        size = image.shape[-2:]
        answers = [resize(logits, size) for logits in (target.source, target.target)]
        # Of each backbone, the other domain is to look like its own.
        fakes = {'source': target.features.source, 'target': source.features.target}
        terms = {}
        for name, labelled, unlabelled in zip(
            DOMAINS, (source.source, source.target), answers, strict=True
        ):
            weights = getattr(self, f'weights_{name}')
            logits = resize(labelled, mask.shape[-2:])
            terms[f'segmentation_{name}'] = self._segmentation(logits, mask, weights)
            terms[f'self_training_{name}'] = self_training_loss(
                unlabelled,
                labels,
                weights,
                self.settings.normalization,
                self.inputs.ignore_index,
            )
            verdict = self.discriminators[name](fakes[name][-1])
            terms[f'adversarial_{name}'] = adversarial_loss(verdict, True)
        told = {'confident': labels.confident, 'fair': labels.fair}
        told |= _proxies(answers, valid) | self._by_class(said)
        terms = {'loss': self._sum(terms)} | terms | told
        return _Answer(terms, source, target, labels, (answers[0] + answers[1]) / 2)

    def _by_class(self, shares: Tensor) -> dict[str, Tensor]:
        """How much of the target the teachers take for each class."""
        names = [name.replace(' ', '_') for name in self.inputs.classes]
        return {f'pseudo_{n}': share for n, share in zip(names, shares, strict=True)}

    def _shares_so_far(self, domain: str) -> Tensor:
        return cast(RunningShares, self.shares[domain]).shares

    @rank_zero_only
    def on_train_end(self) -> None:
        """Say which classes the teachers hardly find in the target any more."""
        if self.settings.self_training == 0:
            return  # nobody has listened to them
        source, target = (self._shares_so_far(name).tolist() for name in DOMAINS)
        for name, there, here in zip(self.inputs.classes, source, target, strict=True):
            if there >= LEAST and here < LOST * there:
                log.warning(
                    'the class %s is %.1f %% of the source, and %.1f %% of what the '
                    'teachers say of the target. If it should be there, train without '
                    'them: settings: {self_training: 0}',
                    name,
                    100 * there,
                    100 * here,
                )

    def _sum(self, terms: Mapping[str, Tensor]) -> Tensor:
        weights = {
            'segmentation': 1.0,
            'self_training': self.settings.self_training,
            'adversarial': self.settings.adversarial,
        }
        weighted = [
            weights[name.rpartition('_')[0]] * value for name, value in terms.items()
        ]
        return torch.stack(weighted).sum()

    def _segmentation(
        self, logits: Tensor, mask: Tensor, weights: Tensor | None
    ) -> Tensor:
        mean = masked_cross_entropy
        if self.settings.normalization == 'all':
            mean = cross_entropy_over_all
        return mean(logits, mask, self.inputs.ignore_index, weights)

    def _discriminate(self, name: str, answer: _Answer) -> dict[str, Tensor]:
        """How well a discriminator tells its own domain from the other."""
        both = {
            domain: getattr(getattr(answer, domain).features, name)[-1].detach()
            for domain in DOMAINS
        }
        fake = next(domain for domain in DOMAINS if domain != name)
        said = {d: self.discriminators[name](feature) for d, feature in both.items()}
        return {
            f'discriminator_{name}': discriminator_loss(said[name], said[fake]),
            f'accuracy_{name}': discriminator_accuracy(said[name], said[fake]),
        }

    def _target(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Standardized training images of the target, and where they are valid."""
        image, valid = self._standardized(batch, 'target'), batch['valid']
        if self.target_side is None:
            return image, valid
        size = (self.target_side, self.target_side)
        nearest = F.interpolate(valid[:, None].float(), size, mode='nearest')
        return resize(image, size), nearest[:, 0] > 0

    @torch.no_grad()
    def _labels(self, image: Tensor, output: STDAOutput, valid: Tensor) -> PseudoLabels:
        """What the teachers say of images of the target."""
        self._set_teachers()
        maps, source_head = output.maps, self.model.source_head
        if self.settings.teacher == 'target':
            seen = self.teachers['target_backbone'](image)
            maps = self.model.disentangle(output.features.source, seen)
        else:
            source_head = self.teachers['source_head']
        assert source_head is not None
        said = source_head(maps.source) + self.teachers['target_head'](maps.target)
        return pseudo_labels(
            resize(said / 2, image.shape[-2:]),
            valid,
            self.settings.threshold,
            self.settings.rare_threshold,
            self.worth,
            self.inputs.ignore_index,
        )

    def _set_teachers(self) -> None:
        """Norms of the batch, which the teachers have not had time to average."""
        self.teachers.train(self.settings.teacher_dropout)
        for module in self.teachers.modules():
            if isinstance(module, _BatchNorm):
                module.train()

    @contextmanager
    def _source_statistics(self) -> Iterator[None]:
        """Images of the source leave no trace in running statistics, if so asked."""
        norms = [m for m in self.model.modules() if isinstance(m, _BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        if self.settings.statistics == 'target':
            for norm in norms:
                norm.momentum = 0.0
        yield
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def _show_labels(self, batch: Mapping[str, Tensor], answer: _Answer) -> None:
        """Images of the target, what teachers are fairly sure of, and what students say."""
        pictured = [one for one in self.loggers if isinstance(one, TensorBoardLogger)]
        if not pictured:
            return
        sure = answer.labels.weight > 0.5 * answer.labels.confident
        mask = answer.labels.mask.where(sure, self.inputs.ignore_index)
        legend = Legend(self.inputs.classes, self.inputs.colors)
        size = mask.shape[-2:]
        valid = F.interpolate(batch['valid'][:, None].float(), size)[:, 0] > 0
        shown = {
            'image': F.interpolate(batch['image'], size),
            'valid': valid,
            'mask': mask,
        }
        for logger in pictured:
            logger.experiment.add_image(
                'train/target, pseudo-labels, map',
                comparison(shown, answer.logits.argmax(dim=1), legend),
                int(self.iteration),
                dataformats='HWC',
            )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW of the students, Adam of each discriminator.

        All learning rates rise linearly and fall linearly to 0.
        """
        trained = [p for p in self.model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {'params': [p for p in trained if p.ndim > 1]},
            {'params': [p for p in trained if p.ndim <= 1], 'weight_decay': 0.0},
        ]
        students = AdamW(groups, lr=self.lr, weight_decay=self.weight_decay)
        discriminators = [
            Adam(
                self.discriminators[name].parameters(),
                lr=self.discriminator_lr,
                betas=DISCRIMINATOR_BETAS,
            )
            for name in DOMAINS
        ]
        iterations = self._iterations()
        rising = max(round(self.warmup * iterations), 1)

        def factor(step: int) -> float:
            return min((step + 1) / rising, max(1 - step / iterations, 0))

        optimizers: list[Optimizer] = [students, *discriminators]
        return optimizers, [LambdaLR(one, factor) for one in optimizers]

    def _iterations(self) -> float:
        """Length of the training; Lightning counts the steps of every optimiser."""
        estimated, most = (
            self.trainer.estimated_stepping_batches,
            self.trainer.max_steps,
        )
        return estimated if most <= 0 else min(estimated, math.ceil(most / OPTIMIZERS))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say which paths answer where weights alone are saved."""
        super().on_save_checkpoint(checkpoint)
        if 'optimizer_states' not in checkpoint:
            checkpoint[CHECKPOINT_KEY]['network']['paths'] = self.paths

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with what the checkpoint was trained on.

        Raises:
            CheckpointError: If the data have other bands or classes, or it holds the path
                of the target alone, and this network has both.
        """
        network = checkpoint.get(CHECKPOINT_KEY, {}).get('network', {})
        if (network.get('paths'), self.paths) == ('target', 'both'):
            raise CheckpointError(
                'the checkpoint holds the path of the target alone, this network has both; '
                'give --model.network.paths target'
            )
        super().on_load_checkpoint(checkpoint)


@torch.no_grad()
def _proxies(logits: Sequence[Tensor], valid: Tensor) -> dict[str, Tensor]:
    """What can be known of the target without labels.

    Returns:
        Entropy of the mean probabilities, of at most 1, and the share of pixels of which
        both decoders say the same.
    """
    each = [one.float().softmax(dim=1) for one in logits]
    mean = (each[0] + each[1]) / 2
    entropy = -(mean * mean.clamp(min=1e-12).log()).sum(dim=1) / math.log(mean.shape[1])
    same = each[0].argmax(dim=1) == each[1].argmax(dim=1)
    count = valid.sum().clamp(min=1)
    return {
        'entropy': (entropy * valid).sum() / count,
        'agreement': (same & valid).sum() / count,
    }


def _check_pair(batch: Mapping[str, Any]) -> None:
    if not set(DOMAINS) <= batch.keys():
        raise ValueError(
            'this task learns from two domains, the batch has one. Give '
            'eoseg.datamodules.DomainPairDataModule as data, with the labelled domain as '
            'source and the other one as target'
        )


def _tensor(weights: Sequence[float] | None) -> Tensor | None:
    return None if weights is None else torch.tensor(weights, dtype=torch.float32)
