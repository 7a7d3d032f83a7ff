"""Files of pretrained weights, and how they get into a network of timm."""

import hashlib
import os
import pickle
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import (
    FeatureInfo,
    adapt_input_conv,
    eva,
    vision_transformer,
    vision_transformer_sam,
)
from torch import Tensor, nn

from ..errors import CheckpointError

_ACCEPTED = 'accepted are safetensors files and what torch.save wrote of tensors alone'

# What a download often is when it is not the file, by its first bytes.
_IMPOSTORS = {
    b'version https://git-lfs': 'is a git-lfs pointer, not the file (git lfs pull)',
    b'<!doctype': 'is a web page, not the file (download it again)',
    b'<html': 'is a web page, not the file (download it again)',
}

# A zip file since torch 1.6, a bare pickle before.
_TORCH_MAGIC = (b'PK\x03\x04', b'\x80\x02')

# What turns the names of others into those of timm, and position embeddings into the
# grid of the network.
_FILTERS: dict[type[nn.Module], Callable[..., dict[str, Tensor]]] = {
    vision_transformer.VisionTransformer: vision_transformer.checkpoint_filter_fn,
    vision_transformer_sam.VisionTransformerSAM: (
        vision_transformer_sam.checkpoint_filter_fn
    ),
    eva.Eva: eva.checkpoint_filter_fn,
}


class _Ignored:
    """Stands for what training scripts keep beside the weights. Does nothing."""

    def __init__(self, *arguments: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


# What checkpoints of mmengine hold beside their weights: the history of scores and losses.
_BESIDE_WEIGHTS: list[Any] = [
    (_Ignored, name)
    for name in (
        'mmengine.logging.history_buffer.HistoryBuffer',
        'builtins.getattr',
        'numpy.ndarray',
        'numpy.dtype',
        'numpy.dtypes.Float64DType',
        'numpy.dtypes.Int64DType',
        'numpy.core.multiarray._reconstruct',
        'numpy.core.multiarray.scalar',
        'numpy._core.multiarray._reconstruct',
        'numpy._core.multiarray.scalar',
    )
]

# The keys under which training scripts keep the weights.
_NESTED = ('state_dict', 'model')


def load_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file, without running code from it.

    Args:
        path: A safetensors file, or one of torch.save that holds tensors alone (by name,
            or one level down under ``state_dict`` or ``model``).

    Returns:
        Tensors by name, on the CPU. Those in half precision are cast to float32.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is neither.
    """
    if not path.exists():
        raise FileNotFoundError(
            f'No weights at {path}. Get the file first (model.safetensors of a network of '
            'timm is at https://huggingface.co/timm) and put it there, or give its path.'
        )
    half = (torch.float16, torch.bfloat16)
    return {
        name: tensor.float() if tensor.dtype in half else tensor
        for name, tensor in _read(path).items()
    }


def weights_hash(path: Path) -> str:
    """Fingerprint of a file of weights: the first 16 hex digits of its SHA-256."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()[:16]


def find_weights(name: str) -> Path | None:
    """Look for the weights of a network on this machine; never downloads.

    Args:
        name: Name of a network of timm, with or without tag.

    Returns:
        ``<name>.safetensors`` in the folder ``$EOSEG_WEIGHTS`` (by default
        ``~/.cache/eoseg/weights``), else what timm has downloaded before, else None.
    """
    folder = os.environ.get('EOSEG_WEIGHTS') or '~/.cache/eoseg/weights'
    path = Path(folder).expanduser() / f'{name}.safetensors'
    return path if path.is_file() else _find_download(name)


def load_pretrained(
    model: nn.Module, path: Path, in_channels: int
) -> dict[str, Tensor]:
    """Load a file of weights into a network made by timm.

    The first convolution is adapted if the file has it for three channels: they are
    repeated and rescaled, so that activations keep their scale. Position embeddings are
    resized to the grid of the network. What a file has beyond *model* is left out only
    where *model* was made without it: the classifier, or what timm cuts off for
    ``features_only``. Nothing else is skipped.

    Args:
        model: Result of ``timm.create_model``, also with ``features_only``.
        path: File of weights, see :func:`load_state`.
        in_channels: Channels of the images that *model* was made for.

    Returns:
        What was left out, by name.

    Raises:
        FileNotFoundError: If there is no such file; it says where to get it.
        CheckpointError: If the file is none of weights, or of another network.
    """
    if not path.exists():
        raise FileNotFoundError(_where_to_get(path, model))
    state = load_state(path)
    if type(model) in _FILTERS:
        state = _FILTERS[type(model)](state, model)
    state |= _adapted_input(state, model, in_channels)
    wanted = model.state_dict()
    given = {_plain(name): tensor for name, tensor in state.items()}
    found = {name: given[_plain(name)] for name in wanted if _plain(name) in given}
    known = {_plain(name) for name in wanted} | _spare_names(model)
    foreign = [name for name in state if _plain(name) not in known]
    mistakes = _mistakes(wanted, found, foreign)
    if mistakes:
        raise CheckpointError(
            f'{path} does not fit {_config(model)["architecture"]}: '
            f'{"; ".join(mistakes)}. Use weights of exactly this network.'
        )
    # Only counters of batches may be absent: files from before torch 0.4.1 lack them.
    model.load_state_dict(found, strict=False)
    used = {_plain(name) for name in found}
    return {name: tensor for name, tensor in state.items() if _plain(name) not in used}


def _where_to_get(path: Path, model: nn.Module) -> str:
    config = _config(model)
    name, source = config['architecture'], config.get('hf_hub_id')
    address = f'https://huggingface.co/{source}' if source else 'the authors'
    return (
        f'No weights of {name} at {path}. Get the file first, model.safetensors of '
        f'{address}, and put it there, or give its path: nothing is downloaded.'
    )


def _read(path: Path) -> dict[str, Tensor]:
    if path.is_dir():
        raise CheckpointError(f'{path} is a folder; {_ACCEPTED}.')
    with path.open('rb') as file:
        head = file.read(64)
    try:
        # Safetensors: the length of the header in 8 bytes, then the header in JSON.
        if head[8:9] == b'{':
            return load_file(path)
        if head.startswith(_TORCH_MAGIC):
            with torch.serialization.safe_globals(_BESIDE_WEIGHTS):
                content = torch.load(path, map_location='cpu', weights_only=True)
            return _tensors(content)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            f'{path} cannot be read as weights; {_ACCEPTED}. ({error})'
        ) from error
    raise CheckpointError(f'{path} {_describe(head)}; {_ACCEPTED}.')


def _describe(head: bytes) -> str:
    if not head:
        return 'is empty'
    for start, meaning in _IMPOSTORS.items():
        if head.lstrip().lower().startswith(start):
            return meaning
    return 'is no file of weights'


def _tensors(content: object) -> dict[str, Tensor]:
    if isinstance(content, dict):
        for key in _NESTED:
            if isinstance(content.get(key), dict):
                return _tensors(content[key])
        if all(isinstance(value, Tensor) for value in content.values()):
            return content
    raise RuntimeError('it holds more than tensors by name')


def _find_download(name: str) -> Path | None:
    config = None
    with suppress(RuntimeError):  # no such tag
        config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        return None
    for filename in ('model.safetensors', 'pytorch_model.bin'):
        found = try_to_load_from_cache(config.hf_hub_id, filename)
        if isinstance(found, str):
            return Path(found)
    return None


def _config(model: nn.Module) -> dict[str, Any]:
    return cast(dict[str, Any], model.pretrained_cfg)


def _plain(name: str) -> str:
    # timm's features_only renames 'stages.0' to 'stages_0', or puts 'model.' before all.
    return name.removeprefix('model.').replace('.', '_')


def _adapted_input(
    state: Mapping[str, Tensor], model: nn.Module, in_channels: int
) -> dict[str, Tensor]:
    layers = _config(model)['first_conv']
    names = [f'{n}.weight' for n in ([layers] if isinstance(layers, str) else layers)]
    return {
        name: adapt_input_conv(in_channels, state[name])
        for name in names
        if name in state and state[name].shape[1] == 3
    }


def _spare_names(model: nn.Module) -> set[str]:
    config = _config(model)
    if isinstance(model.feature_info, FeatureInfo):  # features_only; else it is a list
        with torch.device('meta'):
            whole = timm.create_model(config['architecture'])
        return {_plain(name) for name in whole.state_dict()}
    layers = config['classifier'] or []
    names = [layers] if isinstance(layers, str) else layers
    return {_plain(f'{name}.{part}') for name in names for part in ('weight', 'bias')}


def _mistakes(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], foreign: list[str]
) -> list[str]:
    missing = [
        name
        for name in wanted
        if name not in found and not name.endswith('num_batches_tracked')
    ]
    misshapen = [
        f'{name} {tuple(tensor.shape)} instead of {tuple(wanted[name].shape)}'
        for name, tensor in found.items()
        if tensor.shape != wanted[name].shape
    ]
    kinds = {
        'missing': missing,
        'of another shape': misshapen,
        'not in the network': foreign,
    }
    return [_first_few(kind, names) for kind, names in kinds.items() if names]


def _first_few(kind: str, names: list[str]) -> str:
    more = ', …' if len(names) > 3 else ''
    return f'{len(names)} {kind} ({", ".join(names[:3])}{more})'
