"""Cross-entropy and a Dice loss that also punishes what is found where nothing is."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .segmentation import masked_cross_entropy


class BCEDiceTerms(NamedTuple):
    """The loss and its parts."""

    #: Cross-entropy, not weighted.
    bce: Tensor
    #: Dice loss, not weighted.
    dice: Tensor
    #: Weighted sum of both.
    total: Tensor


class BCEDiceLoss(nn.Module):
    r"""Half cross-entropy, half Dice loss of what is not background.

    With the probabilities :math:`p_{ck}` and the labels :math:`y_{ck} \in \{0, 1\}` of
    the labelled pixels :math:`k` of the whole batch, and the classes :math:`c = 1 \dots
    K - 1`, all but the first,

    .. math::

        D_c &= 1 - \frac{2 \sum_k p_{ck} y_{ck} + s}{\sum_k p_{ck} + \sum_k y_{ck} + s} \\
        \mathrm{total} &= w_\mathrm{bce} \, \mathrm{BCE}
            + \frac{w_\mathrm{dice}}{K - 1} \sum_c D_c

    Of two classes with the logits :math:`(0, l)`, cross-entropy is the binary one of
    :math:`l`. Follows the authors' implementation of TransLandSeg
    (https://github.com/JunchuanYu/TransLandSeg, 877934c), which has two classes and
    labels everywhere. A batch without the class costs nearly 1 if it is found all over:
    the loss of segmentation-models-pytorch is 0 there, and so is
    :func:`~eoseg.losses.dice_loss` for classes that a batch does not have.

    If you use this loss in your research, please cite the following paper:

    * https://doi.org/10.1109/JSTARS.2025.3559884
    """

    def __init__(
        self,
        bce: float = 0.5,
        dice: float = 0.5,
        smooth: float = 1.0,
        ignore_index: int = 255,
    ) -> None:
        """Initialize a new BCEDiceLoss instance.

        Args:
            bce: Weight of the cross-entropy.
            dice: Weight of the Dice loss.
            smooth: Pixels that are added above and below the line.
            ignore_index: Value of pixels without a label.

        Raises:
            ValueError: If a weight is negative, both are 0, or *smooth* is not positive.
        """
        super().__init__()
        if min(bce, dice) < 0 or bce + dice == 0:
            raise ValueError(
                'bce and dice must be at least 0, and one of them positive; '
                f'got {bce} and {dice}'
            )
        if smooth <= 0:
            raise ValueError(f'smooth must be positive, got {smooth}')
        self.bce, self.dice, self.smooth = bce, dice, smooth
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, mask: Tensor) -> BCEDiceTerms:
        """Compute the loss, in float32 also under autocast.

        Args:
            logits: Logits of shape (B, K, H, W).
            mask: Classes of shape (B, H, W).

        Returns:
            The loss and its parts. Without a labelled pixel all are 0.
        """
        bce = masked_cross_entropy(logits, mask, self.ignore_index)
        dice = self._foreground_dice(logits, mask)
        return BCEDiceTerms(bce, dice, self.bce * bce + self.dice * dice)

    def _foreground_dice(self, logits: Tensor, mask: Tensor) -> Tensor:
        labelled = (mask != self.ignore_index)[:, None]
        found = logits.float().softmax(dim=1)[:, 1:] * labelled  # (B, K - 1, H, W)
        classes = torch.arange(1, logits.shape[1], device=mask.device)
        truth = (mask[:, None] == classes[:, None, None]).float() * labelled
        over = (0, 2, 3)
        above = 2 * (found * truth).sum(over) + self.smooth
        below = found.sum(over) + truth.sum(over) + self.smooth
        return (1 - above / below).mean()
