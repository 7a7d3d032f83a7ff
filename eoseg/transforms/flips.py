"""Random flips of a batch."""

from collections.abc import Sequence
from typing import Any, Literal

import kornia.augmentation as K
from torch import nn

_FLIPS = {'horizontal': K.RandomHorizontalFlip, 'vertical': K.RandomVerticalFlip}


class RandomFlips(nn.Module):
    """Flip each sample at random: seen from above, no side is up."""

    def __init__(
        self,
        directions: Sequence[Literal['horizontal', 'vertical']] = (
            'horizontal',
            'vertical',
        ),
    ) -> None:
        """Initialize a new RandomFlips instance.

        Args:
            directions: Left and right are exchanged by a ``horizontal`` flip, top and
                bottom by a ``vertical`` one, each with a probability of one half.
        """
        super().__init__()
        self.flips = K.AugmentationSequential(
            *(_FLIPS[direction](p=0.5) for direction in directions),
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
