"""The SAM that adapters are for: its sizes, its files, and what is in them."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    TwoWayTransformer,
)
from timm.models import adapt_input_conv
from torch import Tensor, nn

from ..errors import CheckpointError
from .sam_encoder import resized_tables
from .weights import load_state

#: Pixels per token, the same in every SAM.
PATCH_SIZE = 16

#: Masks that the decoder of SAM answers for one prompt.
MASKS = 4

#: Where Meta publishes its checkpoints.
SOURCE = 'https://dl.fbaipublicfiles.com/segment_anything'

#: Their names there.
FILES = {
    'vit_b': 'sam_vit_b_01ec64.pth',
    'vit_l': 'sam_vit_l_0b3195.pth',
    'vit_h': 'sam_vit_h_4b8939.pth',
}

_FIRST = 'image_encoder.patch_embed.proj.weight'
_BLOCK = re.compile(r'image_encoder\.blocks\.(\d+)\.')


@dataclass(frozen=True)
class SAMSize:
    """How large a SAM is."""

    #: Channels of the tokens, number of blocks, and heads of their attention.
    embed_dim: int
    depth: int
    num_heads: int
    #: Blocks whose attention reaches over the whole image, counted from 0.
    global_attn_indexes: tuple[int, ...]
    #: Side of the windows of the other blocks, in tokens.
    window_size: int = 14
    #: Channels inside of a block per channel of a token.
    mlp_ratio: float = 4.0
    #: Channels of the image embedding and of the decoder.
    out_chans: int = 256
    #: Of the decoder: channels inside of its blocks, heads of its attention, layers and
    #: channels of the head that predicts the quality of a mask.
    decoder_mlp: int = 2048
    decoder_heads: int = 8
    iou_depth: int = 3
    iou_hidden: int = 256


#: Those that Meta publishes, and one without weights, for tests and demonstrations.
SIZES = {
    'vit_b': SAMSize(768, 12, 12, (2, 5, 8, 11)),
    'vit_l': SAMSize(1024, 24, 16, (5, 11, 17, 23)),
    'vit_h': SAMSize(1280, 32, 16, (7, 15, 23, 31)),
    'tiny': SAMSize(
        128, 6, 4, (2, 5), 7, out_chans=32, decoder_mlp=64, decoder_heads=4,
        iou_depth=2, iou_hidden=32,
    ),
}  # fmt: skip


class SAMBase(NamedTuple):
    """What an adapter was made for: a frozen SAM."""

    #: A key of ``SIZES``, or ``custom``.
    name: str
    #: 16 hex digits that tell weights apart.
    hash: str
    #: Name of the file with its weights; None for random ones.
    file: str | None


class SAM(nn.Module):
    """The three parts of a SAM, under their names in a checkpoint."""

    def __init__(
        self, size: SAMSize, img_size: int, in_channels: int, tokens: int
    ) -> None:
        """Initialize a new SAM instance with random weights.

        Args:
            size: How large it is.
            img_size: Side of the images that its tables of positions are for.
            in_channels: Channels of the images.
            tokens: Mask tokens.
        """
        super().__init__()
        grid = (img_size // PATCH_SIZE,) * 2
        self.image_encoder = ImageEncoderViT(
            img_size=img_size,
            patch_size=PATCH_SIZE,
            in_chans=in_channels,
            embed_dim=size.embed_dim,
            depth=size.depth,
            num_heads=size.num_heads,
            mlp_ratio=size.mlp_ratio,
            out_chans=size.out_chans,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=size.window_size,
            global_attn_indexes=size.global_attn_indexes,
        )
        self.prompt_encoder = PromptEncoder(
            embed_dim=size.out_chans,
            image_embedding_size=grid,
            input_image_size=(img_size, img_size),
            mask_in_chans=16,
        )
        self.mask_decoder = MaskDecoder(
            transformer_dim=size.out_chans,
            transformer=TwoWayTransformer(
                depth=2,
                embedding_dim=size.out_chans,
                mlp_dim=size.decoder_mlp,
                num_heads=size.decoder_heads,
            ),
            num_multimask_outputs=tokens - 1,
            iou_head_depth=size.iou_depth,
            iou_head_hidden_dim=size.iou_hidden,
        )


def open_base(
    size: str | Mapping[str, Any],
    weights: str | None,
    *,
    img_size: int,
    in_channels: int,
    tokens: int,
    frozen: bool,
) -> tuple[SAM, SAMBase | None]:
    """Build a SAM and load its weights, without downloading any.

    Args:
        size: A key of ``SIZES``, or fields of :class:`SAMSize`.
        weights: File; ``auto`` for that of Meta, None or ``random`` for random ones.
        img_size: Side of the images that the tables of positions are brought to.
        in_channels: Channels of the images; the patch embedding is inflated to them.
        tokens: Mask tokens; those that the file has not got are copies.
        frozen: Whether random weights are always the same, and weights are identified.

    Returns:
        The SAM, and which one it is, if it is frozen.

    Raises:
        ValueError: If an argument is none of the above.
        FileNotFoundError: If there is no such file; it says where to get it.
        CheckpointError: If the file is no SAM, or one of another size.
    """
    known = sized(size)
    _check_side(img_size)
    path = _base_file(known, weights)
    given = None if path is None else _read_base(path, known)
    sam = _build(known, img_size, in_channels, tokens, seeded=frozen)
    if given is not None:
        _load(sam, given, in_channels)
    return sam, _identify(size, sam, given, path) if frozen else None


def sized(size: str | Mapping[str, Any]) -> SAMSize:
    """Size of a SAM by name or by its fields.

    Args:
        size: A key of ``SIZES``, or fields of :class:`SAMSize`.

    Raises:
        ValueError: If it is neither.
    """
    if not isinstance(size, str):
        fields = dict(size)
        indexes = tuple(fields.pop('global_attn_indexes', ()))
        try:
            return SAMSize(global_attn_indexes=indexes, **fields)
        except TypeError as error:
            raise ValueError(
                f'size takes the fields of SAMSize, {", ".join(asdict(SIZES["tiny"]))}; '
                f'got {", ".join(size)} ({error})'
            ) from None
    if size not in SIZES:
        raise ValueError(
            f'size must be {", ".join(SIZES)} or fields of SAMSize, got {size!r}'
        )
    return SIZES[size]


def find_base(name: str, folders: Sequence[Path] = ()) -> Path | None:
    """Look for the weights of a SAM on this machine; never downloads.

    Args:
        name: Name of a file, or a key of ``FILES``.
        folders: Where to look first.

    Returns:
        The file in one of *folders*, or in the folder ``$EOSEG_WEIGHTS`` (by default
        ``~/.cache/eoseg/weights``), else None.
    """
    usual = Path(os.environ.get('EOSEG_WEIGHTS') or '~/.cache/eoseg/weights')
    file = FILES.get(name, name)
    places = [folder.expanduser() / file for folder in (*folders, usual)]
    return next((path for path in places if path.is_file()), None)


def where_to_get(base: str) -> str:
    """Say where the weights of a SAM are to be had, and where they belong.

    Args:
        base: Name of its file, or a key of ``FILES``.
    """
    file = FILES.get(base, base)
    source = f'{SOURCE}/{file}' if file in FILES.values() else 'where it was made'
    return (
        f'Get {file} from {source} and put it into ~/.cache/eoseg/weights (or '
        '$EOSEG_WEIGHTS); nothing is downloaded.'
    )


def state_hash(state: Mapping[str, Tensor]) -> str:
    """16 hex digits that tell weights apart, whatever kind of file they came in.

    Args:
        state: Tensors by name.
    """
    content = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().float().cpu().contiguous()
        content.update(f'{name} {tuple(tensor.shape)}'.encode())
        content.update(tensor.numpy().data)
    return content.hexdigest()[:16]


def _build(
    size: SAMSize, img_size: int, in_channels: int, tokens: int, *, seeded: bool
) -> SAM:
    if not seeded:
        return SAM(size, img_size, in_channels, tokens)
    # A frozen base without weights must be the same when a checkpoint is loaded. Only
    # the generator of the CPU is seeded, and put back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return SAM(size, img_size, in_channels, tokens)


def _check_side(img_size: int) -> None:
    if img_size < PATCH_SIZE or img_size % PATCH_SIZE:
        raise ValueError(
            f'img_size must be a multiple of {PATCH_SIZE} pixels, got {img_size}; the '
            f'nearest is {max(round(img_size / PATCH_SIZE), 1) * PATCH_SIZE}'
        )


def _base_file(size: SAMSize, weights: str | None) -> Path | None:
    if weights in (None, 'random'):
        return None
    if weights != 'auto':
        return Path(weights)
    name = _name_of(size)
    if name not in FILES:
        raise ValueError(
            f"weights='auto' looks for those that Meta publishes, of {', '.join(FILES)}; "
            f'none are of {name}. Give a file, or null for random weights'
        )
    found = find_base(name)
    if found is None:
        raise FileNotFoundError(
            f'No weights of SAM {name} on this machine. {where_to_get(name)} Or give '
            'the file as weights.'
        )
    return found


def _name_of(size: SAMSize) -> str:
    return next((name for name, known in SIZES.items() if known == size), 'custom')


def _read_base(path: Path, size: SAMSize) -> dict[str, Tensor]:
    """Tensors of a checkpoint of SAM that has this size."""
    if not path.is_file():
        name = _name_of(size)
        hint = where_to_get(name) if name in FILES else 'Give another path.'
        raise FileNotFoundError(f'No weights of SAM at {path}. {hint}')
    state = load_state(path)
    if _FIRST not in state:
        raise CheckpointError(
            f'{path} is no checkpoint of SAM: it has no {_FIRST}. Give one of '
            f'segment-anything, such as {FILES["vit_b"]}; those of other libraries have '
            'other names'
        )
    theirs = _told_size(state)
    if (theirs.embed_dim, theirs.depth) != (size.embed_dim, size.depth):
        raise CheckpointError(
            f'{path} is a SAM of size {_spelled(theirs)}, the network is of size '
            f'{_spelled(size)}. Give size={_name_of(theirs)}, or the file of the other'
        )
    return state


def _told_size(state: Mapping[str, Tensor]) -> SAMSize:
    """What the names and shapes of weights tell of a SAM; the rest as in a known one."""
    width = len(state[_FIRST])
    depth = len({found[1] for name in state if (found := _BLOCK.match(name))})
    for known in SIZES.values():
        if (known.embed_dim, known.depth) == (width, depth):
            return known
    return replace(SIZES['vit_b'], embed_dim=width, depth=depth)


def _spelled(size: SAMSize) -> str:
    return f'{_name_of(size)} ({size.depth} blocks of {size.embed_dim} channels)'


def _load(sam: SAM, given: Mapping[str, Tensor], in_channels: int) -> None:
    wanted = sam.state_dict()
    state = resized_tables(given, wanted)
    if state[_FIRST].shape[1] != in_channels:
        state[_FIRST] = adapt_input_conv(in_channels, state[_FIRST])
    state |= _more_tokens(state, sam.mask_decoder.num_mask_tokens)
    missing = sorted(wanted.keys() - state.keys())
    unknown = sorted(state.keys() - wanted.keys())
    misshapen = sorted(
        name
        for name in wanted.keys() & state.keys()
        if wanted[name].shape != state[name].shape
    )
    mistakes = {
        'missing': missing, 'not in the network': unknown, 'of another shape': misshapen,
    }  # fmt: skip
    told = [f'{len(v)} {k} ({", ".join(v[:3])})' for k, v in mistakes.items() if v]
    if told:
        raise CheckpointError(
            f'The weights do not fit this SAM: {"; ".join(told)}. Give the fields of '
            'SAMSize that it was made with'
        )
    sam.load_state_dict(state)


def _more_tokens(state: Mapping[str, Tensor], tokens: int) -> dict[str, Tensor]:
    """Mask tokens beyond those of SAM, as copies of those that it has, in turn."""
    table = 'mask_decoder.mask_tokens.weight'
    if table not in state or len(state[table]) >= tokens:
        return {}
    known = len(state[table])
    copied = {table: _repeated(state[table], tokens)}
    mlps = 'mask_decoder.output_hypernetworks_mlps'
    for token in range(known, tokens):
        start = f'{mlps}.{token % known}.'
        for name, tensor in state.items():
            if name.startswith(start):
                copied[f'{mlps}.{token}.{name.removeprefix(start)}'] = tensor.clone()
    # The last layer of the head has an output for each mask.
    head = {
        name: int(name.split('.')[3])
        for name in state
        if name.startswith('mask_decoder.iou_prediction_head.layers.')
    }
    last = [name for name, layer in head.items() if layer == max(head.values())]
    return copied | {name: _repeated(state[name], tokens) for name in last}


def _repeated(table: Tensor, count: int) -> Tensor:
    return table[torch.arange(count) % len(table)]


def _identify(
    size: str | Mapping[str, Any],
    sam: SAM,
    given: Mapping[str, Tensor] | None,
    path: Path | None,
) -> SAMBase:
    state = sam.state_dict() if given is None else given
    name = size if isinstance(size, str) else _name_of(sized(size))
    # Without memory, as when parameters are counted, there is nothing to tell apart.
    empty = any(tensor.is_meta for tensor in state.values())
    digest = '' if empty else state_hash(state)
    return SAMBase(name, digest, path.name if path else None)
