"""Tasks: how a network is trained."""

from .cross_modal import CrossModalDistillation
from .distillation import Distillation
from .domain_adaptation import DomainAdaptation
from .sam_adapter import SAMAdapter
from .segmentation import Segmentation

__all__ = [
    'CrossModalDistillation',
    'Distillation',
    'DomainAdaptation',
    'SAMAdapter',
    'Segmentation',
]
