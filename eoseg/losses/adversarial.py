"""Losses of a discriminator, and of a network that is to deceive it."""

import torch
from torch import Tensor
from torch.nn import functional as F


def adversarial_loss(logits: Tensor, real: bool) -> Tensor:
    """Binary cross-entropy of what a discriminator says, in float32.

    A network that is to deceive it makes the loss of its fakes small with *real* true.

    Args:
        logits: What it says, of any shape; positive is real.
        real: Whether it should have said real.

    Returns:
        The mean; ln 2 of a discriminator that says nothing.
    """
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(
        logits, torch.full_like(logits, float(real))
    )


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Binary cross-entropy of a discriminator on both kinds, in float32.

    Args:
        real: What it says of real ones; positive is right.
        fake: What it says of fakes; negative is right.

    Returns:
        The sum of both means; 2 ln 2 of a discriminator that says nothing.
    """
    return adversarial_loss(real, True) + adversarial_loss(fake, False)


@torch.no_grad()
def discriminator_accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """Share of right answers of a discriminator, both kinds counted alike.

    Args:
        real: What it says of real ones; positive is right.
        fake: What it says of fakes; negative is right.

    Returns:
        From 0 to 1; half of them are right by chance.
    """
    return ((real > 0).float().mean() + (fake < 0).float().mean()) / 2
