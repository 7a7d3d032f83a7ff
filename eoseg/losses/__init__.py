"""Losses: what a network is trained to make small."""

from .adversarial import (
    adversarial_loss,
    discriminator_accuracy,
    discriminator_loss,
)
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
from .self_training import (
    PseudoLabels,
    RunningShares,
    cross_entropy_over_all,
    pseudo_labels,
    self_training_loss,
)

__all__ = (
    'BCEDiceLoss',
    'BCEDiceTerms',
    'DistillationLoss',
    'DistillationTerms',
    'FeatureDistance',
    'FeatureDistanceTerms',
    'PseudoLabels',
    'RunningShares',
    'SegmentationLoss',
    'adversarial_loss',
    'cross_entropy_over_all',
    'dice_loss',
    'discriminator_accuracy',
    'discriminator_loss',
    'focal_loss',
    'logit_distance',
    'masked_cross_entropy',
    'pseudo_labels',
    'self_training_loss',
)
