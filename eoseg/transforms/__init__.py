"""What Kornia and TorchGeo lack."""

from .flips import RandomFlips
from .standardize import Standardize

__all__ = ['RandomFlips', 'Standardize']
