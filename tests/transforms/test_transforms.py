"""What happens to a batch between the data module and the task."""

import colorsys
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from eoseg.transforms import PhotometricDistortion, RandomFlips
from eoseg.transforms.photometric import Amounts, distort, draw_amounts

#: Amounts that change nothing.
NEUTRAL = {
    'brightness': 0.0,
    'early_contrast': 1.0,
    'saturation': 1.0,
    'hue': 0.0,
    'late_contrast': 1.0,
}


def amounts(**changes: float) -> Amounts:
    values = NEUTRAL | changes
    return Amounts(
        **{name: torch.full((1, 1, 1, 1), value) for name, value in values.items()}
    )


def pixel(*color: float) -> Tensor:
    return torch.tensor(color, dtype=torch.float32).view(1, 3, 1, 1)


def batch(count: int = 8) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (1, 3, 4, 5), generator=generator).float()
    valid = torch.ones(count, 4, 5, dtype=torch.bool)
    valid[:, 0] = False
    return {
        'image': image.repeat(count, 1, 1, 1).masked_fill(~valid[:, None], 0),
        'mask': torch.arange(20).view(1, 4, 5).repeat(count, 1, 1),
        'valid': valid,
        'path': 'a.tif',
    }


@pytest.mark.parametrize(
    'changes, expected',
    [
        ({}, (200, 100, 60)),
        ({'brightness': 32.0}, (232, 132, 92)),
        ({'brightness': -80.0}, (120, 20, 0)),
        ({'early_contrast': 1.5}, (255, 150, 90)),
        ({'late_contrast': 0.5}, (100, 50, 30)),
        # Of a grey of the same value: 200 - 0.5 x (200 - band)
        ({'saturation': 0.5}, (200, 150, 130)),
        ({'hue': 2 * math.pi / 3}, (60, 200, 100)),
        # The steps in their order: 255 is as bright as it gets, then half of it.
        ({'early_contrast': 1.5, 'late_contrast': 0.5}, (127.5, 75, 45)),
    ],
)
def test_each_step_changes_what_it_is_named_for(
    changes: dict[str, float], expected: tuple[float, ...]
) -> None:
    changed = distort(pixel(200, 100, 60), amounts(**changes))
    torch.testing.assert_close(changed, pixel(*expected), rtol=0, atol=1e-3)


@given(
    color=st.tuples(*[st.integers(0, 255)] * 3),
    saturation=st.floats(0.5, 1.5),
    hue=st.floats(-math.radians(36), math.radians(36)),
)
def test_hue_and_saturation_are_those_of_the_standard_library(
    color: tuple[int, int, int], saturation: float, hue: float
) -> None:
    h, s, v = colorsys.rgb_to_hsv(*(value / 255 for value in color))
    turned = (h + hue / (2 * math.pi)) % 1
    expected = colorsys.hsv_to_rgb(turned, min(s * saturation, 1), v)
    changed = distort(pixel(*color), amounts(saturation=saturation, hue=hue))
    torch.testing.assert_close(changed / 255, pixel(*expected), rtol=0, atol=1e-4)


def test_amounts_are_within_their_limits_and_half_of_them_neutral() -> None:
    torch.manual_seed(0)
    drawn = draw_amounts(4000)
    limits = {
        'brightness': (-32, 32),
        'early_contrast': (0.5, 1.5),
        'saturation': (0.5, 1.5),
        'hue': (-math.radians(36), math.radians(36)),
        'late_contrast': (0.5, 1.5),
    }
    for name, (low, high) in limits.items():
        values = getattr(drawn, name).flatten()
        assert low <= values.min() < 0.95 * low + 0.05 * high
        assert 0.05 * low + 0.95 * high < values.max() <= high
        neutral = (values == NEUTRAL[name]).float().mean().item()
        # Contrast is half the time of the other kind, too.
        assert neutral == pytest.approx(0.75 if 'contrast' in name else 0.5, abs=0.03)
    both = (drawn.early_contrast != 1) & (drawn.late_contrast != 1)
    assert not both.any()


def test_samples_are_changed_each_in_its_own_way_and_nothing_else_is() -> None:
    torch.manual_seed(0)
    given = batch()
    changed = PhotometricDistortion()(given)
    images = changed['image']
    assert len({tuple(image.flatten().tolist()) for image in images}) > 6
    assert images.shape == given['image'].shape
    assert images.min() >= 0 and images.max() <= 255
    assert all(changed[key] is given[key] for key in ('mask', 'valid', 'path'))


def test_pixels_that_are_not_valid_stay_as_they_are() -> None:
    torch.manual_seed(0)
    given = batch()
    given['image'][:, :, 0, 1:] = math.nan
    images = PhotometricDistortion()(given)['image']
    assert images[:, :, 0, 1:].isnan().all()
    assert not images[:, :, 0, 0].any()
    assert images[:, :, 1:].isfinite().all()
    assert not torch.equal(images[:, :, 1:], given['image'][:, :, 1:])


@pytest.mark.parametrize(
    'image, message',
    [
        (torch.zeros(2, 4, 4, 5), 'got 4 bands'),
        (torch.full((2, 3, 4, 5), 1000.0), 'to 1000'),
        (torch.full((2, 3, 4, 5), -2.0), 'from -2'),
    ],
)
def test_other_images_are_refused(image: Tensor, message: str) -> None:
    given = {'image': image, 'valid': torch.ones(2, 4, 5, dtype=torch.bool)}
    with pytest.raises(ValueError, match=f'{message}.*leave it out of train_aug'):
        PhotometricDistortion()(given)


def test_a_horizontal_flip_keeps_rows() -> None:
    torch.manual_seed(0)
    given = batch(32)
    flipped = RandomFlips(['horizontal'])(given)
    rows = flipped['mask'].sort(dim=2).values
    assert torch.equal(rows, given['mask'])
    turned = (flipped['mask'] != given['mask']).flatten(1).any(1)
    assert 8 < turned.sum() < 24
    expected = torch.where(
        turned[:, None, None, None], given['image'].flip(3), given['image']
    )
    assert torch.equal(flipped['image'], expected)


def test_flips_go_both_ways_by_default() -> None:
    torch.manual_seed(0)
    corners = RandomFlips()(batch(32))['mask'][:, 0, 0]
    assert set(corners.tolist()) == {0, 4, 15, 19}
