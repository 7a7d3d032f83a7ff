"""Networks: from images (B, C, H, W) to logits (B, K, H, W)."""

from .backbone import Backbone
from .factory import MODELS, create_model
from .heads import FCNHead, MultiLevelNeck, PyramidPooling, UPerHead
from .ktda import KTDA, FeatureAlignment, FeatureModulation, KTDAOutput
from .teacher import Teacher
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
    'Backbone',
    'FCNHead',
    'FeatureAlignment',
    'FeatureModulation',
    'KTDAOutput',
    'MultiLevelNeck',
    'PyramidPooling',
    'Teacher',
    'UNet',
    'UPerHead',
    'create_model',
    'find_weights',
    'load_pretrained',
    'load_state',
    'weights_hash',
)
