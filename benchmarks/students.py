"""Small networks that learn from labels, and from the maps of a teacher."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from eoseg.losses import DistillationLoss, DistillationTerms, masked_cross_entropy
from eoseg.metrics import confusion_matrix
from eoseg.models import KTDA, UNet

from .lessons import CELL, Lesson, Pair, draw, joined, withheld
from .pictures import normal

CLASSES = ('clear', 'cloud')
BACKBONE = 'tf_efficientnet_lite0'

#: Of feature modulation: cheap enough for a CPU.
BLOCK = {'depth': 1, 'heads': 4, 'side': 12}

WEIGHT_DECAY = 0.01

#: Largest norm of a gradient.
CLIP = 5.0


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


def student(weights: Path | None, modulation: str | None) -> KTDA:
    """Build a small KTDA network.

    Args:
        weights: Weights of the backbone; None for random ones.
        modulation: Kind of its blocks of feature modulation; None for none.
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
        modulation='none' if modulation is None else {'kind': modulation} | BLOCK,
        head_channels=32,
        auxiliary=False,
    )
    # Convolutions on a CPU like it.
    return model.to(memory_format=torch.channels_last)


def unet(weights: Path | None) -> UNet:
    """Build a U-Net on the same backbone.

    Args:
        weights: Weights of the backbone; None for random ones.
    """
    file = None if weights is None else str(weights)
    model = UNet(3, len(CLASSES), backbone=BACKBONE, backbone_weights=file)
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
    model: KTDA | UNet,
    labelled: Sequence[Lesson],
    schedule: Schedule,
    random: np.random.Generator,
) -> None:
    """Train on masks alone.

    Args:
        model: Student, changed in place.
        labelled: Training images with labels.
        schedule: How long and how fast.
        random: Draws the patches.
    """

    def loss(done: float) -> Tensor:
        batch = draw(labelled, random)
        return masked_cross_entropy(model(batch.image), batch.mask)

    minimize(loss, model, schedule, schedule.steps)


def learn_from_both(
    model: KTDA,
    labelled: Sequence[Lesson],
    shown: Sequence[Lesson],
    schedule: Schedule,
    random: np.random.Generator,
) -> None:
    """Train on masks and on the maps of the teacher.

    Where more images are shown than have labels, a batch of them without labels joins
    every batch.

    Args:
        model: Student, changed in place.
        labelled: Training images with labels.
        shown: Those, and others.
        schedule: How long and how fast.
        random: Draws the patches.
    """

    def loss(done: float) -> Tensor:
        batch = draw(labelled, random)
        if len(shown) > len(labelled):
            batch = joined(batch, withheld(draw(shown, random)))
        output = model.forward_train(batch.image)
        told = masked_cross_entropy(output.logits, batch.mask)
        weight = schedule.weight * (1 - done)
        return told + weight * distance(output.aligned, batch.maps)

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
    loss: Callable[[float], Tensor],
    model: KTDA | UNet,
    schedule: Schedule,
    steps: int,
) -> None:
    """Train by AdamW and one cycle of the learning rate.

    Args:
        loss: Draws a batch and gives its loss, told which share of the steps is done.
        model: Network, changed in place.
        schedule: How fast.
        steps: How long.
    """
    groups = [*parameter_groups(model, schedule)]
    optimizer = AdamW(groups, weight_decay=WEIGHT_DECAY)
    cycle = OneCycleLR(optimizer, [group['lr'] for group in groups], steps)
    model.train()
    for step in range(steps):
        optimizer.zero_grad()
        loss(step / steps).backward()  # type: ignore[no-untyped-call]  # torch
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        cycle.step()


def parameter_groups(
    model: KTDA | UNet, schedule: Schedule
) -> Iterator[dict[str, Any]]:
    """Parameters with their learning rates; biases and norms do not decay.

    Args:
        model: Network.
        schedule: How fast.

    Yields:
        Groups as optimisers of torch take them.
    """
    for name, parameter in model.named_parameters():
        pretrained = name.startswith(('backbone.', 'network.encoder.'))
        share = schedule.backbone if pretrained else 1.0
        group: dict[str, Any] = {'params': [parameter], 'lr': schedule.lr * share}
        yield group if parameter.ndim > 1 else group | {'weight_decay': 0.0}


@torch.no_grad()
def evaluate(model: nn.Module, test: Sequence[Pair]) -> list[NDArray[np.int64]]:
    """A confusion matrix of each test image, mapped as a whole.

    Args:
        model: Network.
        test: Images and masks.
    """
    model.eval()
    return [
        confusion_matrix(
            pair.mask.numpy(),
            model(normal(pair.image)[None]).argmax(1)[0].numpy(),
            len(CLASSES),
        )
        for pair in test
    ]
