"""Losses on pseudo-labels and of discriminators, by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eoseg.losses import (
    RunningShares,
    adversarial_loss,
    cross_entropy_over_all,
    discriminator_accuracy,
    discriminator_loss,
    masked_cross_entropy,
    pseudo_labels,
    self_training_loss,
)


def logits_of(*sure: float) -> Tensor:
    """One row of pixels of three classes, the likeliest of which is i mod 3."""
    columns = []
    for i, p in enumerate(sure):
        rest = torch.full((3,), (1 - p) / 2)
        rest[i % 3] = p
        columns.append(rest.log())
    return torch.stack(columns, dim=1)[None, :, None]


ALL = torch.ones(1, 1, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    'sure, confident, fair, expected',
    [
        # q x weight of the class from 0.8 on, q / 2 below.
        ((0.98, 0.99, 0.81, 0.70), 0.5, 0.75, (0.5, 0.75, 1.0, 0.25)),
        ((0.98, 0.60, 0.60, 0.79), 0.25, 0.25, (0.25, 0.125, 0.125, 0.125)),
        # Nobody is sure: no pixel counts.
        ((0.97, 0.97, 0.97, 0.97), 0.0, 1.0, (0.0, 0.0, 0.0, 0.0)),
        ((0.99, 0.99, 0.99, 0.99), 1.0, 1.0, (1.0, 1.5, 2.0, 1.0)),
    ],
)
def test_a_pixel_counts_as_published(
    sure: tuple[float, ...],
    confident: float,
    fair: float,
    expected: tuple[float, ...],
) -> None:
    labels = pseudo_labels(
        logits_of(*sure), ALL, class_weights=torch.tensor([1.0, 1.5, 2.0])
    )
    assert labels.mask.tolist() == [[[0, 1, 2, 0]]]
    assert labels.confident.item() == confident
    assert labels.fair.item() == fair
    assert labels.weight[0, 0].tolist() == pytest.approx(expected)


def test_pixels_that_are_not_valid_have_no_say() -> None:
    valid = torch.tensor([[[True, True, False, False]]])
    labels = pseudo_labels(logits_of(0.98, 0.7, 0.99, 0.99), valid)
    assert labels.confident.item() == 0.5
    assert labels.mask.tolist() == [[[0, 1, 255, 255]]]
    assert labels.weight[0, 0].tolist() == [0.5, 0.25, 0, 0]
    nothing = pseudo_labels(logits_of(0.98, 0.7, 0.99, 0.99), ~ALL)
    student = torch.randn(1, 3, 1, 4, requires_grad=True)
    loss = self_training_loss(student, nothing)
    torch.autograd.backward(loss)
    assert loss.item() == 0 and student.grad is not None
    assert student.grad.abs().max() == 0


def test_the_loss_is_a_weighted_sum_over_pixels() -> None:
    torch.manual_seed(0)
    student = torch.randn(1, 3, 1, 4)
    valid = torch.tensor([[[True, True, True, False]]])
    labels = pseudo_labels(logits_of(0.98, 0.9, 0.5, 0.99), valid)
    classes = torch.tensor([1.0, 2.0, 3.0])
    log_p = student.log_softmax(dim=1)[0, :, 0]
    third = 1 / 3
    total = -(
        third * 1.0 * log_p[0, 0]
        + third * 2.0 * log_p[1, 1]
        + third / 2 * 3.0 * log_p[2, 2]
    )
    found = self_training_loss(student, labels, classes)
    assert found.item() == pytest.approx(total.item() / 3)
    found = self_training_loss(student, labels, classes, 'all')
    assert found.item() == pytest.approx(total.item() / 4)


def test_shares_follow_the_batches_slowly() -> None:
    shares = RunningShares(3)
    mask = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 255, -1]])
    assert shares(mask).tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert shares.shares[0].item() == pytest.approx(0.95 / 3 + 0.05 * 0.6)
    for _ in range(400):
        shares(mask)
    assert shares.shares.tolist() == pytest.approx([0.6, 0.3, 0.1])


def test_nothing_valid_changes_no_share() -> None:
    shares = RunningShares(2)
    assert shares(torch.tensor([255, 255])).tolist() == [0, 0]
    assert shares.shares.tolist() == [0.5, 0.5]


def test_over_all_pixels_those_without_a_label_make_the_loss_smaller() -> None:
    logits = torch.randn(1, 3, 1, 4)
    mask = torch.tensor([[[0, 1, 255, 255]]])
    mean = masked_cross_entropy(logits, mask)
    assert cross_entropy_over_all(logits, mask).item() == pytest.approx(mean.item() / 2)
    weight = torch.tensor([2.0, 2.0, 2.0])
    assert cross_entropy_over_all(logits, mask, 255, weight).item() == pytest.approx(
        mean.item()
    )
    mask = torch.tensor([[[0, 1, 2, 1]]])
    expected = F.cross_entropy(logits, mask)
    assert cross_entropy_over_all(logits, mask).item() == pytest.approx(expected.item())


def test_a_discriminator_that_says_nothing_costs_ln_2_each() -> None:
    nothing = torch.zeros(2, 1, 3, 3)
    assert adversarial_loss(nothing, True).item() == pytest.approx(math.log(2))
    assert discriminator_loss(nothing, nothing).item() == pytest.approx(2 * math.log(2))


def test_a_discriminator_that_is_right_is_deceived_at_a_cost() -> None:
    real, fake = torch.tensor([3.0, 4.0]), torch.tensor([-3.0, 2.0])
    assert discriminator_accuracy(real, fake).item() == 0.75
    assert adversarial_loss(fake[:1], True).item() == pytest.approx(
        math.log(1 + math.exp(3))
    )
    assert adversarial_loss(fake[:1], False).item() == pytest.approx(
        math.log(1 + math.exp(-3))
    )
    swapped = discriminator_loss(fake, real).item()
    assert discriminator_loss(real, fake).item() < swapped
