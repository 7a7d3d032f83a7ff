"""Networks: from images (B, C, H, W) to logits (B, K, H, W)."""

from eoseg.models.backbone import Backbone
from eoseg.models.factory import MODELS, create_model
from eoseg.models.heads import FCNHead, MultiLevelNeck, PyramidPooling, UPerHead
from eoseg.models.ktda import KTDA, FeatureAlignment, FeatureModulation, KTDAOutput
from eoseg.models.teacher import Teacher
from eoseg.models.unet import UNet
from eoseg.models.weights import (
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
