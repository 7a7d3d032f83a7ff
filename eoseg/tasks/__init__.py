"""Tasks: how a network is trained."""

from .distillation import Distillation
from .sam_adapter import SAMAdapter
from .segmentation import Segmentation

__all__ = [
    'Distillation',
    'SAMAdapter',
    'Segmentation',
]
