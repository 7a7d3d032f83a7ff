from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from timm.layers.drop import DropPath

from eoseg.models import Backbone

NETWORK = 'mobilenetv3_small_050'
BACKBONE = Backbone(NETWORK, 3).eval()


@settings(max_examples=25, deadline=None)
@given(height=st.integers(32, 100), width=st.integers(32, 100))
def test_maps_have_one_cell_per_stride_whatever_the_size(
    height: int, width: int
) -> None:
    with torch.no_grad():
        maps = BACKBONE(torch.randn(1, 3, height, width))
    for feature, channels, stride in zip(
        maps, BACKBONE.channels, BACKBONE.strides, strict=True
    ):
        assert feature.shape[1] == channels
        assert abs(feature.shape[2] - height / stride) < 1
        assert abs(feature.shape[3] - width / stride) < 1


@pytest.mark.parametrize(
    'name',
    [
        'convnext_atto',
        'convnextv2_femto',
        'tiny_vit_5m_224',
        'resnet10t',
        'tf_efficientnet_lite0',
        'vgg11',
    ],
)
def test_networks_with_more_and_fewer_maps_give_the_same_four_strides(
    name: str,
) -> None:
    with torch.device('meta'):
        backbone = Backbone(name, 5)
        maps = backbone(torch.zeros(1, 5, 65, 130))
    assert [feature.shape[1] for feature in maps] == backbone.channels
    assert [tuple(feature.shape[2:]) for feature in maps] in (
        [(16, 32), (8, 16), (4, 8), (2, 4)],  # rounds down
        [(17, 33), (9, 17), (5, 9), (3, 5)],  # rounds up
    )


def test_maps_are_normalised_over_their_channels() -> None:
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = BACKBONE(image)
        raw = Backbone(NETWORK, 3, norm=False).eval()(image)
    # not the coarsest: its channels hardly vary at random weights
    for feature in maps[:2]:
        torch.testing.assert_close(
            feature.mean(dim=1), torch.zeros(feature[:, 0].shape), atol=1e-5, rtol=0
        )
    assert raw[0].mean(dim=1).abs().max() > 1e-3


def test_stochastic_depth_reaches_the_rate_in_the_last_block() -> None:
    backbone = Backbone('convnext_atto', 3, drop_path_rate=0.4)
    rates = [m.drop_prob for m in backbone.modules() if isinstance(m, DropPath)]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.4)


def test_weights_are_those_of_the_file(tmp_path: Path) -> None:
    whole: Any = timm.create_model(NETWORK)
    save_file(whole.state_dict(), tmp_path / 'a.safetensors')
    network: Any = Backbone(NETWORK, 3, tmp_path / 'a.safetensors').network
    torch.testing.assert_close(network.conv_stem.weight, whole.conv_stem.weight)


def test_last_norm_begins_with_the_weights_of_the_classifier(tmp_path: Path) -> None:
    whole: Any = timm.create_model('convnext_atto')
    torch.nn.init.normal_(whole.head.norm.weight)
    save_file(whole.state_dict(), tmp_path / 'a.safetensors')
    norms: Any = Backbone('convnext_atto', 3, tmp_path / 'a.safetensors').norms
    assert torch.equal(norms[3].weight, whole.head.norm.weight)
    assert all(norm.weight.eq(1).all() for norm in norms[:3])


def test_first_layer_of_more_bands_repeats_that_for_three(tmp_path: Path) -> None:
    whole: Any = timm.create_model('convnext_atto')
    save_file(whole.state_dict(), tmp_path / 'a.safetensors')
    four: Any = Backbone('convnext_atto', 4, tmp_path / 'a.safetensors').network
    expected = whole.stem[0].weight[:, [0, 1, 2, 0]] * 3 / 4
    torch.testing.assert_close(four.stem_0.weight, expected)


def test_frozen_network_neither_learns_nor_draws_and_its_norms_go_on_learning() -> None:
    backbone = Backbone('resnet10t', 3).freeze().train()
    assert not any(module.training for module in backbone.network.modules())
    assert backbone.norms.training
    loss = torch.stack([m.mean() for m in backbone(torch.randn(1, 3, 64, 64))]).sum()
    torch.autograd.backward(loss)
    assert all(p.grad is None for p in backbone.network.parameters())
    assert all(p.grad is not None for p in backbone.norms.parameters())


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('vit_tiny_patch16_224', 'vit_tiny_patch16_224 gives maps of strides 16'),
        ('swin_tiny_patch4_window7_224', '4, 8, 16, 32 with the channels last; needed'),
        ('none_such', "timm has no network 'none_such'"),
    ],
)
def test_networks_without_the_four_maps_are_named(name: str, reason: str) -> None:
    with torch.device('meta'), pytest.raises(ValueError, match=reason):
        Backbone(name, 3)


def test_image_smaller_than_a_cell_is_refused() -> None:
    with pytest.raises(ValueError, match='at least 32 x 32 pixels, got 31 x 64'):
        BACKBONE(torch.zeros(1, 3, 31, 64))


def test_running_statistics_follow_within_a_hundred_steps() -> None:
    backbone = Backbone('tf_efficientnet_lite0', 3)
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert all(norm.momentum is not None and norm.momentum >= 0.1 for norm in norms)
