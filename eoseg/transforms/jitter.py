"""Random changes of colour, as pictures of the ground vary between cameras and days."""

from typing import Any

import kornia.augmentation as K
import torch
from torch import nn


class ColorJitter(nn.Module):
    """Change brightness, contrast, saturation and hue of each sample at random.

    By as much as TransLandSeg does, all four for every sample and in random order. Made
    for red, green and blue; in measured radiances it would destroy what numbers mean.
    """

    def __init__(
        self,
        white: float = 255.0,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
    ) -> None:
        """Initialize a new ColorJitter instance.

        Args:
            white: Value that stands for white; black is 0. Values beyond are cut off.
            brightness: Greatest change of the factor of brightness.
            contrast: Greatest change of the factor of contrast.
            saturation: Greatest change of the factor of saturation.
            hue: Greatest turn of the hue, as a share of the circle.

        Raises:
            ValueError: If *white* is not positive.
        """
        super().__init__()
        if white <= 0:
            raise ValueError(f'white must be positive, got {white}')
        self.white = white
        self.jitter = K.ColorJitter(brightness, contrast, saturation, hue, p=1.0)

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Change the images of a batch.

        Args:
            batch: With ``image`` (B, 3, H, W), red, green and blue from 0 to *white*, and
                ``valid`` (B, H, W); other keys are left alone.

        Returns:
            The batch with the images replaced. Pixels that are not valid stay as they
            are.

        Raises:
            ValueError: If the images have other than three bands.
        """
        image, valid = batch['image'], batch['valid'][:, None]
        if image.shape[1] != 3:
            raise ValueError(
                'ColorJitter takes red, green and blue, got images of '
                f'{image.shape[1]} bands; leave it out'
            )
        shown = image.masked_fill(~valid, 0) / self.white
        changed = self.white * self.jitter(shown.clamp(0, 1))
        return batch | {'image': torch.where(valid, changed, image)}
