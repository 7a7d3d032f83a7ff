"""From values of the reader to what a network sees."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Subtract the mean of each band and divide by its standard deviation.

    Pixels that are not valid come as NaN and leave as 0, the mean: one NaN that reaches
    a network spreads over the whole patch.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Initialize a new Standardize instance.

        Args:
            mean: Mean of each band.
            std: Standard deviation of each band.
        """
        super().__init__()
        # Not in the state dict: the checkpoint holds them in words, as inputs.
        for name, values in (('mean', mean), ('std', std)):
            self.register_buffer(
                name, torch.tensor(values).view(-1, 1, 1), persistent=False
            )

    def forward(self, image: Tensor) -> Tensor:
        """Standardize images.

        Args:
            image: Of shape (B, C, H, W), NaN where a pixel is not valid.

        Returns:
            Images of the same shape, all finite.
        """
        return ((image - self.mean) / self.std).nan_to_num(nan=0, posinf=0, neginf=0)
