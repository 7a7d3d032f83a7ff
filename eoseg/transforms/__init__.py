"""What Kornia and TorchGeo lack."""

from .flips import RandomFlips
from .photometric import PhotometricDistortion
from .standardize import Standardize

__all__ = ['PhotometricDistortion', 'RandomFlips', 'Standardize']
