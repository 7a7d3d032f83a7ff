"""Functions from images to probabilities, made of others."""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from rasterio.windows import Window
from torch import Tensor

from eoseg_datasets.scene import Scene

from .scene import Predict


class Turn(NamedTuple):
    """One of the eight ways to lay a square on itself."""

    #: Quarter turns.
    quarters: int
    #: Whether it is flipped from left to right, before it is turned.
    flipped: bool = False

    def __call__(self, image: Tensor) -> Tensor:
        """Turn images of shape (..., size, size)."""
        flipped = image.flip(-1) if self.flipped else image
        return flipped.rot90(self.quarters, (-2, -1))

    def back(self, image: Tensor) -> Tensor:
        """The inverse."""
        turned = image.rot90(-self.quarters, (-2, -1))
        return turned.flip(-1) if self.flipped else turned


#: Ways to look at a window, by the name of the option.
TURNS = {
    'none': (Turn(0),),
    # Left to right, top to bottom, both.
    'flips': (Turn(0), Turn(0, True), Turn(2, True), Turn(2)),
    'all': tuple(Turn(q, flipped) for flipped in (False, True) for q in range(4)),
}


def turned(predict: Predict, turn: Turn) -> Predict:
    """Predict from turned images; the probabilities are turned back."""
    return lambda image: turn.back(predict(turn(image)))


def averaged(members: Sequence[Predict]) -> Predict:
    """The mean of several predictions: an ensemble, or several views of one window.

    Args:
        members: At least one; one alone is given back as it is.
    """
    if len(members) == 1:
        return members[0]

    def predict(image: Tensor) -> Tensor:
        return reduce(torch.add, (member(image) for member in members)) / len(members)

    return predict


class Halving:
    """Predict smaller batches from the first on that does not fit into memory."""

    def __init__(self, predict: Predict, filled: int | None = None) -> None:
        """Initialize a new Halving instance.

        Args:
            predict: Raises torch.OutOfMemoryError if a batch is too large.
            filled: Size to which all batches are filled, for networks that are compiled
                for each size, until that is too large; None to leave them as they are.
        """
        self.predict = predict
        #: Largest batch; None as long as none was too large.
        self.batch_size = filled
        self.is_filled = filled is not None

    def __call__(self, image: Tensor) -> Tensor:
        """Predict a batch, in parts if need be.

        Raises:
            torch.OutOfMemoryError: If a single image is too large.
        """
        while True:
            step = min(self.batch_size or len(image), len(image))
            try:
                parts = [self._part(part) for part in torch.split(image, step)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except torch.OutOfMemoryError:
                if step == 1:
                    raise
                self.batch_size = (step + 1) // 2
            # After the error is forgotten, which holds on to the tensors.
            if image.is_cuda:
                torch.cuda.empty_cache()

    def _part(self, image: Tensor) -> Tensor:
        missing = (self.batch_size or 0) - len(image)
        if not self.is_filled or missing <= 0:
            return self.predict(image)
        filler = image[:1].expand(missing, -1, -1, -1)
        return self.predict(torch.cat([image, filler]))[: len(image)]


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; without, it is slow."""
    if device.type == 'cuda':
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Not in every version of torch; where nothing is said, the user is believed.
    said: dict[str, object] = getattr(torch.cpu, 'get_capabilities', dict)()
    known = [value for name, value in said.items() if name.endswith('bf16')]
    return device.type != 'cpu' or not known or any(known)


def agreement(one: Predict, other: Predict, scene: Scene, window: Window) -> float:
    """Share of the valid pixels of a window that get the same class from both.

    Args:
        one: From images to probabilities.
        other: The same in another way.
        scene: Any scene.
        window: Part of it.
    """
    image, valid = scene.read(window)
    image[:, ~valid] = np.nan
    shown = torch.from_numpy(image)[None]
    same = one(shown).argmax(dim=1) == other(shown).argmax(dim=1)
    return float(same.cpu().numpy()[0][valid].mean()) if valid.any() else 1.0
