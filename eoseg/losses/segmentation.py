"""Losses between logits and masks that know pixels without a label."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def masked_cross_entropy(
    logits: Tensor,
    mask: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of the labelled pixels.

    Args:
        logits: Logits of shape (B, K, H, W).
        mask: Classes of shape (B, H, W).
        ignore_index: Value of pixels without a label.
        weight: Weight of each class, of shape (K,). The mean is then a weighted one.

    Returns:
        The loss. Without a labelled pixel it is 0, and so are its gradients, where
        :func:`torch.nn.functional.cross_entropy` gives NaN and ruins the weights.
    """
    labelled = mask != ignore_index
    if weight is None:
        total = labelled.sum().float()
    else:
        weight = weight.float()
        total = weight[mask.where(labelled, 0)].where(labelled, 0).sum()
    loss = F.cross_entropy(
        logits.float(), mask, weight, ignore_index=ignore_index, reduction='sum'
    )
    return loss / total.where(total > 0, 1)


def dice_loss(logits: Tensor, mask: Tensor, ignore_index: int = 255) -> Tensor:
    r"""Soft Dice loss, the mean over the classes that the batch has.

    With the probabilities :math:`p_{ck}` and the labels :math:`y_{ck} \in \{0, 1\}` of the
    labelled pixels :math:`k` of the whole batch,

    .. math::

        1 - \frac{1}{|\{c: \exists k: y_{ck} = 1\}|} \sum_{c: \exists k: y_{ck} = 1}
            \frac{2 \sum_k p_{ck} y_{ck}}{\sum_k p_{ck} + \sum_k y_{ck}}

    Args:
        logits: Logits of shape (B, K, H, W).
        mask: Classes of shape (B, H, W).
        ignore_index: Value of pixels without a label.

    Returns:
        The loss, from 0 to 1. Without a labelled pixel it is 0, and so are its gradients.
    """
    labelled = (mask != ignore_index)[:, None]
    probabilities = logits.float().softmax(dim=1) * labelled
    classes = mask.where(labelled[:, 0], 0)[:, None]
    truth = torch.zeros_like(probabilities).scatter_(1, classes, 1.0) * labelled
    over = (0, 2, 3)
    overlap = (probabilities * truth).sum(over)
    pixels = truth.sum(over)
    present = pixels > 0
    dice = 2 * overlap / (probabilities.sum(over) + pixels.where(present, 1))
    return (1 - dice).where(present, 0).sum() / present.sum().clamp(min=1)


def focal_loss(logits: Tensor, mask: Tensor, ignore_index: int = 255) -> Tensor:
    r"""Focal loss of each class against the others, the mean over classes and pixels.

    With the probability :math:`p` that the sigmoid of a logit gives to the truth, class
    or not, of a labelled pixel, the loss is

    .. math::

        -\frac{1}{2} (1 - p)^2 \log p

    where classes and others have equal weight, as in mmsegmentation, and not 1/4 and 3/4
    as in the paper:

    * https://arxiv.org/abs/1708.02002

    Args:
        logits: Logits of shape (B, K, H, W).
        mask: Classes of shape (B, H, W).
        ignore_index: Value of pixels without a label.

    Returns:
        The loss. Without a labelled pixel it is 0, and so are its gradients.
    """
    labelled = (mask != ignore_index)[:, None]
    classes = mask.where(labelled[:, 0], 0)[:, None]
    own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, classes, True)
    values = logits.float()
    # Of the truth: a class that is not there has the opposite logit.
    signed = values.where(own, -values)
    loss = -0.5 * (-signed).sigmoid() ** 2 * F.logsigmoid(signed)
    total = labelled.sum() * logits.shape[1]
    return loss.where(labelled, 0).sum() / total.clamp(min=1)


class SegmentationLoss(nn.Module):
    """Weighted sum of cross-entropy, Dice loss and focal loss."""

    def __init__(
        self,
        ce: float = 1.0,
        dice: float = 0.0,
        ignore_index: int = 255,
        class_weights: Sequence[float] | None = None,
        focal: float = 0.0,
    ) -> None:
        """Initialize a new SegmentationLoss instance.

        Args:
            ce: Weight of the cross-entropy.
            dice: Weight of the Dice loss.
            ignore_index: Value of pixels without a label.
            class_weights: Weight of each class in the cross-entropy.
            focal: Weight of the focal loss.

        Raises:
            ValueError: If a weight is negative, or no loss has one.
        """
        super().__init__()
        if min(ce, dice, focal) < 0 or ce + dice + focal == 0:
            raise ValueError(
                'ce, dice and focal must be at least 0, and one of them positive; '
                f'got {ce}, {dice} and {focal}'
            )
        self.ce = ce
        self.dice = dice
        self.focal = focal
        self.ignore_index = ignore_index
        # Follows the device, but a checkpoint for prediction has no use for it.
        self.register_buffer(
            'class_weights',
            None if class_weights is None else torch.tensor(class_weights).float(),
            persistent=False,
        )
        self.class_weights: Tensor | None

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Compute the loss, in float32 also under autocast.

        Args:
            logits: Logits of shape (B, K, H, W).
            mask: Classes of shape (B, H, W).

        Returns:
            The loss. Without a labelled pixel it is 0, and so are its gradients.
        """
        loss = logits.new_zeros((), dtype=torch.float32)
        if self.ce:
            loss = loss + self.ce * masked_cross_entropy(
                logits, mask, self.ignore_index, self.class_weights
            )
        if self.dice:
            loss = loss + self.dice * dice_loss(logits, mask, self.ignore_index)
        if self.focal:
            loss = loss + self.focal * focal_loss(logits, mask, self.ignore_index)
        return loss
