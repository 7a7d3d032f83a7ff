"""Pictures of what a network answers, to look at during training."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eoseg_datasets.classes import Legend

from ..io.quicklook import image_picture

#: Patches in a picture, at most, and white pixels between them.
ROWS, GAP = 4, 4


def comparison(
    batch: Mapping[str, Tensor], prediction: Tensor, legend: Legend
) -> NDArray[np.uint8]:
    """Image, mask and prediction of the first patches of a batch, one patch per row.

    Args:
        batch: With ``image``, ``mask`` and ``valid``.
        prediction: Classes of shape (B, H, W).
        legend: Colours of the classes. Pixels without a label are white.

    Returns:
        Red, green and blue, of shape (h, w, 3).
    """
    first = {key: batch[key][:ROWS].cpu() for key in ('image', 'mask', 'valid')}
    answers = prediction[:ROWS].cpu()
    colors = torch.full((256, 3), 255, dtype=torch.uint8)
    for index in range(len(legend.classes)):
        colors[index] = torch.tensor(legend.rgb(index))
    rows = []
    for image, mask, valid, answer in zip(*first.values(), answers, strict=True):
        seen = image_picture(image.float().numpy(), valid.numpy())
        panels = [_on_white(seen), colors[mask].numpy(), colors[answer].numpy()]
        rows.append(np.concatenate([_framed(panel) for panel in panels], axis=1))
    return np.concatenate(rows)


def _on_white(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(picture[..., 3:] > 0, picture[..., :3], np.uint8(255))


def _framed(panel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(panel, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)
