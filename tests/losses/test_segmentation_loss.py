import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss  # type: ignore[import-untyped]

from eoseg.losses import SegmentationLoss, dice_loss, focal_loss, masked_cross_entropy

LOSSES = [
    masked_cross_entropy,
    dice_loss,
    focal_loss,
    SegmentationLoss(ce=1.0, dice=1.0, class_weights=[1.0, 2.0, 3.0]),
]


def random_logits(seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))


def random_mask(seed: int = 0) -> Tensor:
    mask = torch.randint(3, (2, 4, 5), generator=torch.Generator().manual_seed(seed))
    mask[0, :2] = 255
    return mask


@pytest.mark.parametrize('weight', [None, torch.tensor([0.5, 1.0, 4.0])])
def test_cross_entropy_is_that_of_torch_where_there_are_labels(
    weight: Tensor | None,
) -> None:
    logits, mask = random_logits(), random_mask()
    loss = masked_cross_entropy(logits, mask, weight=weight)
    expected = F.cross_entropy(logits, mask, weight, ignore_index=255)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize('loss', LOSSES)
def test_batch_without_labels_gives_no_loss_and_no_gradient(
    loss: SegmentationLoss,
) -> None:
    logits = random_logits().requires_grad_()
    value = loss(logits, torch.full((2, 4, 5), 255))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert logits.grad.eq(0).all()


@pytest.mark.parametrize('loss', LOSSES)
def test_pixels_without_a_label_have_no_say(loss: SegmentationLoss) -> None:
    logits, mask = random_logits(), random_mask()
    other = torch.where(mask[:, None] == 255, 10 * random_logits(1), logits)
    assert not torch.equal(other, logits)
    assert loss(other, mask).item() == pytest.approx(loss(logits, mask).item())


def test_dice_loss_is_one_minus_overlap_over_size() -> None:
    # Four pixels: half sure of class 0 where class 0 is, half sure where class 1 is.
    logits = torch.zeros(1, 2, 1, 4)
    mask = torch.tensor([[[0, 0, 0, 1]]])
    # Class 0: overlap 3 x 0.5, sizes 2 and 3. Class 1: overlap 0.5, sizes 2 and 1.
    expected = 1 - (2 * 1.5 / 5 + 2 * 0.5 / 3) / 2
    assert dice_loss(logits, mask).item() == pytest.approx(expected)


def test_dice_loss_leaves_out_classes_that_the_batch_has_not() -> None:
    mask = torch.zeros(1, 2, 2, dtype=torch.int64)
    sure = torch.tensor([50.0, 0.0, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert dice_loss(sure, mask).item() == pytest.approx(0, abs=1e-6)


@given(seed=st.integers(0, 99))
def test_dice_loss_lies_between_zero_and_one(seed: int) -> None:
    loss = dice_loss(5 * random_logits(seed), random_mask(seed)).item()
    assert 0 <= loss <= 1


def test_focal_loss_is_that_of_torchvision_pixel_by_pixel() -> None:
    logits, mask = random_logits(), random_mask()
    truth = F.one_hot(mask.where(mask != 255, 0), 3).movedim(-1, 1).float()
    every = sigmoid_focal_loss(logits, truth, alpha=0.5, gamma=2.0)
    expected = every.movedim(1, -1)[mask != 255].mean()
    assert focal_loss(logits, mask).item() == pytest.approx(expected.item())


def test_losses_are_summed_with_their_weights() -> None:
    logits, mask = random_logits(), random_mask()
    loss = SegmentationLoss(ce=0.5, dice=2.0, focal=3.0)(logits, mask)
    expected = 0.5 * masked_cross_entropy(logits, mask) + 2.0 * dice_loss(logits, mask)
    expected += 3.0 * focal_loss(logits, mask)
    assert loss.item() == pytest.approx(expected.item())


def test_another_value_may_mean_no_label() -> None:
    logits, mask = random_logits(), random_mask()
    zero = mask.where(mask != 255, 0) + (mask != 255)  # classes 1 to 3, 0 for none
    logits = torch.cat([torch.full_like(logits[:, :1], -1e9), logits], dim=1)
    loss = SegmentationLoss(dice=1.0, ignore_index=0)(logits, zero)
    expected = SegmentationLoss(dice=1.0)(logits[:, 1:], mask)
    assert loss.item() == pytest.approx(expected.item())


def test_class_weights_are_no_part_of_a_checkpoint() -> None:
    loss = SegmentationLoss(class_weights=[1, 2])
    assert not loss.state_dict()
    assert loss.class_weights is not None


def test_half_precision_logits_give_a_float32_loss() -> None:
    logits, mask = random_logits().bfloat16(), random_mask()
    loss = SegmentationLoss(dice=1.0)
    value = loss(logits, mask)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(logits.float(), mask).item())


@pytest.mark.parametrize(('ce', 'dice'), [(0, 0), (-1, 1)])
def test_weights_of_the_losses_make_a_loss(ce: float, dice: float) -> None:
    with pytest.raises(ValueError, match=f'one of them positive; got {ce}, {dice} and'):
        SegmentationLoss(ce, dice)
