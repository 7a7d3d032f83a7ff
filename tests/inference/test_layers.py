"""Bands of a map: chosen before anything is rounded."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eoseg.inference.layers import LAYERS, Layers, choose


@given(
    num_classes=st.integers(1, 7),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_the_class_chosen_is_the_first_of_the_largest(
    num_classes: int, height: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # Few different values, so that there are ties.
    values = rng.integers(0, 4, (num_classes, height, width)).astype(np.float32)
    index, best = choose(torch.from_numpy(values))
    np.testing.assert_array_equal(index.numpy(), values.argmax(axis=0))
    np.testing.assert_array_equal(best.numpy(), values.max(axis=0))


def test_layers_are_stored_in_their_order_and_nodata_is_in_all() -> None:
    layers = Layers(('classes', 'confidence', 'margin', 'entropy', 'probabilities'), 3)
    probabilities = torch.tensor([0.5, 0.3, 0.2]).view(3, 1, 1).repeat(1, 1, 2)
    values = layers(probabilities, np.array([[True, False]]))
    entropy = -sum(p * math.log(p) for p in (0.5, 0.3, 0.2)) / math.log(3)
    shares = [0.5, 0.2, entropy, 0.5, 0.3, 0.2]
    assert values[:, 0, 0].tolist() == [0, *(round(254 * share) for share in shares)]
    assert (values[:, 0, 1] == 255).all()
    assert layers.bands('probabilities') == slice(4, 7)
    assert layers.count == 7


def test_the_class_is_chosen_before_probabilities_are_rounded() -> None:
    close = torch.tensor([0.4999, 0.5001]).view(2, 1, 1)
    values = Layers(('classes', 'probabilities'), 2)(close, np.ones((1, 1), bool))
    assert values[:, 0, 0].tolist() == [1, 127, 127]


@pytest.mark.parametrize('name', LAYERS)
def test_a_raster_wider_than_a_chunk_is_whole(name: str) -> None:
    probabilities = torch.rand(2, 3, 300_000).softmax(dim=0)
    layers = Layers((name,), 2)
    whole = layers(probabilities, np.ones((3, 300_000), bool))
    part = layers(probabilities[:, 1:2, :50], np.ones((1, 50), bool))
    np.testing.assert_array_equal(whole[:, 1:2, :50], part)


def test_one_class_is_certain() -> None:
    layers = Layers(('classes', 'confidence', 'margin', 'entropy'), 1)
    values = layers(torch.ones(1, 1, 1), np.ones((1, 1), bool))
    assert values.ravel().tolist() == [0, 254, 254, 0]
