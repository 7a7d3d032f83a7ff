"""Numbers of any range in those of a picture."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

#: Keeps a constant patch from being divided by zero; the number is that of the paper.
_EPSILON = 1e-6


class MinMaxStretch:
    """Stretch each sample to whole numbers from 0 to 255, all bands together.

    For the *transforms* of a data set. Each sample has its own least and greatest value,
    so that the same ground has other numbers in another patch, and neighbouring patches
    do not fit together: it serves to repeat experiments that did so, such as that of the
    paper. Statistics of the data set are those of the unstretched numbers.

    Follows https://arxiv.org/abs/2412.06664, except that pixels without data take no
    part and stay 0.
    """

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Stretch a sample.

        Args:
            sample: With ``image`` of shape (C, H, W) and ``valid`` of shape (H, W).

        Returns:
            The sample with another ``image``, still float32.
        """
        image = stretched(sample['image'].numpy(), sample['valid'].numpy())
        return sample | {'image': torch.from_numpy(image.astype(np.float32))}


def stretched(
    image: NDArray[np.float32], valid: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """An image between the least and the greatest value of all its bands.

    Args:
        image: Of shape (C, H, W).
        valid: Which pixels count, of shape (H, W).

    Returns:
        (x - min) / (max - min + 1e-6) x 255 without its decimals, of shape (C, H, W); 0
        where a pixel does not count.
    """
    result = np.zeros(image.shape, np.uint8)
    if valid.any():
        # In double precision, as the numbers of uint16 images are divided there.
        values = image[:, valid].astype(np.float64)
        low, high = values.min(), values.max()
        result[:, valid] = (values - low) / (high - low + _EPSILON) * 255
    return result
