"""Changes of colour leave what is not valid, black and white as they are."""

import math

import pytest
import torch
from torch import Tensor

from eoseg.transforms import ColorJitter


def batch(white: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        'image': white * torch.rand(4, 3, 6, 5, generator=generator),
        'mask': torch.ones(4, 6, 5, dtype=torch.long),
        'valid': torch.ones(4, 6, 5, dtype=torch.bool),
    }


@pytest.mark.parametrize('white', [1.0, 255.0])
def test_colours_change_between_black_and_white(white: float) -> None:
    torch.manual_seed(0)
    given = batch(white)
    changed = ColorJitter(white)(given)
    image = changed['image']
    assert image.min() >= 0 and image.max() <= white
    apart = (image - given['image']).abs().flatten(1).mean(1) / white
    assert (apart > 0.01).all()
    assert len(set(apart.tolist())) == 4  # each sample on its own
    assert torch.equal(changed['mask'], given['mask'])


def test_the_unit_does_not_matter() -> None:
    images = []
    for white in (1.0, 255.0):
        torch.manual_seed(1)
        images.append(ColorJitter(white)(batch(white))['image'] / white)
    torch.testing.assert_close(*images, atol=1e-5, rtol=0)


def test_pixels_that_are_not_valid_stay() -> None:
    given = batch(255.0)
    given['valid'][:, 0] = False
    given['image'][:, :, 0] = math.nan
    image = ColorJitter()(given)['image']
    assert image[:, :, 0].isnan().all()
    assert image[:, :, 1:].isfinite().all()


def test_other_images_are_refused() -> None:
    given = batch(255.0) | {'image': torch.zeros(4, 5, 6, 5)}
    with pytest.raises(ValueError, match='got images of 5 bands'):
        ColorJitter()(given)
    with pytest.raises(ValueError, match='white must be positive, got 0'):
        ColorJitter(0)
