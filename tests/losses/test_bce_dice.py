"""Cross-entropy and Dice: the published formula, also where there is nothing to find."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from eoseg.losses import BCEDiceLoss


def two_classes(mask: Tensor) -> Tensor:
    """Logits of two classes from the mask of one."""
    return torch.stack([torch.zeros_like(mask), mask], dim=1)


def test_it_is_the_published_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 8, 8, generator=generator)
    truth = (torch.rand(2, 8, 8, generator=generator) > 0.7).float()
    p = scores.sigmoid()
    dice = 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
    bce = F.binary_cross_entropy_with_logits(scores, truth)
    terms = BCEDiceLoss()(two_classes(scores), truth.long())
    torch.testing.assert_close(terms.bce, bce)
    torch.testing.assert_close(terms.dice, dice)
    torch.testing.assert_close(terms.total, 0.5 * bce + 0.5 * dice)


@given(side=st.integers(1, 12))
def test_what_is_found_where_nothing_is_costs(side: int) -> None:
    nothing = torch.zeros(2, side, side, dtype=torch.long)
    everywhere = BCEDiceLoss()(two_classes(torch.full((2, side, side), 20.0)), nothing)
    nowhere = BCEDiceLoss()(two_classes(torch.full((2, side, side), -20.0)), nothing)
    pixels = 2 * side * side
    assert everywhere.dice.item() == pytest.approx(1 - 1 / (pixels + 1), abs=1e-5)
    assert nowhere.dice.item() == pytest.approx(0, abs=1e-5)


def test_pixels_without_a_label_do_not_count() -> None:
    scores = torch.tensor([[[4.0, -2.0, 9.0]]])
    mask = torch.tensor([[[1, 0, 255]]])
    with_hole = BCEDiceLoss()(two_classes(scores), mask)
    without = BCEDiceLoss()(two_classes(scores[..., :2]), mask[..., :2])
    torch.testing.assert_close(with_hole, without)


def test_a_batch_without_a_label_is_0_and_so_are_its_gradients() -> None:
    scores = torch.randn(1, 2, 4, 4, requires_grad=True)
    terms = BCEDiceLoss()(scores, torch.full((1, 4, 4), 255))
    torch.autograd.backward(terms.total)
    assert terms.total.item() == 0
    assert scores.grad is not None and not scores.grad.any()


def test_of_more_classes_all_but_the_first_count_alike() -> None:
    mask = torch.tensor([[[0, 1, 2, 2]]])
    perfect = 30.0 * F.one_hot(mask, 3).permute(0, 3, 1, 2).float()
    assert BCEDiceLoss()(perfect, mask).total.item() == pytest.approx(0, abs=1e-5)
    # Class 2 taken for background: (2 x 0 + 1) / (0 + 2 + 1) of it is right.
    wrong = perfect.clone()
    wrong[:, 0, :, 2:], wrong[:, 2, :, 2:] = 30.0, 0.0
    dice = BCEDiceLoss()(wrong, mask).dice.item()
    assert dice == pytest.approx((0 + 1 - 1 / 3) / 2, abs=1e-4)


@pytest.mark.parametrize(
    'arguments', [{'bce': -1.0}, {'bce': 0.0, 'dice': 0.0}, {'smooth': 0.0}]
)
def test_senseless_weights_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='must be'):
        BCEDiceLoss(**arguments)


def test_half_precision_is_computed_in_single() -> None:
    terms = BCEDiceLoss()(
        torch.zeros(1, 2, 300, 300).half(), torch.zeros(1, 300, 300).long()
    )
    assert terms.total.dtype == torch.float32
    assert math.isfinite(terms.dice.item())
