"""Random changes of brightness and colour."""

import math
from typing import Any, NamedTuple

import torch
from kornia.color import hsv_to_rgb, rgb_to_hsv
from torch import Tensor, nn

#: Brightness is shifted by at most this much of 255.
BRIGHTNESS = 32

#: Least and greatest factor of contrast and saturation.
FACTORS = (0.5, 1.5)

#: Hue is turned by at most this angle in radians: 18 of 180 in the units of OpenCV.
HUE = math.radians(36)


class Amounts(NamedTuple):
    """How much each image of a batch is changed, each of shape (B, 1, 1, 1)."""

    #: Added to all bands.
    brightness: Tensor
    #: Factor of all bands, before hue and saturation are changed.
    early_contrast: Tensor
    #: Factor of the saturation.
    saturation: Tensor
    #: Angle in radians that the hue is turned by.
    hue: Tensor
    #: Factor of all bands, after hue and saturation are changed.
    late_contrast: Tensor


class PhotometricDistortion(nn.Module):
    """Change brightness, contrast, saturation and hue of each sample at random.

    Each of the four is changed with a probability of one half; contrast before or after
    the colour, which is a matter of chance, too. Made for photograph-like images: in
    measured radiances it would destroy what the numbers mean.

    Follows PhotoMetricDistortion of mmsegmentation with its defaults, as KTDA was trained
    (https://github.com/XavierJiezou/KTDA, c4fd705), except that values are not rounded
    to 8 bit after each step.
    """

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Change the images of a batch.

        Args:
            batch: With ``image`` (B, 3, H, W), red, green and blue from 0 to 255, and
                ``valid`` (B, H, W); other keys are left alone.

        Returns:
            The batch with the images replaced. Pixels that are not valid stay as they
            are.

        Raises:
            ValueError: If the images have other bands or other values.
        """
        image, valid = batch['image'], batch['valid'][:, None]
        _check(image, valid)
        changed = distort(image, draw_amounts(len(image), image.device))
        return batch | {'image': torch.where(valid, changed, image)}


def draw_amounts(count: int, device: torch.device | None = None) -> Amounts:
    """Draw how much images are changed.

    Args:
        count: Number of images.
        device: Where the numbers are drawn.
    """
    shape = (count, 1, 1, 1)

    def half() -> Tensor:
        return torch.rand(shape, device=device) < 0.5

    def drawn(low: float, high: float, neutral: float) -> Tensor:
        amount = torch.empty(shape, device=device).uniform_(low, high)
        return torch.where(half(), amount, neutral)

    contrast, early = drawn(*FACTORS, 1.0), half()
    return Amounts(
        brightness=drawn(-BRIGHTNESS, BRIGHTNESS, 0.0),
        early_contrast=torch.where(early, contrast, 1.0),
        saturation=drawn(*FACTORS, 1.0),
        hue=drawn(-HUE, HUE, 0.0),
        late_contrast=torch.where(early, 1.0, contrast),
    )


def distort(image: Tensor, amounts: Amounts) -> Tensor:
    """Change brightness, contrast, saturation and hue.

    Args:
        image: Red, green and blue from 0 to 255, of shape (B, 3, H, W).
        amounts: How much.

    Returns:
        Images of the same shape, from 0 to 255.
    """
    image = (image + amounts.brightness).clamp(0, 255)
    image = (image * amounts.early_contrast).clamp(0, 255)
    hue, saturation, value = rgb_to_hsv(image / 255).chunk(3, dim=1)
    hue = (hue + amounts.hue) % (2 * math.pi)
    saturation = (saturation * amounts.saturation).clamp(max=1)
    image = 255 * hsv_to_rgb(torch.cat([hue, saturation, value], dim=1))
    return (image * amounts.late_contrast).clamp(0, 255)


def _check(image: Tensor, valid: Tensor) -> None:
    bands = image.shape[1]
    known = image.masked_fill(~valid, 0)
    if bands != 3 or known.min() < 0 or known.max() > 255:
        raise ValueError(
            'PhotometricDistortion takes red, green and blue with values from 0 to 255; '
            f'got {bands} bands with values from {known.min():g} to {known.max():g}. For '
            'other images, leave it out of train_aug of the data module.'
        )
