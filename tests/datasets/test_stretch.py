"""Each sample between its own least and greatest value."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eoseg_datasets import MinMaxStretch
from eoseg_datasets.stretch import stretched


def test_bands_are_stretched_together_and_decimals_cut() -> None:
    image = np.array([[[100.0, 300.0]], [[200.0, 500.0]]], np.float32)
    result = stretched(image, np.ones((1, 2), bool))
    # 255 x (0, 1/2, 1/4, 1); the greatest falls just short of 255.
    assert result.tolist() == [[[0, 127]], [[63, 254]]]
    assert result.dtype == np.uint8


def test_a_pixel_without_data_takes_no_part() -> None:
    image = np.array([[[0.0, 100.0, 200.0]]], np.float32)
    valid = np.array([[False, True, True]])
    assert stretched(image, valid).tolist() == [[[0, 0, 254]]]
    assert stretched(image, ~np.zeros_like(valid)).tolist() == [[[0, 127, 254]]]
    assert stretched(image, np.zeros_like(valid)).tolist() == [[[0, 0, 0]]]


@given(
    arrays(np.uint16, (3, 4, 5)),
    st.integers(1, 65535),
)
def test_the_order_of_values_stays(image: np.ndarray, constant: int) -> None:
    result = stretched(image.astype(np.float32), np.ones((4, 5), bool))
    order = np.argsort(image, axis=None)
    assert (np.diff(result.ravel()[order].astype(int)) >= 0).all()
    flat = np.full((3, 4, 5), constant, np.float32)
    assert not stretched(flat, np.ones((4, 5), bool)).any()


@pytest.mark.parametrize('key', ['mask', 'scene'])
def test_a_sample_keeps_everything_else(key: str) -> None:
    sample = {
        'image': torch.tensor([[[1.0, 2.0]]]),
        'valid': torch.ones(1, 2, dtype=torch.bool),
        key: torch.tensor([7]),
    }
    result = MinMaxStretch()(sample)
    assert result[key] is sample[key]
    assert result['image'].tolist() == [[[0, 254]]]
    assert result['image'].dtype == torch.float32
    assert sample['image'].tolist() == [[[1, 2]]]
