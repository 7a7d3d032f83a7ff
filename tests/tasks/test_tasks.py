"""Tasks: which losses they add up, what they train, what they save."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from eoseg.inputs import Inputs
from eoseg.tasks import Distillation, Segmentation
from eoseg.tasks.base import Task

INPUTS = Inputs(
    bands=('B2', 'B3', 'B4', 'B8'),
    mean=(1.0, 2.0, 3.0, 4.0),
    std=(1.0, 1.0, 2.0, 2.0),
    classes=('a', 'b', 'c'),
    colors=('#000000', '#888888', '#ffffff'),
    patch_size=32,
)
NETWORK = {
    'backbone': 'resnet10t', 'decoder_channels': 16, 'head_channels': 16,
    'modulation': 'none', 'align': 'student',
}  # fmt: skip
TEACHER = {
    'name': 'vit_tiny_patch16_224', 'patch_size': 8, 'depth': 4, 'embed_dim': 48,
    'num_heads': 3,
}  # fmt: skip


def batch(labelled: bool = True) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(3, (2, 32, 32), generator=generator)
    return {
        'image': torch.randn(2, 4, 32, 32, generator=generator),
        'mask': mask if labelled else torch.full_like(mask, 255),
        'valid': torch.rand(2, 32, 32, generator=generator) > 0.2,
    }


def distillation(**arguments: Any) -> Distillation:
    torch.manual_seed(0)
    return Distillation(INPUTS, NETWORK, **arguments)


def test_the_loss_is_the_sum_of_its_terms() -> None:
    losses = distillation(teacher=TEACHER).losses(batch())
    terms = ('segmentation', 'auxiliary', 'distillation')
    assert losses['loss'].item() == pytest.approx(sum(losses[t].item() for t in terms))
    assert all(losses[term].item() > 0 for term in terms)
    assert -1 <= losses['similarity'].item() <= 1


def test_without_a_teacher_the_same_network_learns_from_labels_alone() -> None:
    alone, taught = distillation(), distillation(teacher=TEACHER)
    losses = alone.losses(batch())
    assert set(losses) == {'loss', 'segmentation', 'auxiliary'}
    assert alone.state_dict().keys() == taught.state_dict().keys()


def test_the_teacher_is_neither_trained_nor_saved() -> None:
    task = distillation(teacher=TEACHER)
    teacher = task._teacher[0]
    ours = {id(parameter) for parameter in task.parameters()}
    assert not ours & {id(parameter) for parameter in teacher.parameters()}
    assert not any('teacher' in key for key in task.state_dict())
    torch.autograd.backward(task.losses(batch())['loss'])
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert task.model.alignment.projections[0].weight.grad is not None


def test_a_batch_without_labels_has_a_loss_that_is_a_number() -> None:
    for task in (
        distillation(),
        Segmentation(INPUTS, network={'backbone': 'resnet10t'}),
    ):
        losses = task.losses(batch(labelled=False))
        assert math.isfinite(losses['loss'].item())


def test_a_pixel_that_is_not_valid_does_not_change_the_answer() -> None:
    task = distillation().eval()
    clean, spoilt = batch(), batch()
    spoilt['image'] = torch.where(spoilt['valid'][:, None], spoilt['image'], 1e9)
    spoilt['image'][0, :, ~spoilt['valid'][0]] = math.nan
    with torch.no_grad():
        expected = task.model(task.network_input(clean))
        assert torch.equal(task.model(task.network_input(spoilt)), expected)
        nan = clean['image'].masked_fill(~clean['valid'][:, None], math.nan)
        assert torch.equal(task(nan), expected)


@pytest.mark.parametrize('architecture', ['UNet', 'KTDA'])
def test_any_network_can_be_trained_on_labels(architecture: str) -> None:
    network = NETWORK if architecture == 'KTDA' else {'backbone': 'resnet10t'}
    task: Task = Segmentation(INPUTS, architecture, network, dice=0.5)
    assert task.losses(batch())['loss'].item() > 0


def test_a_mistyped_argument_of_the_network_is_named() -> None:
    with pytest.raises(ValueError, match='bakbone'):
        Segmentation(INPUTS, network={'bakbone': 'resnet10t'})
