"""Losses: what a network is trained to make small."""

from .bce_dice import BCEDiceLoss, BCEDiceTerms
from .distillation import DistillationLoss, DistillationTerms
from .segmentation import (
    SegmentationLoss,
    dice_loss,
    focal_loss,
    masked_cross_entropy,
)

__all__ = (
    'BCEDiceLoss',
    'BCEDiceTerms',
    'DistillationLoss',
    'DistillationTerms',
    'SegmentationLoss',
    'dice_loss',
    'focal_loss',
    'masked_cross_entropy',
)
