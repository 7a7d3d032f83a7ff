"""Networks: from images (B, C, H, W) to logits (B, K, H, W)."""

from .backbone import Backbone
from .factory import MODELS, create_model
from .heads import (
    AuxiliaryHeads,
    FCNHead,
    MultiLevelNeck,
    PyramidPooling,
    SegFormerHead,
    UPerHead,
)
from .ktda import KTDA, FeatureAlignment, KTDAOutput
from .modulation import FeatureModulation
from .teacher import Teacher
from .teacher_cache import CachedTeacher
from .unet import UNet
from .weights import (
    find_weights,
    load_pretrained,
    load_state,
    weights_hash,
)

__all__ = (
    'KTDA',
    'MODELS',
    'AuxiliaryHeads',
    'Backbone',
    'CachedTeacher',
    'FCNHead',
    'FeatureAlignment',
    'FeatureModulation',
    'KTDAOutput',
    'MultiLevelNeck',
    'PyramidPooling',
    'SegFormerHead',
    'Teacher',
    'UNet',
    'UPerHead',
    'create_model',
    'find_weights',
    'load_pretrained',
    'load_state',
    'weights_hash',
)
