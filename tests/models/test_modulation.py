from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn
from torch.nn import functional as F

from eoseg.models import FeatureModulation
from eoseg.models.modulation import Attention, PooledAttention, WindowAttention

Kind = Literal['vit', 'pooled', 'window', 'mlp']
KINDS: tuple[Kind, ...] = ('vit', 'pooled', 'window', 'mlp')
ATTENTIVE: tuple[Kind, ...] = ('vit', 'pooled', 'window')


def modulation(kind: Kind = 'vit', **kwargs: Any) -> FeatureModulation:
    torch.manual_seed(0)
    made = FeatureModulation(16, **{'levels': 1, 'kind': kind, 'depth': 2} | kwargs)
    for parameter in made.parameters():
        # as large as after training, or attention is the same everywhere
        nn.init.normal_(parameter, std=0.3)
    return made.eval()


def masked(attention: Attention, cells: Tensor, seen: Tensor) -> Tensor:
    """Attention of all cells to all, less where *seen* says that one sees the other."""
    b, h, w, c = cells.shape
    qkv = attention.qkv(cells.flatten(1, 2)).reshape(b, h * w, 3, attention.heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(-1, -2) / (c / attention.heads) ** 0.5
    weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
    gathered = (weights @ value).transpose(1, 2).reshape(b, h, w, c)
    found: Tensor = attention.proj(gathered)
    return found


@pytest.mark.parametrize(
    ('kind', 'depth', 'expected'),
    [
        ('vit', 4, 113_405_952),
        ('vit', 1, 28_351_488),
        ('pooled', 4, 113_405_952),
        ('window', 4, 113_405_952),
        ('mlp', 1, 1_183_488),
    ],
)
def test_published_modulations_have_the_published_sizes(
    kind: Kind, depth: int, expected: int
) -> None:
    with torch.device('meta'):
        made = FeatureModulation(768, kind=kind, depth=depth)
    assert sum(parameter.numel() for parameter in made.parameters()) == expected


def test_blocks_are_those_of_a_vision_transformer() -> None:
    ours = modulation()
    theirs = nn.Sequential(*(TimmBlock(16, 8, 4.0, qkv_bias=True) for _ in range(2)))
    theirs.load_state_dict(ours.levels[0].state_dict())
    feature = torch.randn(2, 16, 3, 5)
    expected = theirs(feature.flatten(2).transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(ours([feature])[0], expected.reshape(feature.shape))


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 15),
    width=st.integers(1, 15),
    kind=st.sampled_from(KINDS),
    side=st.integers(1, 6),
)
def test_maps_of_any_size_keep_it(
    height: int, width: int, kind: Kind, side: int
) -> None:
    feature = torch.randn(2, 16, height, width)
    (changed,) = modulation(kind, side=side)([feature])
    assert changed.shape == feature.shape
    assert changed.isfinite().all()


@pytest.mark.parametrize('kind', ['pooled', 'window'])
def test_cheaper_kinds_take_weights_of_the_published_and_agree_on_small_maps(
    kind: Kind,
) -> None:
    published = modulation()
    cheaper = modulation(kind, side=6)
    cheaper.load_state_dict(published.state_dict())
    small, large = torch.randn(1, 16, 5, 6), torch.randn(1, 16, 9, 9)
    torch.testing.assert_close(cheaper([small])[0], published([small])[0])
    assert not torch.allclose(cheaper([large])[0], published([large])[0], atol=1e-2)


def test_pooled_keys_are_means_over_squares_of_cells() -> None:
    torch.manual_seed(0)
    attention = PooledAttention(8, 2, side=3)
    cells = torch.randn(2, 6, 4, 8)
    coarse = cells.reshape(2, 3, 2, 2, 2, 8).mean(dim=(2, 4)).flatten(1, 2)
    query = attention.qkv(cells.flatten(1, 2))[..., :8]
    key, value = attention.qkv(coarse)[..., 8:].chunk(2, dim=-1)
    parts = [t.unflatten(-1, (2, 4)).transpose(1, 2) for t in (query, key, value)]
    gathered = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
    expected = attention.proj(gathered).view_as(cells)
    torch.testing.assert_close(attention(cells), expected)


def test_pooled_keys_at_the_edge_are_means_of_the_cells_that_there_are() -> None:
    attention = PooledAttention(8, 2, side=2)
    cells = torch.ones(1, 5, 3, 8)
    assert torch.allclose(attention(cells), attention(cells[:, :1, :1]), atol=1e-6)


@pytest.mark.parametrize('shifted', [False, True])
@pytest.mark.parametrize('size', [(6, 9), (7, 5), (4, 11)])
def test_cells_of_one_window_see_each_other_and_no_others(
    size: tuple[int, int], shifted: bool
) -> None:
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, side=3, shifted=shifted)
    # Windows of equal length, at most 3; shifted ones begin half of one before.
    sides = [-(-length // -(-length // 3)) for length in size]
    number = [
        (torch.arange(length) + (step // 2 if shifted and length > 3 else 0)) // step
        for length, step in zip(size, sides, strict=True)
    ]
    window = (number[0][:, None] * 100 + number[1]).flatten()
    cells = torch.randn(2, *size, 8)
    expected = masked(attention, cells, window[:, None] == window)
    torch.testing.assert_close(attention(cells), expected)


def test_every_other_block_has_shifted_windows() -> None:
    blocks: Any = modulation('window', depth=4).levels[0]
    assert [block.attn.shifted for block in blocks] == [False, True, False, True]


def silent(made: FeatureModulation) -> FeatureModulation:
    for parameter in made.parameters():
        nn.init.zeros_(parameter)
    return made


@pytest.mark.parametrize('kind', KINDS)
def test_transformer_blocks_have_a_residual_and_linear_pairs_have_none(
    kind: Kind,
) -> None:
    features = [torch.randn(1, 16, 3, 4)]
    (changed,) = silent(modulation(kind))(features)
    expected = torch.zeros_like(features[0]) if kind == 'mlp' else features[0]
    assert torch.equal(changed, expected)


@pytest.mark.parametrize(('kind', 'alone'), [('vit', False), ('mlp', True)])
def test_cells_look_at_each_other_in_transformer_blocks_alone(
    kind: Kind, alone: bool
) -> None:
    made = modulation(kind, depth=1)
    feature = torch.randn(1, 16, 3, 4)
    changed = feature.clone()
    changed[..., 0, 0] += torch.randn(1, 16)
    (a,), (b,) = made([feature]), made([changed])
    assert not torch.equal(a[..., 0, 0], b[..., 0, 0])
    assert torch.equal(a[..., 2, 3], b[..., 2, 3]) == alone


def test_cells_keep_their_places_and_maps_have_blocks_of_their_own() -> None:
    made = modulation('mlp', levels=2, depth=1)
    feature = torch.randn(2, 16, 3, 5)
    a, b = made([feature, feature])
    torch.testing.assert_close(a[1, :, 2, 1], made.levels[0](feature[1, :, 2, 1]))
    assert not torch.allclose(a, b)


@pytest.mark.parametrize('kind', ATTENTIVE)
def test_attention_is_fused(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = F.scaled_dot_product_attention
    calls: list[tuple[int, ...]] = []

    def count(query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        calls.append((query.shape[-2], key.shape[-2]))
        return fused(query, key, *args, **kwargs)

    monkeypatch.setattr(F, 'scaled_dot_product_attention', count)
    modulation(kind, side=4)([torch.randn(1, 16, 8, 8)])
    cells = {'vit': (64, 64), 'pooled': (64, 16), 'window': (16, 16)}
    assert calls == [cells[kind]] * 2


def test_linear_layers_start_small() -> None:
    torch.manual_seed(0)
    made = FeatureModulation(64, levels=1)
    weights = [m.weight for m in made.modules() if isinstance(m, nn.Linear)]
    deviations = torch.stack([weight.detach().std() for weight in weights])
    torch.testing.assert_close(
        deviations, torch.full_like(deviations, 0.02), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'kind': 'cnn'}, "'vit', 'pooled', 'window' or 'mlp' .* got 'cnn'"),
        ({'heads': 5}, 'dim must be a multiple of 5, got 16'),
        ({'kind': 'mlp', 'rank': 3}, 'dim must be a multiple of 3, got 16'),
        ({'kind': 'window', 'side': 0}, 'side must be at least 1, got 0'),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureModulation(16, **arguments)
