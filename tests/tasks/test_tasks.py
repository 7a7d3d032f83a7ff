"""Tasks: which losses they add up, what they train, what they save."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eoseg.inputs import Inputs
from eoseg.losses import masked_cross_entropy
from eoseg.tasks import Distillation, Segmentation
from eoseg.tasks.base import Task, agreement
from eoseg.tasks.figure import GAP, comparison
from eoseg_datasets.classes import Legend

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


@pytest.mark.parametrize('kind', ['segmentation', 'distillation'])
def test_a_batch_of_two_domains_is_refused(kind: str) -> None:
    task: Task = (
        distillation(teacher=TEACHER)
        if kind == 'distillation'
        else Segmentation(INPUTS, network={'backbone': 'resnet10t'})
    )
    pair: Any = {'source': batch(), 'target': batch()}
    with pytest.raises(
        ValueError, match=r'learns from one domain; .* source and target'
    ):
        task.training_step(pair, 0)


def test_terms_of_the_distillation_and_its_levels_are_told() -> None:
    task = distillation(teacher=TEACHER, distillation={'kl_reduction': 'mean'})
    losses = task.losses(batch())
    expected = 0.5 * losses['kl'].item() + 0.5 * losses['mse'].item()
    assert losses['distillation'].item() == pytest.approx(expected)
    levels = [losses[f'similarity_{level}'].item() for level in range(4)]
    assert losses['similarity'].item() == pytest.approx(sum(levels) / 4)
    assert len(set(levels)) == 4


def test_agreement_is_one_of_equal_maps_and_minus_one_of_opposite() -> None:
    feature = torch.randn(1, 3, 4, 4)
    levels = agreement([feature, feature], [2 * feature, -feature])
    torch.testing.assert_close(levels, torch.tensor([1.0, -1.0]))


def test_teacher_gets_the_bands_of_the_names() -> None:
    task = distillation(teacher=TEACHER | {'bands': ['B4', 'B3', 'B2']})
    assert task._teacher[0].rgb == [2, 1, 0]
    assert distillation(teacher=TEACHER)._teacher[0].rgb == [0, 1, 2]


@pytest.mark.parametrize('bands', [['B4', 'B3', 'B5'], ['B4', 'B3']])
def test_unknown_bands_for_the_teacher_are_named(bands: list[str]) -> None:
    with pytest.raises(ValueError, match=r'B2, B3, B4, B8\); got B4, B3'):
        distillation(teacher=TEACHER | {'bands': bands})


def test_maps_of_the_teacher_are_kept_where_a_folder_is_named(tmp_path: Path) -> None:
    task = distillation(teacher=TEACHER | {'cache': str(tmp_path)})
    first, again = task.losses(batch()), task.losses(batch())
    assert len(list(tmp_path.rglob('*.safetensors'))) == 2
    assert first['distillation'].item() == pytest.approx(again['distillation'].item())
    plain = distillation(teacher=TEACHER).losses(batch())
    assert first['mse'].item() == pytest.approx(plain['mse'].item(), rel=1e-3)


def test_backbone_stays_as_it_is_where_asked() -> None:
    task = distillation(freeze_backbone=True).train()
    torch.autograd.backward(task.losses(batch())['loss'])
    taught = {
        name.split('.')[1]
        for name, parameter in task.model.named_parameters()
        if parameter.grad is not None and name.startswith('backbone')
    }
    assert taught == {'norms'}


@pytest.mark.parametrize(('double', 'expected'), [(False, 1), (True, 2)])
def test_student_runs_twice_where_asked(double: bool, expected: int) -> None:
    task = distillation(teacher=TEACHER, double_forward=double)
    calls: list[str] = []
    task.model.backbone.register_forward_hook(lambda *_: calls.append('ran'))
    task.losses(batch())
    assert len(calls) == expected


def test_heads_of_several_levels_are_averaged() -> None:
    network = NETWORK | {'auxiliary': {'levels': [0, 1]}}
    torch.manual_seed(0)
    task = Distillation(INPUTS, network).eval()
    given = batch()
    output = task.model.forward_train(task.network_input(given))
    assert output.auxiliary is not None
    each = [
        masked_cross_entropy(logits, given['mask']).item()
        for logits in output.auxiliary.chunk(2)
    ]
    assert each[0] != each[1]
    loss = task.losses(given)['auxiliary'].item()
    assert loss == pytest.approx(0.4 * sum(each) / 2)


def test_images_with_other_bands_are_refused() -> None:
    given = batch()
    given['image'] = given['image'][:, :3]
    with pytest.raises(ValueError, match=r'takes 4 bands \(B2, B3, B4, B8\).* have 3'):
        distillation().losses(given)


@pytest.mark.parametrize('value', [3, 7, -1])
def test_masks_with_other_classes_are_refused(value: int) -> None:
    given = batch()
    given['mask'][0, 0, 0] = value
    with pytest.raises(
        ValueError, match=rf'values {value}, .* 3 classes \(0 a to 2 c\)'
    ):
        distillation().losses(given)


def test_patches_too_small_for_the_network_are_refused() -> None:
    small = {key: value[..., :16, :16] for key, value in batch().items()}
    with pytest.raises(ValueError, match='at least 32 x 32 pixels, got 16 x 16'):
        distillation(teacher=TEACHER).losses(small)


def test_missing_weights_of_the_teacher_are_named_with_their_source() -> None:
    with pytest.raises(
        FileNotFoundError, match=r'none\.safetensors.*huggingface\.co/timm'
    ):
        distillation(teacher=TEACHER | {'weights': 'none.safetensors'})


def test_first_patches_of_a_validation_are_shown() -> None:
    given = batch()
    prediction = torch.zeros_like(given['mask'])
    legend = Legend(INPUTS.classes, INPUTS.colors)
    picture = comparison(given, prediction, legend)
    assert picture.shape == (2 * (32 + GAP), 3 * (32 + GAP), 3)
    answer = picture[:32, 2 * (32 + GAP) : 3 * 32 + 2 * GAP]
    assert (answer == legend.rgb(0)).all()
    truth = picture[:32, 32 + GAP : 2 * 32 + GAP]
    label = int(given['mask'][0, 5, 6])
    assert truth[5, 6].tolist() == list(legend.rgb(label))
    hidden = ~given['valid'][0].numpy()
    assert (picture[:32, :32][hidden] == 255).all()


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
