"""What is stored of the probabilities of a scene: bands of uint8."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eoseg_datasets.classes import NODATA

from ..io.cog import FULL

#: Pixels that are decided at a time, so that they stay in the cache of a processor.
_CHUNK = 2**18


@dataclass(frozen=True)
class Layers:
    """What is stored of the probabilities of a scene.

    Classes are chosen before anything is rounded.
    """

    #: Some of :data:`LAYERS`, in the order of the bands.
    names: tuple[str, ...]
    #: Number of classes, K.
    num_classes: int

    def bands(self, name: str) -> slice:
        """Which bands a layer has."""
        before = self.names[: self.names.index(name)]
        start = sum(self._count(other) for other in before)
        return slice(start, start + self._count(name))

    @property
    def count(self) -> int:
        """Number of bands."""
        return sum(self._count(name) for name in self.names)

    def __call__(
        self, probabilities: Tensor, valid: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """Compute all bands, on the device of the probabilities.

        Args:
            probabilities: Of shape (K, H, W).
            valid: Whether a pixel is valid, of shape (H, W); 255 where not.

        Returns:
            Bands, of shape (count, H, W).
        """
        _, height, width = probabilities.shape
        shape = self.count, height, width
        stored = torch.empty(shape, dtype=torch.uint8, device=probabilities.device)
        step = height if probabilities.is_cuda else max(_CHUNK // width, 1)
        for top in range(0, height, step):
            part = slice(top, top + step)
            # Chosen once for all layers.
            chosen = choose(probabilities[:, part])
            for name in self.names:
                stored[self.bands(name), part] = LAYERS[name](
                    probabilities[:, part], *chosen
                )
        values: NDArray[np.uint8] = stored.cpu().numpy()
        if not valid.all():
            values[:, ~valid] = NODATA
        return values

    def _count(self, name: str) -> int:
        return self.num_classes if name == 'probabilities' else 1


def choose(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The class of each pixel, and its probability.

    Pair by pair: on a CPU ``argmax`` over the first of several axes takes ten times as
    long and more. Among equals it is the first class, as there.

    Args:
        probabilities: Of shape (K, H, W), K at most 255.

    Returns:
        Class as uint8 and probability, both of shape (H, W).
    """
    best = probabilities[0].clone()
    index = torch.zeros_like(best, dtype=torch.uint8)
    for k in range(1, len(probabilities)):
        # The index only grows: a maximum of bytes is faster than a masked fill.
        better = (probabilities[k] > best).view(torch.uint8)
        torch.maximum(index, better * k, out=index)
        torch.maximum(best, probabilities[k], out=best)
    return index, best


def _classes(probabilities: Tensor, index: Tensor, best: Tensor) -> Tensor:
    return index


def _confidence(probabilities: Tensor, index: Tensor, best: Tensor) -> Tensor:
    return _stored(best)


def _probabilities(probabilities: Tensor, index: Tensor, best: Tensor) -> Tensor:
    return _stored(probabilities)


def _margin(probabilities: Tensor, index: Tensor, best: Tensor) -> Tensor:
    others = probabilities.scatter(0, index.long()[None], -torch.inf)
    return _stored(best - others.amax(dim=0).clamp_(min=0))


def _entropy(probabilities: Tensor, index: Tensor, best: Tensor) -> Tensor:
    largest = math.log(max(len(probabilities), 2))
    return _stored(torch.special.entr(probabilities).sum(dim=0) / largest)


def _stored(share: Tensor) -> Tensor:
    # Cut off after adding a half: rounded.
    return share.mul(FULL).add_(0.5).clamp_(0, FULL + 0.5)


#: What can be stored: the class; its probability; by how much it is ahead of the next;
#: the entropy of all probabilities, 1 where they are equal; the probability of each class.
LAYERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    'classes': _classes,
    'confidence': _confidence,
    'margin': _margin,
    'entropy': _entropy,
    'probabilities': _probabilities,
}
