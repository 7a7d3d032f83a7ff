"""Losses on labels that a network gave itself."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

#: How much a batch adds to the shares of the classes.
_MOMENTUM = 0.05

#: What a sum over pixels is divided by: those that count, or all of them.
Normalization = Literal['valid', 'all']


class PseudoLabels(NamedTuple):
    """What a teacher says of images without labels."""

    #: Likeliest classes, of shape (B, H, W); *ignore_index* where a pixel is not valid.
    mask: Tensor
    #: How much each pixel counts, of shape (B, H, W); 0 where it is not valid.
    weight: Tensor
    #: Share of the valid pixels whose probability reaches *threshold*.
    confident: Tensor
    #: Share of the valid pixels whose probability reaches *rare_threshold*.
    fair: Tensor


@torch.no_grad()
def pseudo_labels(
    logits: Tensor,
    valid: Tensor,
    threshold: float = 0.975,
    rare_threshold: float = 0.8,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
) -> PseudoLabels:
    r"""Likeliest classes, and how much they are worth.

    With the probability :math:`p` of the likeliest class :math:`c` of a pixel, its weight
    :math:`w_c`, and the share :math:`q` of the valid pixels of the batch with :math:`p
    \ge` *threshold*, a pixel counts

    .. math::

        q \, w_c \ \text{where}\ p \ge \mathit{rare\_threshold},
        \quad q / 2 \ \text{elsewhere.}

    So no pixel is left out: *threshold* sets how much all of them count, and
    *rare_threshold* which of them count by their class. Follows the authors'
    implementation of ST-DASegNet (https://github.com/cv516Buaa/ST-DASegNet, cbad2f5),
    except that classes are looked up, and that there are pixels that are not valid.

    If you use this function in your research, please cite the following paper:

    * https://arxiv.org/abs/2301.05526

    Args:
        logits: Logits of a teacher, of shape (B, K, H, W).
        valid: Whether a pixel has values, of shape (B, H, W).
        threshold: Probability above which a teacher is sure.
        rare_threshold: Probability above which classes count by their weight.
        class_weights: Weight of each class, of shape (K,); 1 by default.
        ignore_index: Value of pixels that are not valid.
    """
    sure, mask = logits.float().softmax(dim=1).max(dim=1)
    count = valid.sum().clamp(min=1)
    confident = ((sure >= threshold) & valid).sum() / count
    fair = (sure >= rare_threshold) & valid
    worth = torch.ones_like(sure) if class_weights is None else class_weights[mask]
    weight = confident * torch.where(fair, worth, 0.5) * valid
    return PseudoLabels(
        mask.masked_fill(~valid, ignore_index), weight, confident, fair.sum() / count
    )


class RunningShares(nn.Module):
    """How much of the images each class has, averaged over the batches so far.

    Attributes:
        shares: Share of each class, of shape (K,).
    """

    shares: Tensor

    def __init__(self, num_classes: int) -> None:
        """Initialize a new RunningShares instance.

        Args:
            num_classes: Number of classes, K.
        """
        super().__init__()
        self.register_buffer('shares', torch.full((num_classes,), 1 / num_classes))

    @torch.no_grad()
    def forward(self, mask: Tensor) -> Tensor:
        """Take a batch into account, of all processes where there are several.

        Args:
            mask: Classes of any shape; other values than 0 to K - 1 are passed over.

        Returns:
            Shares in this batch, of shape (K,), 0 where it has no class at all.
        """
        classes = len(self.shares)
        known = mask[(mask >= 0) & (mask < classes)]
        counts = torch.bincount(known, minlength=classes).to(self.shares)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(counts)
        found = counts / counts.sum().clamp(min=1)
        if counts.any():
            self.shares.lerp_(found, _MOMENTUM)
        return found


def self_training_loss(
    logits: Tensor,
    labels: PseudoLabels,
    class_weights: Tensor | None = None,
    normalization: Normalization = 'valid',
    ignore_index: int = 255,
) -> Tensor:
    """Cross-entropy in which each pixel counts as its label says, in float32.

    Args:
        logits: Logits of a student, of shape (B, K, H, W).
        labels: What its teacher says.
        class_weights: Weight of each class, of shape (K,), beside those of the labels.
        normalization: Whether the sum is divided by the number of valid pixels or by
            that of ``all``, as published.
        ignore_index: Value of pixels that are not valid.

    Returns:
        The loss. Without a valid pixel it is 0, and so are its gradients.
    """
    each = F.cross_entropy(
        logits.float(),
        labels.mask,
        class_weights,
        ignore_index=ignore_index,
        reduction='none',
    )
    count = labels.mask.numel()
    total = (each * labels.weight).sum()
    if normalization == 'all':
        return total / count
    return total / (labels.mask != ignore_index).sum().clamp(min=1)


def cross_entropy_over_all(
    logits: Tensor,
    mask: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
) -> Tensor:
    """Sum of the cross-entropy of labelled pixels, divided by the number of all.

    That is how mmsegmentation does it: pixels without a label make a loss smaller, and
    weights of classes make it larger. :func:`masked_cross_entropy` is the mean.

    Args:
        logits: Logits of shape (B, K, H, W).
        mask: Classes of shape (B, H, W).
        ignore_index: Value of pixels without a label.
        weight: Weight of each class, of shape (K,).
    """
    total = F.cross_entropy(
        logits.float(), mask, weight, ignore_index=ignore_index, reduction='sum'
    )
    return total / mask.numel()
