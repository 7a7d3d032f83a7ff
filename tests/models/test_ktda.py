import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from eoseg.losses import DistillationLoss
from eoseg.models import KTDA, Backbone, FeatureAlignment, Teacher

DATA = Path(os.environ.get('EOSEG_DATA') or Path(__file__).parents[3] / 'shared/data')
DINOV2 = DATA / 'weights_dinov2_vits14' / 'dinov2_vits14_timm.fp16.safetensors'
LITE0 = (
    DATA / 'weights_efficientnet_lite0' / 'tf_efficientnet_lite0_in1k.fp16.safetensors'
)


def tiny_ktda(**kwargs: Any) -> KTDA:
    arguments: dict[str, Any] = {
        'backbone': 'mobilenetv3_small_050',
        'dim': 16,
        'modulation': {'kind': 'vit', 'depth': 1},
        'head_channels': 8,
    }
    torch.manual_seed(0)
    return KTDA(3, 5, **arguments | kwargs)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_published_model_has_the_published_size() -> None:
    with torch.device('meta'):
        model = KTDA(3, num_classes=5, drop_path_rate=0.4)
    assert {name: count(module) for name, module in model.named_children()} == {
        'backbone': 87_568_256,
        'alignment': 1_477_632,
        'neck': 23_599_104,
        'modulation': 113_405_952,
        'head': 32_258_565,
        'auxiliary': 1_771_269,
    }
    assert count(model) == 260_080_778


def test_published_model_without_the_auxiliary_head_has_the_published_size() -> None:
    with torch.device('meta'):
        assert count(KTDA(3, num_classes=5, auxiliary=False)) == 258_309_509


def test_published_student_has_the_published_size() -> None:
    with torch.device('meta'):
        assert count(Backbone('convnext_base', 3, norm=False)) == 87_564_416


@pytest.mark.parametrize('align', ['teacher', 'student'])
@pytest.mark.parametrize('size', [(64, 64), (47, 70)])
def test_logits_have_the_size_of_the_image_and_maps_lie_on_the_grid_of_the_teacher(
    align: str, size: tuple[int, int]
) -> None:
    output = tiny_ktda(align=align).forward_train(torch.randn(2, 3, *size))
    assert output.logits.shape == (2, 5, *size)
    assert output.auxiliary is not None
    assert output.auxiliary.shape == (2, 5, *size)
    rows, columns = -(-size[0] // 14), -(-size[1] // 14)
    assert [m.shape for m in output.aligned] == [(2, 16, rows, columns)] * 4


def test_teacher_sees_the_same_maps_whichever_the_decoder_gets() -> None:
    image = torch.randn(1, 3, 64, 96)
    published = tiny_ktda(align='teacher').eval().forward_train(image)
    improved = tiny_ktda(align='student').eval().forward_train(image)
    for a, b in zip(published.aligned, improved.aligned, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.allclose(published.logits, improved.logits, atol=1e-4)


def test_projection_and_resize_commute() -> None:
    alignment = FeatureAlignment([4], 3)
    feature = torch.randn(1, 4, 16, 24)
    size = (5, 7)
    resized = F.interpolate(feature, size, mode='bilinear')
    torch.testing.assert_close(
        F.interpolate(alignment([feature])[0], size, mode='bilinear'),
        alignment([resized])[0],
    )


@pytest.mark.parametrize(
    ('align', 'neck', 'expected'),
    [
        ('teacher', True, [20, 10, 5, 2]),
        ('teacher', False, [5, 5, 5, 5]),
        ('student', True, [16, 8, 4, 2]),
        ('student', False, [16, 8, 4, 2]),
    ],
)
def test_decoder_gets_the_grid_that_align_names(
    align: str, neck: bool, expected: list[int]
) -> None:
    model = tiny_ktda(align=align, neck=neck).eval()
    sides: list[int] = []
    model.head.register_forward_pre_hook(
        lambda _, args: sides.extend(m.shape[-1] for m in args[0])
    )
    model(torch.randn(1, 3, 64, 64))
    assert sides == expected


@pytest.mark.parametrize('align', ['teacher', 'student'])
def test_prediction_and_training_give_the_same_logits(align: str) -> None:
    model = tiny_ktda(align=align).eval()
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(image), model.forward_train(image).logits)


def test_student_runs_once_per_step() -> None:
    model = tiny_ktda()
    calls: list[nn.Module] = []
    model.backbone.register_forward_hook(lambda module, _, __: calls.append(module))
    model.forward_train(torch.randn(2, 3, 64, 64))
    assert len(calls) == 1


@pytest.mark.parametrize('modulation', ['vit', 'pooled', 'window', 'mlp', 'none'])
@pytest.mark.parametrize('align', ['teacher', 'student'])
def test_every_parameter_learns(align: str, modulation: str) -> None:
    model = tiny_ktda(align=align, modulation=modulation)
    output = model.forward_train(torch.randn(2, 3, 64, 64))
    assert output.auxiliary is not None
    teacher = [torch.randn_like(feature) for feature in output.aligned]
    distillation = DistillationLoss()(output.aligned, teacher).total
    (output.logits.square().mean() + output.auxiliary.mean() + distillation).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None]
    assert not idle


def test_distillation_teaches_the_backbone_and_the_alignment_alone() -> None:
    model = tiny_ktda()
    output = model.forward_train(torch.randn(2, 3, 64, 64))
    teacher = [torch.randn_like(feature) for feature in output.aligned]
    DistillationLoss()(output.aligned, teacher).total.backward()
    taught = {
        n.split('.')[0] for n, p in model.named_parameters() if p.grad is not None
    }
    assert taught == {'backbone', 'alignment'}


@pytest.mark.parametrize('levels', ['last', 'sum'])
def test_of_four_maps_the_last_or_their_sum_can_go_on(levels: str) -> None:
    model = tiny_ktda(levels=levels).eval()
    image = torch.randn(1, 3, 64, 96)
    output = model.forward_train(image)
    assert [m.shape for m in output.aligned] == [(1, 16, 5, 7)]
    assert output.logits.shape == (1, 5, 64, 96)
    four = [torch.full((1, 2, 3, 3), float(2**i)) for i in range(4)]
    (compared,) = model.teacher_maps(four)
    assert sorted(set(compared.flatten().tolist())) == [
        8.0 if levels == 'last' else 15.0
    ]


def test_maps_of_the_sum_are_added_where_they_are_compared() -> None:
    summed = tiny_ktda(levels='sum').eval()
    every = tiny_ktda(levels='all').eval()
    image = torch.randn(1, 3, 64, 64)
    expected = torch.stack(every.aligned(image)).sum(dim=0)
    torch.testing.assert_close(summed.aligned(image)[0], expected)


def test_aligned_maps_come_alone_too() -> None:
    model = tiny_ktda(align='student').eval()
    image = torch.randn(1, 3, 64, 64)
    for a, b in zip(
        model.aligned(image), model.forward_train(image).aligned, strict=True
    ):
        assert torch.equal(a, b)


def test_stochastic_depth_draws_anew_in_a_second_pass() -> None:
    model = tiny_ktda(backbone='convnext_atto', drop_path_rate=0.9).train()
    image = torch.randn(1, 3, 64, 64)
    first, second = model.aligned(image), model.aligned(image)
    assert not torch.allclose(first[-1], second[-1])


@pytest.mark.parametrize(
    ('modulation', 'depth'),
    [('vit', 4), ({'kind': 'vit'}, 4), ({'kind': 'pooled', 'depth': 3, 'side': 4}, 3)],
)
def test_modulation_is_a_name_or_arguments(modulation: Any, depth: int) -> None:
    made: Any = tiny_ktda(modulation=modulation).modulation
    assert [len(blocks) for blocks in made.levels] == [depth] * 4


def test_modulation_has_the_heads_and_the_width_that_are_asked_for() -> None:
    arguments = {'kind': 'vit', 'heads': 2, 'mlp_ratio': 2.0}
    transformer: Any = tiny_ktda(modulation=arguments).modulation
    block = transformer.levels[0][0]
    assert block.attn.heads == 2
    assert block.mlp.fc1.out_features == 32
    bottleneck: Any = tiny_ktda(modulation={'kind': 'mlp', 'rank': 8}).modulation
    assert bottleneck.levels[0][0].fc1.out_features == 2


@pytest.mark.parametrize(
    ('source', 'name'),
    [('modulation', 'modulation'), ('neck', 'neck'), ('alignment', 'alignment')],
)
def test_auxiliary_head_learns_with_what_lies_before_it(source: str, name: str) -> None:
    model = tiny_ktda(auxiliary={'source': source}, decoder_channels=8)
    output = model.forward_train(torch.randn(2, 3, 64, 64))
    assert output.auxiliary is not None
    torch.autograd.backward(output.auxiliary.square().mean())
    path = ['backbone', 'alignment', 'neck', 'modulation']
    taught = {
        n.split('.')[0] for n, p in model.named_parameters() if p.grad is not None
    }
    assert taught == {*path[: path.index(name) + 1], 'auxiliary'}


def test_heads_on_every_level_give_their_logits_one_after_the_other() -> None:
    model = tiny_ktda(auxiliary={'levels': [0, 1, 2, 3]}).eval()
    output = model.forward_train(torch.randn(2, 3, 64, 64))
    assert output.auxiliary is not None
    assert output.auxiliary.shape == (8, 5, 64, 64)


def test_segformer_head_gives_logits_of_the_same_shape() -> None:
    model = tiny_ktda(head='segformer', neck=False).eval()
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 5, 64, 64)


def test_checkpoint_without_the_auxiliary_head_predicts_the_same() -> None:
    trained = tiny_ktda().eval()
    kept = {
        name: tensor
        for name, tensor in trained.state_dict().items()
        if not name.startswith('auxiliary.')
    }
    torch.manual_seed(1)
    model = tiny_ktda(auxiliary=False).eval()
    model.load_state_dict(kept)
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(image), trained(image))
    assert model.forward_train(image).auxiliary is None


def test_one_image_is_a_batch() -> None:
    output = tiny_ktda().forward_train(torch.randn(1, 3, 40, 40))
    assert output.logits.isfinite().all()


def test_half_precision_gives_nearly_the_same_logits() -> None:
    model = tiny_ktda().eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        half = model(image)
    with torch.no_grad():
        full = model(image)
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).abs().max() < 0.05 * full.abs().max()


def test_projections_start_small() -> None:
    torch.manual_seed(0)
    projection: Any = FeatureAlignment([64], 64).projections[0]
    assert projection.weight.std().item() == pytest.approx(0.02, abs=1e-3)
    assert projection.bias.eq(0).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'align': 'both'}, "align must be 'teacher' or 'student', got 'both'"),
        ({'modulation': 'cnn'}, "modulation must be .* got 'cnn'"),
        ({'modulation': {'depth': 2}}, 'modulation must name its kind'),
        ({'levels': 'two'}, "levels must be 'all', 'last' or 'sum', got 'two'"),
        ({'levels': 'sum', 'align': 'student'}, "needs align='teacher'"),
        ({'head': 'fcn'}, "head must be 'uper' or 'segformer', got 'fcn'"),
        ({'auxiliary': {'source': 'head'}}, "source must be .* got 'head'"),
        ({'auxiliary': {'levels': [4]}}, r'levels must be .* 0 to 3 .* got \[4\]'),
        ({'dim': 12}, 'dim must be a multiple of 8, got 12'),
        ({'backbone': 'vit_tiny_patch16_224'}, 'needed are 4, 8, 16, 32'),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_ktda(**arguments)


def test_too_few_maps_are_refused() -> None:
    with pytest.raises(ValueError, match='shorter'):
        FeatureAlignment([3, 4], 2)([torch.zeros(1, 3, 2, 2)])


@pytest.mark.real_data
@pytest.mark.skipif(
    not (DINOV2.exists() and LITE0.exists()),
    reason=f'no {DINOV2.name} and {LITE0.name}; set EOSEG_DATA',
)
def test_real_student_learns_from_the_real_teacher() -> None:
    torch.manual_seed(0)
    teacher = Teacher(weights=DINOV2)
    model = KTDA(
        4,
        3,
        backbone='tf_efficientnet_lite0',
        backbone_weights=str(LITE0),
        dim=teacher.dim,
        align='student',
        modulation='none',
        head_channels=16,
    )
    image = torch.randn(2, 4, 64, 64)
    maps = teacher(image)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses: list[float] = []
    for _ in range(4):
        loss = DistillationLoss()(model.forward_train(image).aligned, maps).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
