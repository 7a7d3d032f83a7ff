"""What Kornia and TorchGeo lack."""

from .flips import RandomFlips
from .jitter import ColorJitter
from .photometric import PhotometricDistortion
from .standardize import Standardize

__all__ = [
    'ColorJitter',
    'PhotometricDistortion',
    'RandomFlips',
    'Standardize',
]
