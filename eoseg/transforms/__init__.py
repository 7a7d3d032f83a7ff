"""What Kornia and TorchGeo lack."""

from .flips import RandomFlips
from .jitter import ColorJitter
from .photometric import PhotometricDistortion
from .radar import RandomSpeckle, StandardizeRadar, lee_filter, standardizer
from .standardize import Standardize

__all__ = [
    'ColorJitter',
    'PhotometricDistortion',
    'RandomFlips',
    'RandomSpeckle',
    'Standardize',
    'StandardizeRadar',
    'lee_filter',
    'standardizer',
]
