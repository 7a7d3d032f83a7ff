from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from eoseg.losses import DistillationLoss
from eoseg.losses.distillation import PRESETS

Dim = Literal['width', 'channel', 'spatial']
Reduction = Literal['batchmean', 'mean']
DIMS: tuple[Dim, ...] = ('width', 'channel', 'spatial')


def maps(
    seed: int, shape: tuple[int, ...] = (2, 3, 4, 5), levels: int = 2
) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    return [
        torch.from_numpy(rng.normal(size=shape).astype(np.float32))
        for _ in range(levels)
    ]


def rows(feature: Tensor, dim: Dim) -> list[NDArray[Any]]:
    """The values that each distribution is made of, one after the other."""
    values = feature.double().numpy()
    b, c, h, w = values.shape
    match dim:
        case 'width':
            return [values[i, j, k] for i, j, k in np.ndindex(b, c, h)]
        case 'channel':
            return [values[i, :, j, k] for i, j, k in np.ndindex(b, h, w)]
        case 'spatial':
            return [values[i, j].ravel() for i, j in np.ndindex(b, c)]


def divergences(
    student: Tensor, teacher: Tensor, dim: Dim, temperature: float
) -> list[float]:
    result = []
    for s, t in zip(rows(student, dim), rows(teacher, dim), strict=True):
        p, q = np.exp(t / temperature), np.exp(s / temperature)
        p, q = p / p.sum(), q / q.sum()
        result.append(float((p * np.log(p / q)).sum()) * temperature**2)
    return result


@pytest.mark.parametrize('temperature', [1.0, 3.0])
@pytest.mark.parametrize('reduction', ['batchmean', 'mean'])
@pytest.mark.parametrize('dim', DIMS)
def test_divergence_is_that_of_a_computation_row_by_row(
    dim: Dim, reduction: Reduction, temperature: float
) -> None:
    students, teachers = maps(0), maps(1)
    levels = [
        divergences(s, t, dim, temperature)
        for s, t in zip(students, teachers, strict=True)
    ]
    count = 2 if reduction == 'batchmean' else len(levels[0])
    expected = np.mean([sum(level) / count for level in levels])
    loss = DistillationLoss(temperature, kl_dim=dim, kl_reduction=reduction)
    assert loss(students, teachers).kl.item() == pytest.approx(expected, rel=1e-5)


def test_total_weights_the_divergence_and_the_squared_difference() -> None:
    students, teachers = maps(0), maps(1)
    terms = DistillationLoss(kl_weight=0.25, mse_weight=2.0)(students, teachers)
    difference = [
        (s - t).square().mean() for s, t in zip(students, teachers, strict=True)
    ]
    assert terms.mse.item() == pytest.approx(torch.stack(difference).mean().item())
    expected = 0.25 * terms.kl.item() + 2.0 * terms.mse.item()
    assert terms.total.item() == pytest.approx(expected)


def test_paper_is_the_default_and_sums_over_all_rows_of_an_image() -> None:
    students, teachers = maps(0), maps(1)
    per_row = [
        divergences(s, t, 'width', 1.0) for s, t in zip(students, teachers, strict=True)
    ]
    mse = [
        ((s - t) ** 2).mean().item() for s, t in zip(students, teachers, strict=True)
    ]
    expected = np.mean(
        [0.5 * sum(kl) / 2 + 0.5 * m for kl, m in zip(per_row, mse, strict=True)]
    )
    for loss in (DistillationLoss(), DistillationLoss(preset='paper')):
        assert loss(students, teachers).total.item() == pytest.approx(
            expected, rel=1e-5
        )


def test_balanced_does_not_grow_with_the_size_of_the_maps() -> None:
    # Twice the rows and channels, of the same numbers.
    small = [torch.randn(1, 2, 4, 8)]
    large = [small[0].repeat(1, 2, 2, 1)]
    zeros = [[torch.zeros_like(feature) for feature in m] for m in (small, large)]
    paper, balanced = DistillationLoss(), DistillationLoss(preset='balanced')
    a, b = [
        balanced(s, t).total.item() for s, t in zip(zeros, (small, large), strict=True)
    ]
    assert b == pytest.approx(a)
    a, b = [paper(s, t).kl.item() for s, t in zip(zeros, (small, large), strict=True)]
    assert b == pytest.approx(4 * a)


def test_arguments_change_a_preset_one_by_one() -> None:
    loss = DistillationLoss(preset='balanced', kl_weight=0.0)
    assert loss.kl_weight == 0
    assert loss.mse_weight == PRESETS['balanced']['mse_weight']
    assert loss.kl_reduction == 'mean'


@given(seed=st.integers(0, 99), scale=st.floats(0.1, 10))
def test_normalised_difference_is_blind_to_the_length_of_a_feature(
    seed: int, scale: float
) -> None:
    students, teachers = maps(seed), maps(seed + 100)
    loss = DistillationLoss(normalize=True)
    longer = [student * scale for student in students]
    difference = loss(students, teachers).mse.item()
    assert loss(longer, teachers).mse.item() == pytest.approx(difference, rel=1e-4)
    # Unit vectors of 3 channels: 2 - 2 cos, a third of it on average.
    cos = [
        torch.cosine_similarity(s, t, dim=1).mean().item()
        for s, t in zip(students, teachers, strict=True)
    ]
    assert difference == pytest.approx((2 - 2 * float(np.mean(cos))) / 3, rel=1e-4)


@given(
    shape=st.tuples(*[st.integers(1, 4)] * 4),
    dim=st.sampled_from(DIMS),
    temperature=st.floats(0.5, 4.0),
)
def test_equal_maps_differ_by_nothing(
    shape: tuple[int, ...], dim: Dim, temperature: float
) -> None:
    features = maps(0, shape)
    terms = DistillationLoss(temperature, kl_dim=dim)(features, features)
    assert terms.kl.item() == pytest.approx(0, abs=1e-6)
    assert terms.mse.item() == 0


@given(seed=st.integers(0, 99), dim=st.sampled_from(DIMS))
def test_divergence_is_never_negative(seed: int, dim: Dim) -> None:
    terms = DistillationLoss(kl_dim=dim)(maps(seed), maps(seed + 100))
    assert terms.kl.item() >= 0


@pytest.mark.parametrize(('dim', 'blind'), [('width', True), ('channel', False)])
def test_offset_of_a_row_is_seen_across_channels_only(dim: Dim, blind: bool) -> None:
    teachers = maps(1)
    offset = torch.arange(12.0).reshape(1, 3, 4, 1)
    students = [teacher + offset for teacher in teachers]
    kl = DistillationLoss(kl_dim=dim)(students, teachers).kl.item()
    assert (kl < 1e-4) == blind


def test_confident_teacher_and_student_that_disagree_give_a_finite_loss() -> None:
    teachers = [torch.tensor([[[[200.0, -200.0]]]]).requires_grad_()]
    students = [-teacher.detach() for teacher in teachers]
    students[0].requires_grad_()
    terms = DistillationLoss()(students, teachers)
    terms.total.backward()
    assert terms.kl.item() == pytest.approx(400)
    assert students[0].grad is not None
    assert students[0].grad.isfinite().all()


def test_half_precision_is_left_for_float32() -> None:
    students, teachers = maps(0), maps(1)
    loss = DistillationLoss()
    exact = loss(
        [s.bfloat16().float() for s in students],
        [t.bfloat16().float() for t in teachers],
    )
    with torch.autocast('cpu', torch.bfloat16):
        terms = loss([s.bfloat16() for s in students], [t.bfloat16() for t in teachers])
    assert terms.total.dtype == torch.float32
    assert terms.total.item() == pytest.approx(exact.total.item(), rel=1e-6)


@pytest.mark.parametrize(
    'teachers', [maps(1, levels=1), maps(1, (2, 3, 4, 4)), maps(1, (1, 3, 4, 5)), []]
)
def test_maps_that_do_not_correspond_are_refused(teachers: list[Tensor]) -> None:
    with pytest.raises(ValueError, match='same number of maps, of the same shapes'):
        DistillationLoss()(maps(0), teachers)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'temperature': 0}, 'temperature must be positive, got 0'),
        ({'mse_weight': -1}, 'at least 0, got 0.5 and -1'),
        ({'preset': 'best'}, "'paper' or 'balanced', got 'best'"),
        ({'kl_dim': 'height'}, "'width', 'channel' or 'spatial', got 'height'"),
        ({'kl_reduction': 'sum'}, "'batchmean' or 'mean', got 'sum'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationLoss(**arguments)
