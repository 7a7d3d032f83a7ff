"""A frozen vision transformer teaches a convolutional student (KTDA)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..inputs import Inputs
from ..losses import DistillationLoss, masked_cross_entropy
from ..models import KTDA, Teacher
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
        lr: float = 6e-4,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
    ) -> None:
        """Initialize a new Distillation instance.

        Args:
            inputs: Bands, statistics and classes of the data.
            network: Arguments of :class:`~eoseg.models.KTDA`, beside in_channels and
                num_classes.
            teacher: Arguments of :class:`~eoseg.models.Teacher`; without them the same
                network is trained on labels alone.
            distillation: Arguments of :class:`~eoseg.losses.DistillationLoss`.
            auxiliary: Weight of the loss of the auxiliary head.
            lr: Peak learning rate of AdamW.
            weight_decay: Weight decay, not applied to biases and norms.
            warmup: Share of the steps in which the learning rate rises.
        """
        self.teacher_arguments = dict(teacher) if teacher else None
        self.distillation_arguments = dict(distillation or {})
        self.auxiliary = auxiliary
        super().__init__(inputs, 'KTDA', network or {}, lr, weight_decay, warmup)

    model: KTDA

    def configure_models(self) -> None:
        """Build teacher and student; the student learns maps as deep as the teacher's."""
        # In a list the teacher is no sub-module: it is not trained, not saved, and not
        # among the parameters.
        self._teacher: list[Teacher] = []
        if self.teacher_arguments is not None:
            arguments = {'rgb': self._first_bands(), **self.teacher_arguments}
            if arguments.get('weights'):
                arguments['weights'] = Path(arguments['weights'])
            teacher = Teacher(**arguments)
            self._teacher.append(teacher)
            self.network |= {'dim': teacher.dim, 'patch_size': teacher.patch_size}
        super().configure_models()

    def _first_bands(self) -> tuple[int, int, int]:
        """The first three bands as red, green and blue; a lone one as grey."""
        return (0, 1, 2) if self.inputs.in_channels >= 3 else (0, 0, 0)

    def configure_losses(self) -> None:
        """Distance of the student's features from the teacher's."""
        self.criterion = DistillationLoss(**self.distillation_arguments)

    def on_fit_start(self) -> None:
        """Bring the teacher to where the student is trained."""
        for teacher in self._teacher:
            teacher.to(self.device)

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Loss of logits, auxiliary logits and features, as :meth:`Task.losses` says."""
        image, mask = self.network_input(batch), batch['mask']
        output = self.model.forward_train(image)
        terms = {
            'segmentation': masked_cross_entropy(output.logits, mask),
        }
        if output.auxiliary is not None:
            auxiliary = masked_cross_entropy(output.auxiliary, mask)
            terms['auxiliary'] = self.auxiliary * auxiliary
        similarity = {}
        for teacher in self._teacher:
            with torch.no_grad():
                features = teacher(image)
            distance = self.criterion(output.aligned, features)
            terms['distillation'] = distance.total
            similarity = {'similarity': agreement(output.aligned, features)}
        return {'loss': torch.stack([*terms.values()]).sum()} | terms | similarity

    def origin(self) -> dict[str, Any]:
        """Backbone and teacher that the training began with."""
        if self.teacher_arguments is None:
            return super().origin()
        teacher = {
            'name': self.teacher_arguments.get('name'),
            'weights': hash_of(self.teacher_arguments.get('weights')),
        }
        return super().origin() | {'teacher': teacher}
