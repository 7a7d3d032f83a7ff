"""Pictures of red, green and blue as the networks of these benchmarks see them."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from torch import Tensor

#: Mean and standard deviation of ImageNet.
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

#: Percentiles that become black and white.
STRETCH = (1, 99.5)

#: Strength of random changes of brightness.
JITTER = 0.15


def read_picture(path: Path) -> NDArray[Any]:
    """Read all bands, of shape (C, H, W); pictures have no place on the earth.

    Args:
        path: PNG or GeoTIFF.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        file = rasterio.open(path)
    with file:
        values: NDArray[Any] = file.read()
    return values


def stretched(image: NDArray[Any]) -> Tensor:
    """Bring values of any unit to 0 … 1.

    Args:
        image: Values of any shape; 0 is nodata.
    """
    low, high = np.percentile(image[image > 0], STRETCH)
    return torch.from_numpy(((image - low) / ((high - low) or 1)).clip(0, 1)).float()


def normal(image: Tensor) -> Tensor:
    """Standardize with the statistics of ImageNet.

    Args:
        image: Values from 0 to 1, of shape (…, 3, H, W).
    """
    return (image - MEAN) / STD


def jittered(images: Tensor, random: np.random.Generator) -> Tensor:
    """Make images brighter or darker, as a whole and a little by band.

    Args:
        images: Values from 0 to 1, of shape (B, 3, H, W).
        random: Draws.
    """

    def drawn(channels: int) -> Tensor:
        values = random.normal(scale=JITTER, size=(len(images), channels, 1, 1))
        return torch.from_numpy(values.astype(np.float32))

    gain = torch.exp(drawn(1) + 0.3 * drawn(3))
    return (images * gain + 0.3 * drawn(1)).clamp(0, 1.2)
