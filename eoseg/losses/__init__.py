"""Losses: what a network is trained to make small."""

from .bce_dice import BCEDiceLoss, BCEDiceTerms
from .distillation import DistillationLoss, DistillationTerms
from .feature_distance import (
    FeatureDistance,
    FeatureDistanceTerms,
    logit_distance,
)
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
    'FeatureDistance',
    'FeatureDistanceTerms',
    'SegmentationLoss',
    'dice_loss',
    'focal_loss',
    'logit_distance',
    'masked_cross_entropy',
)
