"""Networks by name, as a checkpoint names them."""

import inspect
from typing import Any

from torch import nn

from ..errors import CheckpointError
from .dasegnet import STDASegNet
from .hfdnet import HFDNet
from .ktda import KTDA
from .sam import AdaptedSAM
from .unet import UNet

#: The networks that a checkpoint may name.
MODELS: dict[str, type[nn.Module]] = {
    'AdaptedSAM': AdaptedSAM,
    'HFDNet': HFDNet,
    'KTDA': KTDA,
    'STDASegNet': STDASegNet,
    'UNet': UNet,
}


def create_model(name: str, **arguments: Any) -> nn.Module:
    """Build a network from its name and plain values.

    Args:
        name: A key of :data:`MODELS`.
        **arguments: Arguments of the network.

    Returns:
        The network, with random weights unless *arguments* name a file.

    Raises:
        CheckpointError: If there is no such network, or it has no such argument.
    """
    if name not in MODELS:
        raise CheckpointError(
            f'No model named {name!r}. Models are: {", ".join(sorted(MODELS))}.'
        )
    accepted = inspect.signature(MODELS[name]).parameters
    unknown = sorted(arguments.keys() - accepted.keys())
    if unknown:
        raise CheckpointError(
            f'{name} has no {", ".join(unknown)}. Its arguments are: '
            f'{", ".join(accepted)}. Other versions of eoseg may have it.'
        )
    return MODELS[name](**arguments)
