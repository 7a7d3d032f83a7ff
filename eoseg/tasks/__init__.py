"""Tasks: how a network is trained."""

from .distillation import Distillation
from .segmentation import Segmentation

__all__ = ['Distillation', 'Segmentation']
