"""The network in the style of HFD-Net: alignment across scales, one shape for two sensors."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from eoseg.models import (
    CachedTeacher,
    DeformAlign,
    FlowAlign,
    HFDNet,
    OpticalTeacher,
    create_model,
)
from eoseg.models.hfdnet import LEVELS, Align, warped

TINY = {'backbone': 'resnet10t', 'channels': 8}


def tiny(bands: int, align: Align = 'flow', detail: int = 0) -> HFDNet:
    torch.manual_seed(0)
    return HFDNet(
        bands, 2, backbone='resnet10t', channels=8, align=align, detail=detail
    )


@settings(max_examples=20, deadline=None)
@given(
    source=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    target=st.tuples(st.integers(1, 17), st.integers(1, 17)),
)
def test_no_flow_is_the_bilinear_resize(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    feature = torch.randn(2, 3, *source)
    expected = F.interpolate(feature, target, mode='bilinear', align_corners=False)
    result = warped(feature, torch.zeros(2, 2, *target))
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize('right, down', [(2, 0), (0, 3), (-1, 2)])
def test_a_constant_flow_shifts_a_map_by_whole_pixels(right: int, down: int) -> None:
    feature = torch.randn(1, 2, 12, 10)
    flow = torch.tensor([right, down]).view(1, 2, 1, 1).expand(1, 2, 12, 10)
    shifted = feature.roll((-down, -right), (-2, -1))
    inside = (..., slice(3, -3), slice(3, -3))
    torch.testing.assert_close(
        warped(feature, flow)[inside], shifted[inside], atol=1e-5, rtol=0
    )


def test_flow_is_in_pixels_of_the_fine_map() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0] = 2.0  # one pixel of the coarse map
    still = warped(ramp, torch.zeros_like(flow))
    inside = (..., slice(3, 12))
    torch.testing.assert_close(warped(ramp, flow)[inside], still[inside] + 1)


def test_alignment_begins_as_the_bilinear_resize() -> None:
    low, high = torch.randn(1, 8, 9, 7), torch.randn(1, 8, 5, 4)
    expected = F.interpolate(high, (9, 7), mode='bilinear', align_corners=False)
    torch.testing.assert_close(FlowAlign(8)(low, high), expected, atol=1e-5, rtol=0)
    flow, plain = tiny(2).eval(), tiny(2, 'bilinear').eval()
    plain.load_state_dict(flow.state_dict(), strict=False)
    image = torch.randn(1, 2, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(flow(image), plain(image), atol=1e-4, rtol=1e-4)


def test_the_offsets_of_a_deformable_alignment_begin_as_zero() -> None:
    align = DeformAlign(4)
    low, high = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)
    enlarged = F.interpolate(high, (8, 8), mode='bilinear', align_corners=False)
    expected = F.conv2d(enlarged, align.convolution.weight, padding=1)
    torch.testing.assert_close(align(low, high), expected, atol=1e-5, rtol=1e-4)


def test_the_flow_learns() -> None:
    network = tiny(2)
    torch.autograd.backward(network(torch.randn(2, 2, 64, 64)).square().sum())
    flows = [m for m in network.modules() if isinstance(m, FlowAlign)]
    assert len(flows) == 6
    assert all(bool(flow.flow.weight.grad.abs().sum() > 0) for flow in flows)  # type: ignore[union-attr]


@pytest.mark.parametrize('align', ['flow', 'bilinear', 'deform'])
def test_maps_have_the_strides_of_their_names(align: Align) -> None:
    network = tiny(3, align).eval()
    output = network.forward_train(torch.randn(2, 3, 65, 96))
    assert output.logits.shape == (2, 2, 65, 96)
    assert [tuple(output.maps[level].shape[1:]) for level in LEVELS] == [
        (network.channels[level], *size)
        for level, size in zip(
            LEVELS, [(17, 24), (9, 12), (5, 6), (3, 3), (17, 24)], strict=True
        )
    ]


def test_networks_of_two_sensors_differ_in_the_first_convolution_alone() -> None:
    optical, radar = tiny(13).state_dict(), tiny(2).state_dict()
    assert optical.keys() == radar.keys()
    differing = [key for key in radar if optical[key].shape != radar[key].shape]
    assert differing == ['backbone.network.conv1.0.weight']


def test_the_path_for_detail_tells_neighbouring_pixels_apart() -> None:
    image = torch.zeros(1, 2, 64, 64)
    image[..., ::2] = 1.0  # what maps of 4 x 4 pixels cannot hold
    coarse, fine = tiny(2).eval(), tiny(2, detail=4).eval()
    with torch.no_grad():
        between = [
            float((logits[..., 31:33].diff()).abs().mean())
            for logits in (coarse(image), fine(image))
        ]
    assert between[1] > 10 * between[0]


def test_a_checkpoint_can_name_it() -> None:
    assert isinstance(
        create_model('HFDNet', in_channels=2, num_classes=2, **TINY), HFDNet
    )
    with pytest.raises(ValueError, match="'bilinear' or 'deform', got 'warp'"):
        create_model('HFDNet', in_channels=2, num_classes=2, align='warp', **TINY)


def test_the_published_size_of_the_specification_is_kept() -> None:
    with torch.device('meta'):
        network = HFDNet(2, 10)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == 29_044_234


def test_a_teacher_stays_as_it_is() -> None:
    teacher = OpticalTeacher(tiny(3)).train()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    maps = teacher(torch.randn(2, 3, 64, 64))
    assert not any(m.requires_grad for m in maps)
    assert not any(p.requires_grad for p in teacher.parameters())
    after = teacher.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_maps_of_a_teacher_can_come_from_the_disk(tmp_path: Path) -> None:
    teacher = OpticalTeacher(tiny(3))
    image = torch.randn(2, 3, 64, 64)
    cached = CachedTeacher(teacher, tmp_path)
    first, again, plain = cached(image), cached(image), teacher(image)
    assert len(list(tmp_path.rglob('*.safetensors'))) == 2
    for one, two, three in zip(first, again, plain, strict=True):
        assert torch.equal(one, two)
        torch.testing.assert_close(one, three, atol=1e-2, rtol=1e-2)
    other = tiny(3)
    torch.nn.init.zeros_(other.head.weight)
    assert OpticalTeacher(other).fingerprint() != teacher.fingerprint()
