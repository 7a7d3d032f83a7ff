"""Weights that the authors of KTDA publish, under the names that ours have.

Theirs come from mmsegmentation and mmpretrain. Heads of the attention are the one number
that the weights do not tell.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import CheckpointError
from .ktda import KTDA

#: Networks of timm by blocks per stage, channels of the first stage, and whether they
#: are of the second version (with response normalisation).
_CONVNEXTS: dict[tuple[tuple[int, ...], int, bool], str] = {
    ((2, 2, 6, 2), 40, False): 'convnext_atto',
    ((2, 2, 6, 2), 48, False): 'convnext_femto',
    ((2, 2, 6, 2), 64, False): 'convnext_pico',
    ((2, 2, 8, 2), 80, False): 'convnext_nano',
    ((3, 3, 9, 3), 96, False): 'convnext_tiny',
    ((3, 3, 27, 3), 96, False): 'convnext_small',
    ((3, 3, 27, 3), 128, False): 'convnext_base',
    ((3, 3, 27, 3), 192, False): 'convnext_large',
    ((2, 2, 6, 2), 40, True): 'convnextv2_atto',
    ((2, 2, 6, 2), 48, True): 'convnextv2_femto',
    ((2, 2, 6, 2), 64, True): 'convnextv2_pico',
    ((2, 2, 8, 2), 80, True): 'convnextv2_nano',
    ((3, 3, 9, 3), 96, True): 'convnextv2_tiny',
    ((3, 3, 27, 3), 128, True): 'convnextv2_base',
}

#: Patterns of their names, and ours. The first that fits the beginning counts.
_NAMES = [
    (r'backbone\.downsample_layers\.0\.(\d)\.', r'backbone.network.stem_\1.'),
    (
        r'backbone\.downsample_layers\.(\d)\.(\d)\.',
        r'backbone.network.stages_\1.downsample.\2.',
    ),
    (r'backbone\.stages\.(\d)\.(\d+)\.', r'backbone.network.stages_\1.blocks.\2.'),
    (r'backbone\.norm(\d)\.', r'backbone.norms.\1.'),
    # Weights from before 8 December 2024 have the second name of each.
    (r'(?:fam|student_adapter)\.convert\.', 'alignment.projections.'),
    (r'neck\.lateral_convs\.(\d)\.conv\.', r'neck.lateral.\1.'),
    (r'neck\.convs\.(\d)\.conv\.', r'neck.output.\1.'),
    (r'(?:fmm|veg_adapter)\.adapters\.', 'modulation.levels.'),
    (r'decode_head\.psp_modules\.(\d)\.1\.', r'head.pooling.pools.\1.1.'),
    (r'decode_head\.lateral_convs\.', 'head.lateral.'),
    (r'decode_head\.fpn_convs\.', 'head.output.'),
    (r'decode_head\.fpn_bottleneck\.', 'head.fusion.'),
    (r'decode_head\.bottleneck\.', 'head.bottleneck.'),
    (r'decode_head\.convs\.', 'head.lateral.'),
    (r'decode_head\.fusion_conv\.', 'head.fusion.'),
    (r'decode_head\.conv_seg\.', 'head.classifier.1.'),
]

#: Parts of names within a block of the backbone, and within a head.
_PARTS = {
    'depthwise_conv': 'conv_dw',
    'pointwise_conv1': 'mlp.fc1',
    'pointwise_conv2': 'mlp.fc2',
    'grn.gamma': 'mlp.grn.weight',
    'grn.beta': 'mlp.grn.bias',
    'conv': '0',
    'bn': '1',
}

#: The teacher and the auxiliary heads are not needed to map a scene.
_DROPPED = ('teach_backbone.', 'auxiliary_head.', 'data_preprocessor.')


class Published(NamedTuple):
    """A published network in our words."""

    #: Arguments of :class:`~eoseg.models.KTDA`, beside in_channels and num_classes.
    network: dict[str, Any]
    in_channels: int
    num_classes: int
    #: Its weights, without auxiliary heads.
    state: dict[str, Tensor]


def convert_ktda(theirs: Mapping[str, Tensor], heads: int = 8) -> Published:
    """Weights of the authors' implementation of KTDA as those of ours.

    Args:
        theirs: Weights by their names, of their segmentor or of its development version.
        heads: Heads of the attention in the modulation; the weights do not tell it.

    Returns:
        Arguments that the shapes tell, and the weights by our names.

    Raises:
        CheckpointError: If these are weights of something else.
    """
    kept = {k: v for k, v in theirs.items() if not k.startswith(_DROPPED)}
    ours = {_renamed(name): tensor for name, tensor in kept.items()}
    try:
        network = _arguments(ours, heads)
        in_channels = ours['backbone.network.stem_0.weight'].shape[1]
        num_classes = len(ours['head.classifier.1.weight'])
    except KeyError as error:
        raise CheckpointError(
            f'These are no weights of KTDA: none stands for {error}. Give a file of the '
            'authors, with a ConvNeXt as student; it has names such as '
            'backbone.downsample_layers.0.0.weight and decode_head.conv_seg.weight.'
        ) from error
    with torch.device('meta'):
        model = KTDA(in_channels, num_classes, auxiliary=False, **network)
    return Published(network, in_channels, num_classes, _fitted(ours, model))


def _renamed(name: str) -> str:
    for theirs, ours in _NAMES:
        found = re.match(theirs, name)
        if found:
            rest = name[found.end() :]
            return found.expand(ours) + _renamed_part(rest, ours)
    return name


def _renamed_part(rest: str, place: str) -> str:
    if not place.startswith(('backbone.network.stages', 'head.')):
        return rest
    for theirs, ours in _PARTS.items():
        rest = re.sub(rf'(^|\.){re.escape(theirs)}(\.|$)', rf'\g<1>{ours}\g<2>', rest)
    return rest


def _arguments(state: Mapping[str, Tensor], heads: int) -> dict[str, Any]:
    """What the names and shapes of weights tell of the network."""
    dim = len(state['alignment.projections.0.weight'])
    neck = 'neck.output.0.weight' in state
    channels = len(state['neck.output.0.weight']) if neck else dim
    uper = any(name.startswith('head.pooling.') for name in state)
    return {
        'backbone': _backbone(state),
        'dim': dim,
        'patch_size': 14,
        'neck': neck,
        'decoder_channels': channels,
        'modulation': _modulation(state, channels, heads),
        'head': 'uper' if uper else 'segformer',
        'head_channels': state['head.classifier.1.weight'].shape[1],
    }


def _backbone(state: Mapping[str, Tensor]) -> str:
    pattern = r'backbone\.network\.stages_{}\.blocks\.(\d+)\.'
    depths = tuple(_count(pattern.format(stage), state) for stage in range(4))
    width = len(state['backbone.network.stem_0.weight'])
    second = any('.mlp.grn.' in name for name in state)
    if (depths, width, second) not in _CONVNEXTS:
        raise CheckpointError(
            f'No ConvNeXt{"V2" if second else ""} of timm has {depths} blocks and begins '
            f'with {width} channels. Known are: {", ".join(_CONVNEXTS.values())}.'
        )
    return _CONVNEXTS[depths, width, second]


def _modulation(state: Mapping[str, Tensor], channels: int, heads: int) -> Any:
    first = 'modulation.levels.0.0.'
    depth = _count(r'modulation\.levels\.0\.(\d+)\.', state)
    if not depth:
        return 'none'
    names = [name for name in state if name.startswith(first)]
    hidden = len(state[next(name for name in names if name.endswith('fc1.weight'))])
    if f'{first}attn.qkv.weight' not in state:
        return {'kind': 'mlp', 'depth': depth, 'rank': channels // hidden}
    ratio = hidden / channels
    return {'kind': 'vit', 'depth': depth, 'heads': heads, 'mlp_ratio': ratio}


def _count(pattern: str, names: Iterable[str]) -> int:
    return len({found[1] for name in names if (found := re.match(pattern, name))})


def _fitted(state: Mapping[str, Tensor], model: KTDA) -> dict[str, Tensor]:
    """The weights in the shapes of the network; layers of one cell are written two ways.

    Raises:
        CheckpointError: If they are not exactly those of the network.
    """
    wanted = model.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    unknown = sorted(state.keys() - wanted.keys())
    misshapen = sorted(
        name
        for name in wanted.keys() & state.keys()
        if _long_sides(state[name]) != _long_sides(wanted[name])
    )
    if missing or unknown or misshapen:
        lists = {'missing': missing, 'unknown': unknown, 'of other shapes': misshapen}
        told = [f'{len(v)} {k} ({", ".join(v[:3])})' for k, v in lists.items() if v]
        raise CheckpointError(
            f'The weights do not fit KTDA as their shapes describe it: {"; ".join(told)}. '
            'Give a file of the authors as it was published.'
        )
    return {name: state[name].reshape(wanted[name].shape) for name in wanted}


def _long_sides(tensor: Tensor) -> list[int]:
    return [side for side in tensor.shape if side > 1]
