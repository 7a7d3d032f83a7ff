from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from eoseg.losses import DistillationLoss

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
        ({'kl_dim': 'height'}, "'width', 'channel' or 'spatial', got 'height'"),
        ({'kl_reduction': 'sum'}, "'batchmean' or 'mean', got 'sum'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationLoss(**arguments)
