"""Distances of feature maps: what they are blind to, what they ignore, and shifts."""

import pytest
import torch
from torch import Tensor

from eoseg.losses import FeatureDistance, logit_distance
from eoseg.losses.feature_distance import Distance

CHANNELS = {'f1': 6, 'f2': 4}
EVERY: tuple[Distance, ...] = ('cosine', 'mse', 'l1', 'cwd', 'attention')
SEEN = torch.ones(2, 32, 32, dtype=torch.bool)


def maps(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        'f1': torch.randn(2, 6, 8, 8, generator=generator),
        'f2': torch.randn(2, 4, 4, 4, generator=generator),
    }


def plain(distance: Distance = 'cosine', tolerance: int = 0) -> FeatureDistance:
    return FeatureDistance(
        CHANNELS, distance=distance, projector=False, tolerance=tolerance
    )


@pytest.mark.parametrize('distance', EVERY)
def test_equal_maps_have_no_distance_and_others_have_one(distance: Distance) -> None:
    criterion = plain(distance)
    same = criterion(maps(0), maps(0), SEEN)
    assert same.total.item() == pytest.approx(0, abs=1e-6)
    assert criterion(maps(0), maps(1), SEEN).total > 1e-3


def test_the_cosine_does_not_see_the_scale_of_either_side() -> None:
    student, teacher = maps(0), maps(1)
    expected = plain()(student, teacher, SEEN).total
    large = {level: 50 * feature for level, feature in student.items()}
    small = {level: 0.02 * feature for level, feature in teacher.items()}
    torch.testing.assert_close(plain()(large, small, SEEN).total, expected)


def test_the_cosine_is_that_of_the_channels() -> None:
    student, teacher = maps(0), maps(1)
    levels = [
        (2 - 2 * torch.cosine_similarity(student[name], teacher[name])).mean()
        for name in CHANNELS
    ]
    total = plain()(student, teacher, SEEN).total
    torch.testing.assert_close(total, torch.stack(levels).mean())


@pytest.mark.parametrize('distance', EVERY)
def test_what_one_sensor_has_not_seen_does_not_count(distance: Distance) -> None:
    seen = SEEN.clone()
    seen[0, :16] = False
    student, teacher = maps(0), maps(1)
    expected = plain(distance)(student, teacher, seen).total
    for level, rows in (('f1', 4), ('f2', 2)):
        teacher[level][0, :, :rows] = 1e3
    torch.testing.assert_close(plain(distance)(student, teacher, seen).total, expected)


@pytest.mark.parametrize('distance', EVERY)
def test_nothing_seen_is_no_distance_and_no_gradient(distance: Distance) -> None:
    student = {level: feature.requires_grad_() for level, feature in maps(0).items()}
    total = plain(distance)(student, maps(1), ~SEEN).total
    torch.autograd.backward(total)
    assert total.item() == 0
    gradients = [feature.grad for feature in student.values()]
    assert all(g is not None and not g.any() for g in gradients)


@pytest.mark.parametrize('distance', EVERY)
def test_the_student_and_its_projector_learn_and_the_teacher_does_not(
    distance: Distance,
) -> None:
    torch.manual_seed(0)
    criterion = FeatureDistance(CHANNELS, distance=distance)
    student = {level: feature.requires_grad_() for level, feature in maps(0).items()}
    teacher = {level: feature.requires_grad_() for level, feature in maps(1).items()}
    torch.autograd.backward(criterion(student, teacher, SEEN).total)
    assert all(bool(m.grad.abs().sum() > 0) for m in student.values())  # type: ignore[union-attr]
    assert all(m.grad is None for m in teacher.values())
    learned = [p.grad is not None for p in criterion.parameters()]
    assert learned == [True] * (0 if distance == 'attention' else 6)


def test_only_the_levels_that_are_asked_for_count() -> None:
    criterion = FeatureDistance(CHANNELS, ['f2'], projector=False)
    student, teacher = maps(0), maps(1)
    terms = criterion(student, teacher, SEEN)
    assert list(terms.levels) == ['f2']
    torch.testing.assert_close(terms.total, terms.levels['f2'])


@pytest.mark.parametrize('down, right', [(0, 0), (4, 0), (-4, 4)])
def test_a_misplaced_teacher_is_moved_to_where_it_fits(down: int, right: int) -> None:
    student = maps(0)
    # As if the optical image lay further up and to the left by so many pixels.
    teacher = {'f1': student['f1'].roll((-down // 4, -right // 4), (-2, -1))}
    teacher['f2'] = student['f2']
    terms = plain(tolerance=4)(student, teacher, SEEN)
    assert terms.shift.tolist() == [[down, right]] * 2
    assert terms.total.item() == pytest.approx(0, abs=1e-6)
    assert (plain()(student, teacher, SEEN).total > 0.1) == ((down, right) != (0, 0))


def test_each_pair_is_moved_by_itself() -> None:
    student = maps(0)
    teacher = {level: feature.clone() for level, feature in student.items()}
    teacher['f1'][1] = student['f1'][1].roll(-1, -1)
    assert plain(tolerance=4)(student, teacher, SEEN).shift.tolist() == [[0, 0], [0, 4]]


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'levels': ['f9']}, 'some of f1, f2, got f9'),
        ({'levels': []}, 'got none'),
        ({'distance': 'psnr'}, "cosine, .*cwd, got 'psnr'"),
        ({'tolerance': -1}, 'tolerance must be at least 0'),
    ],
)
def test_mistaken_arguments_are_named(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureDistance(CHANNELS, **arguments)  # type: ignore[arg-type]


def test_classes_are_compared_where_both_have_seen() -> None:
    student, teacher = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    assert logit_distance(teacher, teacher, SEEN).item() == pytest.approx(0, abs=1e-6)
    assert logit_distance(student, teacher, SEEN) > 0
    assert logit_distance(student, teacher, ~SEEN) == 0
    seen = SEEN.clone()
    seen[0] = False
    expected = logit_distance(student[1:], teacher[1:], SEEN[1:])
    torch.testing.assert_close(logit_distance(student, teacher, seen), expected)
