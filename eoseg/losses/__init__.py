"""Losses: what a network is trained to make small."""

from .distillation import DistillationLoss, DistillationTerms
from .segmentation import (
    SegmentationLoss,
    dice_loss,
    masked_cross_entropy,
)

__all__ = (
    'DistillationLoss',
    'DistillationTerms',
    'SegmentationLoss',
    'dice_loss',
    'masked_cross_entropy',
)
