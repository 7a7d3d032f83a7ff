"""ST-DASegNet: the disentangling, the discriminators and the network of both."""

from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from eoseg.errors import CheckpointError
from eoseg.models import (
    ASPPHead,
    DistinctGate,
    DomainDisentangle,
    FeatureDiscriminator,
    MixTransformer,
    STDASegNet,
    UniversalAttention,
    create_model,
)
from eoseg.models.discriminator import choose_downs, least_cells

MIT = (64, 128, 320, 512)
RESNET = (256, 512, 1024, 2048)


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Networks without memory for their weights."""
    # MiT asks for the value of a tensor while it is built.
    monkeypatch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))
    return torch.device('meta')


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# The domain disentangled module.


def straight(
    module: DomainDisentangle, a: list[Tensor], b: list[Tensor]
) -> list[Tensor]:
    """The pyramids of source and target as the specification writes them, pixel by pixel."""
    result: list[list[Tensor]] = [[], []]
    for gate, s, t in zip(module.gates, a, b, strict=True):
        assert isinstance(gate, DistinctGate)
        g = torch.einsum('bchw->bc', s + t) / (s.shape[2] * s.shape[3])
        z = g @ gate.squeeze.weight.T + gate.squeeze.bias
        l_s = torch.exp(z @ gate.source.weight.T + gate.source.bias)
        l_t = torch.exp(z @ gate.target.weight.T + gate.target.bias)
        result[0].append(torch.einsum('bc,bchw->bchw', l_s / (l_s + l_t), s))
        result[1].append(torch.einsum('bc,bchw->bchw', l_t / (l_s + l_t), t))
    if module.universal is not None:
        part: UniversalAttention = module.universal

        def conv(of: nn.Module, x: Tensor) -> Tensor:
            layer: nn.Conv2d = of[0]  # type: ignore[index]
            return F.conv2d(x, layer.weight, layer.bias, padding=1).clamp(min=0)

        key = conv(part.key, (a[-1] + b[-1]) / 2)
        shares = []
        for feature in (a[-1], b[-1]):
            energy = torch.einsum('bchw,bdhw->bcd', feature, key)
            peak = energy.amax(dim=2, keepdim=True)
            raw = torch.exp(peak - energy - (peak - energy).amax(dim=2, keepdim=True))
            shares.append(raw / raw.sum(dim=2, keepdim=True))
        attention = (shares[0] + shares[1]) / 2
        for maps, of, feature in zip(
            result, (part.source, part.target), (a[-1], b[-1]), strict=True
        ):
            mixed = torch.einsum('bcd,bdhw->bchw', attention, feature)
            maps[-1] = torch.cat([maps[-1], conv(of, mixed)], dim=1)
    return [*result[0], *result[1]]


@pytest.mark.parametrize('parts', ['full', 'distinct'])
def test_disentangling_is_as_specified(parts: str) -> None:
    torch.manual_seed(0)
    channels = (8, 24, 72)
    module = DomainDisentangle(channels, parts)  # type: ignore[arg-type]
    a, b = (
        [torch.randn(2, c, 6 - i, 5 - i) for i, c in enumerate(channels)]
        for _ in range(2)
    )
    found = module(a, b)
    for ours, theirs in zip(
        [*found.source, *found.target], straight(module, a, b), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert [m.shape[1] for m in found.source] == module.out_channels
    assert module.out_channels[-1] == 72 + (9 if parts == 'full' else 0)


def test_without_disentangling_maps_are_as_they_were() -> None:
    module = DomainDisentangle((8, 16), 'none')
    a, b = ([torch.randn(1, c, 2, 2) for c in (8, 16)] for _ in range(2))
    found = module(a, b)
    assert all(x is y for x, y in zip(found.source + found.target, a + b, strict=True))
    assert count(module) == 0


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(1, 40), seed=st.integers(0, 99))
def test_shares_add_up_to_one(channels: int, seed: int) -> None:
    torch.manual_seed(seed)
    a, b = torch.randn(2, 2, channels, 3, 4).unbind(0)
    weights = DistinctGate(channels).weights(a, b)
    torch.testing.assert_close(weights.sum(0), torch.ones(2, channels, 1, 1))
    attention = UniversalAttention(channels).attention(a, b)
    torch.testing.assert_close(attention.sum(2), torch.ones(2, channels))


def test_attention_goes_to_what_is_not_alike_unless_told() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 12, 4, 4).unbind(0)
    module = UniversalAttention(12)
    inverted = module.attention(a, b)
    module.invert = False
    plain = module.attention(a, b)
    # What is likeliest in one is least likely in the other.
    assert (inverted.argmax(2) != plain.argmax(2)).all()


def test_energies_stay_in_single_precision_under_autocast() -> None:
    module = DomainDisentangle((16,))
    maps = [torch.randn(1, 16, 4, 4, dtype=torch.bfloat16) * 300]
    with torch.autocast('cpu', torch.bfloat16):
        found = module(maps, maps)
    assert found.source[0].isfinite().all()


@pytest.mark.parametrize('channels, expected', [(MIT, 3_096_320), (RESNET, 49_285_600)])
def test_it_has_as_many_parameters_as_published(
    channels: tuple[int, ...], expected: int, meta: torch.device
) -> None:
    with meta:
        assert count(DomainDisentangle(channels)) == expected


def test_a_bottleneck_makes_it_small_after_a_resnet(meta: torch.device) -> None:
    with meta:
        assert count(DomainDisentangle(RESNET, dim=256)) < 5_000_000


# The discriminators.


@pytest.mark.parametrize(
    'channels, downs, expected', [(512, 2, 1_184_193), (2048, 3, 4_858_817)]
)
def test_a_discriminator_has_as_many_parameters_as_published(
    channels: int, downs: int, expected: int
) -> None:
    assert count(FeatureDiscriminator(channels, downs)) == expected


@pytest.mark.parametrize('downs', [0, 1, 2, 3])
def test_a_discriminator_takes_the_smallest_map_and_no_smaller(downs: int) -> None:
    least = least_cells(downs)
    judge = FeatureDiscriminator(4, downs).train()
    assert judge(torch.randn(1, 4, least, least)).isfinite().all()
    with pytest.raises(ValueError, match=f'at least {least} x {least} cells, got'):
        judge(torch.randn(1, 4, least - 1, least))


def test_a_smaller_map_would_fail_in_the_norm() -> None:
    judge = FeatureDiscriminator(4, 2).train()
    with pytest.raises((ValueError, RuntimeError)):
        judge.layers(torch.randn(1, 4, 11, 11))


def test_a_discriminator_sees_where_and_not_how_much() -> None:
    torch.manual_seed(0)
    judge = FeatureDiscriminator(4, 1)
    feature = torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(judge(feature), judge(feature + 7), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(judge(feature), judge(feature.flip(-1)))


@pytest.mark.parametrize(
    'patch, expected', [(384, 2), (512, 2), (383, 1), (192, 1), (128, 0), (64, 0)]
)
def test_a_patch_is_halved_as_often_as_it_can_be(patch: int, expected: int) -> None:
    assert choose_downs('auto', patch) == expected


def test_a_patch_that_is_too_small_is_told_which_is_not() -> None:
    with pytest.raises(ValueError, match=r'6 x 6.* 384 pixels, or downs auto'):
        choose_downs(2, 192)
    with pytest.raises(ValueError, match=r'1 x 1.* at least 64 pixels$'):
        choose_downs('auto', 32)
    assert choose_downs(2, 384) == 2


# The head and the network.


def test_the_head_of_deeplab_has_as_many_parameters_as_published(
    meta: torch.device,
) -> None:
    with meta:
        head = ASPPHead((256, 512, 1024, 2304), 6)
    assert count(head) == 18_355_062


def test_the_networks_have_as_many_parameters_as_published(meta: torch.device) -> None:
    with meta:
        segformer = STDASegNet(3, 6, backbone='mit_b5')
        deeplab = STDASegNet(
            3, 6, backbone='resnet50', norm=False, head='aspp', head_channels=512
        )
    assert count(segformer.target_backbone) == 81_443_008
    assert count(segformer.target_head) == 544_774
    assert count(segformer) == 2 * 81_443_008 + 3_096_320 + 2 * 544_774
    # The authors' ResNet has a stem of three convolutions.
    assert count(deeplab.target_backbone) == 23_508_032
    assert count(deeplab) == 2 * 23_508_032 + 49_285_600 + 2 * 18_355_062


@pytest.mark.parametrize('backbone', ['convnext_atto', 'resnet10t', 'mit_b0'])
@pytest.mark.parametrize('head', ['segformer', 'aspp'])
def test_any_backbone_goes_with_any_head(backbone: str, head: str) -> None:
    torch.manual_seed(0)
    model = create_model(
        'STDASegNet',
        in_channels=4,
        num_classes=3,
        backbone=backbone,
        head=head,
        head_channels=8,
    )
    assert isinstance(model, STDASegNet)
    assert model(torch.randn(1, 4, 70, 65)).shape == (1, 3, 70, 65)
    output = model.forward_train(torch.randn(2, 4, 96, 64))
    assert output.source.shape == output.target.shape == (2, 3, 24, 16)
    torch.autograd.backward(output.source.sum() + output.target.sum())
    without = [n for n, p in model.named_parameters() if p.grad is None]
    # Of the maps, that head reads the first and the last.
    unread = () if head == 'segformer' else ('gates.1', 'gates.2', 'norms.1', 'norms.2')
    assert [n for n in without if not any(part in n for part in unread)] == []


def test_the_answer_is_the_mean_of_both_decoders() -> None:
    torch.manual_seed(0)
    model = STDASegNet(3, 2, backbone='convnext_atto', head_channels=8).eval()
    image = torch.randn(1, 3, 64, 64)
    output = model.forward_train(image)
    mean = F.interpolate((output.source + output.target) / 2, (64, 64), mode='bilinear')
    torch.testing.assert_close(model(image), mean)


def test_the_path_of_the_target_alone_is_half_the_network() -> None:
    torch.manual_seed(0)
    model = STDASegNet(3, 2, backbone='convnext_atto', head_channels=8).eval()
    image = torch.randn(1, 3, 64, 64)
    own = model.target_backbone(image)
    maps = model.disentangle(own, own)
    expected = F.interpolate(model.target_head(maps.target), (64, 64), mode='bilinear')
    both = count(model)
    half = model.target_alone()
    torch.testing.assert_close(half(image), expected)
    assert count(half) - count(half.disentangle) == (both - count(half.disentangle)) / 2
    built = STDASegNet(
        3, 2, backbone='convnext_atto', head_channels=8, paths='target'
    ).eval()
    built.load_state_dict(half.state_dict())
    torch.testing.assert_close(built(image), expected)
    with pytest.raises(RuntimeError, match='cannot be trained'):
        built.forward_train(image)


def test_both_backbones_begin_with_the_same_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = MixTransformer('mit_b0', 3)
    state = {**source.network.state_dict(), 'head.weight': torch.zeros(1000, 256)}
    save_file(state, tmp_path / 'mit_b0.safetensors')
    model = STDASegNet(
        3, 2, backbone='mit_b0', head_channels=8,
        backbone_weights=str(tmp_path / 'mit_b0.safetensors'),
    )  # fmt: skip
    image = torch.randn(1, 3, 64, 64)
    expected = source.eval()(image)
    for backbone in (model.source_backbone, model.target_backbone):
        assert backbone is not None
        for ours, theirs in zip(backbone.eval()(image), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    with pytest.raises(CheckpointError, match='does not fit mit_b1'):
        MixTransformer('mit_b1', 3, tmp_path / 'mit_b0.safetensors')


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'head': 'uper'}, "head must be 'segformer' or 'aspp', got 'uper'"),
        ({'paths': 'source'}, "paths must be 'both' or 'target', got 'source'"),
        ({'disentangle': 'half'}, "parts must be 'full', 'distinct' or 'none'"),
        ({'backbone': 'mit_b9'}, 'one of mit_b0, .*mit_b5'),
        ({'backbone': 'vit_tiny_patch16_224'}, '4, 8, 16, 32'),
    ],
)
def test_what_it_cannot_be_is_told(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        STDASegNet(3, 2, **{'backbone': 'convnext_atto'} | arguments)  # type: ignore[arg-type]
