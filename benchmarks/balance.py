"""How large is the loss of the teacher beside that of the labels?

    python -m benchmarks.balance DATA --weights DIR

DATA and DIR are those of ``benchmarks.clouds``. A small KTDA network sees six patches of
the images and the maps of the teacher as they are, as in
:class:`eoseg.tasks.Distillation`, before training and after some steps of it. The table
has, for settings of the loss, its ratio to the cross-entropy of the labels, and the ratio
of the norms of their gradients with respect to the backbone.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from eoseg.losses import DistillationLoss, masked_cross_entropy
from eoseg.models import KTDA, Teacher

from .lessons import TEACHER, read_pairs
from .pictures import normal
from .students import BACKBONE, CLASSES
from .tables import markdown

#: Patches of the images, from which scenes are drawn evenly.
COUNT = 6

#: Training between the two looks, with the preset ``balanced``.
STEPS = 25
LR = 6e-4

COLUMNS = (
    'steps',
    'side',
    'loss',
    'loss / that of labels',
    'gradient / that of labels',
)

#: Arguments of the loss, by name.
SETTINGS: dict[str, dict[str, Any]] = {
    'paper': {'preset': 'paper'},
    'balanced': {'preset': 'balanced'},
    'balanced over channels': {'preset': 'balanced', 'kl_dim': 'channel'},
    'balanced, weights of 0.1': {
        'preset': 'balanced',
        'kl_weight': 0.1,
        'mse_weight': 0.1,
    },
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table.

    Args:
        arguments: Words of the command line.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data', type=Path)
    parser.add_argument('--weights', type=Path, required=True)
    parser.add_argument('--sides', nargs='+', type=int, default=[128, 256])
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    teacher = Teacher(TEACHER, options.weights / f'{TEACHER}.safetensors')
    model = KTDA(
        3,
        len(CLASSES),
        backbone=BACKBONE,
        backbone_weights=str(options.weights / f'{BACKBONE}.safetensors'),
        dim=teacher.dim,
        align='student',
        decoder_channels=64,
        head_channels=64,
        modulation='none',
        auxiliary=False,
    )
    rows: list[list[object]] = []
    for steps in (0, STEPS):
        train(model, *patches(options.data, min(options.sides)), teacher, steps)
        for side in options.sides:
            found = ratios(model, *patches(options.data, side), teacher)
            rows += [
                [steps, side, name, f'{loss:.2f}', f'{gradient:.2f}']
                for name, loss, gradient in found
            ]
    print(markdown(COLUMNS, rows))


def patches(data: Path, side: int) -> tuple[Tensor, Tensor]:
    """The centres of some images, normalised, and of their masks.

    Args:
        data: Folder of images and masks.
        side: Of a patch in pixels.

    Returns:
        Images of shape (COUNT, 3, side, side) and masks of shape (COUNT, side, side).
    """
    pairs = read_pairs(data)
    chosen = pairs[:: len(pairs) // COUNT][:COUNT]
    top, left = ((length - side) // 2 for length in chosen[0].mask.shape)
    rows, cols = slice(top, top + side), slice(left, left + side)
    images = torch.stack([pair.image[:, rows, cols] for pair in chosen])
    masks = torch.stack([pair.mask[rows, cols] for pair in chosen])
    return normal(images), masks


def train(
    model: KTDA, image: Tensor, mask: Tensor, teacher: Teacher, steps: int
) -> None:
    """Train on one batch, with the preset ``balanced``.

    Args:
        model: Student, changed in place.
        image: Images of shape (B, 3, H, W).
        mask: Masks of shape (B, H, W).
        teacher: Gives the maps.
        steps: How long.
    """
    criterion = DistillationLoss(preset='balanced')
    optimizer = AdamW(model.parameters(), LR)
    maps = teacher(image)
    model.train()
    for _ in range(steps):
        output = model.forward_train(image)
        told = masked_cross_entropy(output.logits, mask)
        loss: Tensor = told + criterion(output.aligned, maps).total
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimizer.step()


def ratios(
    model: KTDA, image: Tensor, mask: Tensor, teacher: Teacher
) -> Iterator[tuple[str, float, float]]:
    """Compare the loss of the teacher with that of the labels.

    Args:
        model: Student.
        image: Images of shape (B, 3, H, W).
        mask: Masks of shape (B, H, W).
        teacher: Gives the maps.

    Yields:
        Name of the settings, ratio of the losses and ratio of the norms of their gradients.
    """
    output = model.forward_train(image)
    maps = teacher(image)
    told = masked_cross_entropy(output.logits, mask)
    norm = _gradient(told, model)
    for name, arguments in SETTINGS.items():
        taught = DistillationLoss(**arguments)(output.aligned, maps).total
        yield name, float(taught / told), _gradient(taught, model) / norm


def _gradient(loss: Tensor, model: KTDA) -> float:
    gradients = torch.autograd.grad(
        loss, [*model.backbone.parameters()], retain_graph=True, allow_unused=True
    )
    parts = [gradient.flatten() for gradient in gradients if gradient is not None]
    return float(torch.cat(parts).norm())


if __name__ == '__main__':
    main()
