"""Memory of a training step, counted."""

import torch
from torch import Tensor, nn


def kept_for_backward(model: nn.Module, seen: object) -> int:
    """Bytes that a forward pass keeps for the backward one, beside the parameters.

    Args:
        model: Network.
        seen: What it is called with.
    """
    known = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in known:
            kept[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        answer = model(seen)
    del answer
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
