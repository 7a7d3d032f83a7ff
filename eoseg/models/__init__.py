"""Networks: from images (B, C, H, W) to logits (B, K, H, W)."""

from .aspp import ASPPHead
from .atl import ATL, HighPass
from .backbone import Backbone
from .dasegnet import STDAOutput, STDASegNet
from .discriminator import FeatureDiscriminator
from .disentangle import (
    DistinctGate,
    DomainDisentangle,
    Pyramids,
    UniversalAttention,
)
from .factory import MODELS, create_model
from .frozen import FrozenNetwork
from .heads import (
    AuxiliaryHeads,
    FCNHead,
    MultiLevelNeck,
    PyramidPooling,
    SegFormerHead,
    UPerHead,
)
from .hfdnet import (
    BilinearAlign,
    DeformAlign,
    FlowAlign,
    HeterogeneousFeatureAlignment,
    HFDNet,
    HFDOutput,
)
from .ktda import KTDA, FeatureAlignment, KTDAOutput
from .mix_transformer import MixTransformer
from .modulation import FeatureModulation
from .optical_teacher import OpticalTeacher
from .sam import AdaptedSAM
from .sam_base import SAMBase, SAMSize, find_base
from .sam_encoder import ATLImageEncoder
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
    'ATL',
    'KTDA',
    'MODELS',
    'ASPPHead',
    'ATLImageEncoder',
    'AdaptedSAM',
    'AuxiliaryHeads',
    'Backbone',
    'BilinearAlign',
    'CachedTeacher',
    'DeformAlign',
    'DistinctGate',
    'DomainDisentangle',
    'FCNHead',
    'FeatureAlignment',
    'FeatureDiscriminator',
    'FeatureModulation',
    'FlowAlign',
    'FrozenNetwork',
    'HFDNet',
    'HFDOutput',
    'HeterogeneousFeatureAlignment',
    'HighPass',
    'KTDAOutput',
    'MixTransformer',
    'MultiLevelNeck',
    'OpticalTeacher',
    'PyramidPooling',
    'Pyramids',
    'SAMBase',
    'SAMSize',
    'STDAOutput',
    'STDASegNet',
    'SegFormerHead',
    'Teacher',
    'UNet',
    'UPerHead',
    'UniversalAttention',
    'create_model',
    'find_base',
    'find_weights',
    'load_pretrained',
    'load_state',
    'weights_hash',
)
