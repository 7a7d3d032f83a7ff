"""A frozen vision transformer teaches a convolutional student (KTDA)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..inputs import Inputs
from ..losses import DistillationLoss, SegmentationLoss, masked_cross_entropy
from ..models import KTDA, CachedTeacher, Teacher
from .base import Task, agreement, hash_of


class Distillation(Task):
    """Train KTDA: labels for the map, a teacher for the features.

    The loss is cross-entropy + 0.4 x cross-entropy of the auxiliary head + distillation
    of the aligned features.

    If you use this task in your research, please cite the following paper:

    * https://arxiv.org/abs/2412.06664
    """

    def __init__(
        self,
        inputs: Inputs,
        network: Mapping[str, Any] | None = None,
        teacher: Mapping[str, Any] | None = None,
        distillation: Mapping[str, Any] | None = None,
        auxiliary: float = 0.4,
        focal: float = 0.0,
        lr: float = 6e-4,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
        freeze_backbone: bool = False,
        double_forward: bool = False,
    ) -> None:
        """Initialize a new Distillation instance.

        Args:
            inputs: Bands, statistics and classes of the data.
            network: Arguments of :class:`~eoseg.models.KTDA`, beside in_channels and
                num_classes.
            teacher: Arguments of :class:`~eoseg.models.Teacher`; without them the same
                network is trained on labels alone. In place of its *rgb* there may be
                *bands*, three names of *inputs*: red, green and blue; by default they
                are the first three bands. With *cache*, a folder, maps of the teacher
                are kept there, see :class:`~eoseg.models.CachedTeacher`.
            distillation: Arguments of :class:`~eoseg.losses.DistillationLoss`.
            auxiliary: Weight of the loss of the auxiliary heads.
            focal: Weight of the focal loss of the map beside cross-entropy; 1 in an
                ablation of the authors.
            lr: Peak learning rate of AdamW.
            weight_decay: Weight decay, not applied to biases and norms.
            warmup: Share of the steps in which the learning rate rises.
            freeze_backbone: Whether the backbone stays as it is.
            double_forward: Whether the student runs a second time for the comparison
                with the teacher, as in the authors' code. It makes a difference where
                the student is random: two draws of stochastic depth instead of one.
        """
        self.teacher_arguments = dict(teacher) if teacher else None
        self.distillation_arguments = dict(distillation or {})
        self.auxiliary = auxiliary
        self.focal = focal
        self.freeze_backbone = freeze_backbone
        self.double_forward = double_forward
        super().__init__(inputs, 'KTDA', network or {}, lr, weight_decay, warmup)

    model: KTDA

    def configure_models(self) -> None:
        """Build teacher and student; the student learns maps as deep as the teacher's."""
        # In a list the teacher is no sub-module: it is not trained, not saved, and not
        # among the parameters.
        self._teacher: list[Teacher | CachedTeacher] = []
        if self.teacher_arguments is not None:
            teacher = self._make_teacher(**self.teacher_arguments)
            self._teacher.append(teacher)
            self.network |= {'dim': teacher.dim, 'patch_size': teacher.patch_size}
        super().configure_models()
        if self.freeze_backbone:
            self.model.backbone.freeze()

    def _make_teacher(
        self,
        *,
        weights: str | None = None,
        bands: Sequence[str] | None = None,
        cache: str | None = None,
        **arguments: Any,
    ) -> Teacher | CachedTeacher:
        if bands:
            arguments['rgb'] = self.inputs.channels_of(bands)
        arguments.setdefault('rgb', self._first_bands())
        teacher = Teacher(weights=Path(weights) if weights else None, **arguments)
        return CachedTeacher(teacher, Path(cache)) if cache else teacher

    def _first_bands(self) -> tuple[int, int, int]:
        """The first three bands as red, green and blue; a lone one as grey."""
        return (0, 1, 2) if self.inputs.in_channels >= 3 else (0, 0, 0)

    def configure_losses(self) -> None:
        """Loss of the map, and distance of the student's features from the teacher's."""
        self.segmentation = SegmentationLoss(focal=self.focal)
        self.criterion = DistillationLoss(**self.distillation_arguments)

    def on_fit_start(self) -> None:
        """Bring the teacher to where the student is trained."""
        for teacher in self._teacher:
            teacher.to(self.device)

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Loss of logits, auxiliary logits and features, as :meth:`Task.losses` says."""
        image, mask = self.network_input(batch), batch['mask']
        output = self.model.forward_train(image)
        terms = {'segmentation': self.segmentation(output.logits, mask)}
        if output.auxiliary is not None:
            heads = len(output.auxiliary) // len(mask)
            auxiliary = masked_cross_entropy(output.auxiliary, mask.repeat(heads, 1, 1))
            terms['auxiliary'] = self.auxiliary * auxiliary
        told = {}
        for teacher in self._teacher:
            aligned = output.aligned
            if self.double_forward:
                aligned = self.model.aligned(image)
            features = self.model.teacher_maps(teacher(image))
            distance = self.criterion(aligned, features)
            terms['distillation'] = distance.total
            told = {'kl': distance.kl.detach(), 'mse': distance.mse.detach()}
            told |= _similarity(aligned, features)
        return {'loss': torch.stack([*terms.values()]).sum()} | terms | told

    def origin(self) -> dict[str, Any]:
        """Backbone and teacher that the training began with."""
        if self.teacher_arguments is None:
            return super().origin()
        teacher = {
            'name': self.teacher_arguments.get('name'),
            'weights': hash_of(self.teacher_arguments.get('weights')),
        }
        return super().origin() | {'teacher': teacher}


def _similarity(
    students: Sequence[Tensor], teachers: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Agreement with the teacher, of each level and their mean."""
    levels = agreement(students, teachers)
    by_level = {f'similarity_{level}': value for level, value in enumerate(levels)}
    return {'similarity': levels.mean()} | by_level
