"""Random flips of a batch."""

from typing import Any

import kornia.augmentation as K
from torch import nn


class RandomFlips(nn.Module):
    """Flip each sample at random: seen from above, no side is up."""

    def __init__(self) -> None:
        """Initialize a new RandomFlips instance."""
        super().__init__()
        self.flips = K.AugmentationSequential(
            K.RandomHorizontalFlip(p=0.5),
            K.RandomVerticalFlip(p=0.5),
            data_keys=['input', 'mask', 'mask'],
        )

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Flip image, mask and validity of a batch together.

        Args:
            batch: With ``image`` (B, C, H, W), ``mask`` (B, H, W) and ``valid``
                (B, H, W); other keys are left alone.

        Returns:
            The batch with those three replaced.
        """
        # Kornia flips floating-point tensors of four dimensions; classes up to 255 and
        # booleans are exact in them.
        image, mask, valid = self.flips(
            batch['image'],
            batch['mask'][:, None].float(),
            batch['valid'][:, None].float(),
        )
        return batch | {
            'image': image,
            'mask': mask[:, 0].long(),
            'valid': valid[:, 0].bool(),
        }
