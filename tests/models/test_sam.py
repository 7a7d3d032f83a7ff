"""SAM with adapters: it begins as SAM, is as large as published, and says what is wrong."""

import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from eoseg.errors import CheckpointError
from eoseg.models import ATL, AdaptedSAM, ATLImageEncoder, HighPass, Teacher, find_base
from eoseg.models.atl import KINDS, LOCATIONS
from eoseg.models.sam_base import state_hash
from eoseg.models.sam_encoder import wanted_on

#: A SAM so small that a pass takes milliseconds.
SMALL: dict[str, Any] = {
    'embed_dim': 32, 'depth': 2, 'num_heads': 2, 'global_attn_indexes': [1],
    'window_size': 3, 'mlp_ratio': 2.0, 'out_chans': 32, 'decoder_mlp': 32,
    'decoder_heads': 2, 'iou_depth': 2, 'iou_hidden': 16,
}  # fmt: skip


def small(classes: int = 2, channels: int = 3, **arguments: Any) -> AdaptedSAM:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {'size': SMALL, 'img_size': 64}
    return AdaptedSAM(channels, classes, **defaults | arguments)


def encoder(side: int = 64, channels: int = 3) -> ImageEncoderViT:
    """Image encoder of segment-anything with positions that are not 0."""
    torch.manual_seed(1)
    network = ImageEncoderViT(
        img_size=side, in_chans=channels, embed_dim=32, depth=2, num_heads=2,
        mlp_ratio=2.0, out_chans=32, norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True, window_size=3, global_attn_indexes=(1,),
    )  # fmt: skip
    for name, parameter in network.named_parameters():
        if 'pos' in name:
            nn.init.normal_(parameter, std=0.5)
    return network.eval()


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def write_base(path: Path, side: int = 128) -> Path:
    """Write weights of a small SAM for images of another size."""
    torch.manual_seed(3)
    model = AdaptedSAM(3, 2, size=SMALL, img_size=side, adapter='none', freeze=False)
    for name, parameter in model.named_parameters():
        if 'pos' in name:
            nn.init.normal_(parameter, std=0.5)
    torch.save(model.to_sam(), path)
    return path


# What is added to SAM.


@pytest.mark.parametrize('rate', [0.25, 0.1, 0.0])
@pytest.mark.parametrize('shape', [(8, 8), (6, 9), (7, 12)])
def test_the_high_pass_is_that_of_its_definition(
    shape: tuple[int, int], rate: float
) -> None:
    height, width = shape
    picture = image(2, 3, height, width)
    spectrum = np.fft.fftshift(np.fft.fft2(picture.double().numpy()), axes=(-2, -1))
    half = int(math.sqrt(height * width * rate) // 2)
    top, left = height // 2, width // 2
    spectrum[..., top - half : top + half, left - half : left + half] = 0
    expected = np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(-2, -1))).real)
    np.testing.assert_allclose(HighPass(rate)(picture), expected, atol=1e-5)


def test_the_square_that_is_removed_has_the_published_side() -> None:
    for side, half in ((1024, 256), (512, 128), (256, 64), (128, 32)):
        constant = torch.full((1, 1, side, side), 3.0)
        wave = torch.cos(torch.arange(side) * 2 * math.pi * half / side)
        kept = HighPass()(constant + wave)
        # Of the two frequencies of a cosine, -half is in the square and half is not.
        torch.testing.assert_close(
            kept, (wave / 2).abs().expand_as(kept), atol=1e-3, rtol=0
        )


def test_the_high_pass_computes_in_single_precision_under_autocast() -> None:
    picture = image(1, 3, 16, 16)
    with torch.autocast('cpu', torch.bfloat16):
        kept = HighPass()(picture.bfloat16())
    assert kept.dtype == torch.float32
    torch.testing.assert_close(kept, HighPass()(picture.bfloat16()))


@pytest.mark.parametrize('location', LOCATIONS)
@pytest.mark.parametrize('kind', KINDS)
def test_an_adapter_of_zeros_leaves_the_encoder_as_it_is_bit_for_bit(
    kind: Any, location: Any
) -> None:
    plain = encoder()
    atl = ATL(32, 2, kind=kind, location=location, init='zero')
    pictures = image(2, 3, 64, 64)
    adapted = ATLImageEncoder(plain, atl)(pictures)
    assert torch.equal(adapted, plain(pictures))


@pytest.mark.parametrize('residual', [True, False])
@pytest.mark.parametrize('location', LOCATIONS)
@pytest.mark.parametrize('kind', KINDS)
def test_every_variant_changes_the_answer_and_learns(
    kind: Any, location: Any, residual: bool
) -> None:
    plain = encoder()
    torch.manual_seed(0)
    atl = ATL(32, 2, kind=kind, location=location, residual=residual, reduction=4)
    network = ATLImageEncoder(plain.requires_grad_(False), atl)
    pictures = image(1, 3, 64, 64)
    answer = network(pictures)
    assert not torch.equal(answer, plain(pictures))
    torch.autograd.backward(answer.square().sum())
    learned = {
        n for n, p in atl.named_parameters() if p.grad is not None and p.grad.any()
    }
    # A block that gets the prompt alone knows nothing of the blocks before it.
    cut = not residual and location == 'pre_block' and kind != 'serial'
    without = {
        n for n, _ in atl.named_parameters() if n.startswith('middle.0.') and cut
    }
    assert learned == {name for name, _ in atl.named_parameters()} - without
    assert all(p.grad is None for p in plain.parameters())


def test_prompts_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    atl = ATL(32, 2)
    picture, tokens = image(1, 3, 32, 32), image(1, 2, 2, 32)
    stream = image(1, 2, 2, 32) + 1
    texture = atl.texture(HighPass()(picture))[0, :, 1, 0]
    features = tokens[0, 1, 0] @ atl.embedding.weight.T + atl.embedding.bias + texture
    tuned = nn.functional.gelu(atl.middle[1][0](features))  # type: ignore[index]
    expected = stream[0, 1, 0] + atl.up(tuned)
    found = atl(1, stream, atl.features(picture, tokens))[0, 1, 0]
    torch.testing.assert_close(found, expected)


def test_without_residual_a_block_gets_the_prompt_alone() -> None:
    torch.manual_seed(0)
    atl = ATL(32, 2, residual=False)
    features = atl.features(image(1, 3, 32, 32), image(1, 2, 2, 32))
    first, second = (
        atl(0, stream * torch.ones(1, 2, 2, 32), features) for stream in (0, 5)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'kind': 'mlp3'}, r"kind must be 'mlp1'.* or 'serial', got 'mlp3'"),
        ({'location': 'pre'}, r"'pre_block' or 'post_attn', got 'pre'"),
        ({'init': 'one'}, "'reference' or 'zero'"),
        ({'reduction': 5}, 'divide the 32 channels of the tokens, got 5'),
        ({'rate': 25}, 'from 0 to 1, got 25'),
    ],
)
def test_a_wrong_argument_of_an_adapter_is_told(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ATL(32, 2, **arguments)


# How large it is.


@pytest.mark.parametrize(
    'size, atl, trained, total',
    [
        ('vit_b', 63_312, 4_121_908, 93_735_472),
        ('vit_l', 116_544, 4_175_140, 312_342_832),
        ('vit_h', 186_960, 4_245_556, 641_090_608),
    ],
)
def test_as_many_parameters_as_published(
    size: str, atl: int, trained: int, total: int
) -> None:
    with torch.device('meta'):
        model = AdaptedSAM(3, 2, size=size)
    assert model.image_encoder.atl is not None
    adapters = sum(p.numel() for p in model.image_encoder.atl.parameters())
    everything = sum(p.numel() for p in model.parameters())
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert (adapters, learned, everything - adapters) == (atl, trained, total)


@pytest.mark.parametrize(
    'size, expected', [('vit_b', 888_000), ('vit_l', 1_577_216), ('vit_h', 2_463_040)]
)
def test_the_serial_adapter_is_as_large_as_published(size: str, expected: int) -> None:
    with torch.device('meta'):
        model = AdaptedSAM(3, 2, size=size, adapter='serial')
    atl = model.image_encoder.atl
    assert atl is not None
    assert sum(p.numel() for p in atl.middle[0].parameters()) == expected


def test_parts_of_the_decoder_without_use_can_be_frozen() -> None:
    with torch.device('meta'):
        model = AdaptedSAM(3, 2, size='vit_l', freeze_unused=True)
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert learned == 4_175_140 - 552_036


def test_only_adapter_decoder_and_no_mask_embedding_learn() -> None:
    model = small()
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    torch.autograd.backward(model(image(2, 3, 64, 64)).square().mean())
    optimizer.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    parts = {'.'.join(name.split('.')[:2]) for name in changed if 'mask_d' not in name}
    assert parts == {'image_encoder.atl', 'prompt_encoder.no_mask_embed'}
    assert changed.isdisjoint(model.frozen())
    assert 'mask_decoder.mask_tokens.weight' in changed


# It is SAM.


def test_the_network_is_sam_where_nothing_is_added(tmp_path: Path) -> None:
    """Parts of a ViT-B of segment-anything, made small, give the same masks."""
    path = write_base(tmp_path / 'sam.pth', 64)
    model = small(weights=str(path), adapter={'kind': 'mlp1', 'init': 'zero'})
    picture = image(1, 3, 64, 64)
    with torch.no_grad():
        embedding = model.image_encoder.encoder(picture)
        prompts = model.prompt_encoder
        sparse, dense = prompts(None, None, None)
        masks, _ = model.mask_decoder(
            image_embeddings=embedding, image_pe=prompts.get_dense_pe(),
            sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense,
            multimask_output=False,
        )  # fmt: skip
        expected = nn.functional.interpolate(masks, (64, 64), mode='bilinear')
        assert torch.equal(model(picture)[:, 1:], expected)


@pytest.mark.slow
def test_a_file_of_segment_anything_is_taken_as_it_is(tmp_path: Path) -> None:
    theirs = sam_model_registry['vit_b']()
    torch.save(theirs.state_dict(), tmp_path / 'sam_vit_b_01ec64.pth')
    model = AdaptedSAM(
        3, 2, size='vit_b', weights=str(tmp_path / 'sam_vit_b_01ec64.pth')
    )
    ours = model.image_encoder.encoder.state_dict()
    assert all(
        torch.equal(ours[name], tensor)
        for name, tensor in theirs.image_encoder.state_dict().items()
    )


def test_a_batch_is_as_good_as_one_by_one() -> None:
    model = small().eval()
    pictures = image(3, 3, 64, 64)
    together = model(pictures)
    alone = torch.cat([model(picture[None]) for picture in pictures])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_of_two_classes_the_softmax_is_the_sigmoid_of_the_mask() -> None:
    logits = small()(image(1, 3, 64, 64))
    assert logits.shape == (1, 2, 64, 64)
    torch.testing.assert_close(logits.softmax(1)[:, 1], logits[:, 1].sigmoid())


@pytest.mark.parametrize('classes', [3, 6])
def test_of_more_classes_each_has_a_mask_token(classes: int, tmp_path: Path) -> None:
    path = write_base(tmp_path / 'sam.pth')
    model = small(classes, weights=str(path))
    assert model(image(1, 3, 64, 64)).shape == (1, classes, 64, 64)
    tokens = model.mask_decoder.mask_tokens.weight
    given = torch.load(path)['mask_decoder.mask_tokens.weight']
    assert len(tokens) == max(classes, 4)
    assert torch.equal(tokens[:4], given)
    assert torch.equal(tokens[4:], given[: len(tokens) - 4])


# Images of any size, with any bands.


@pytest.mark.parametrize('shape', [(64, 64), (128, 128), (160, 96)])
def test_images_of_any_size_give_maps_of_theirs(shape: tuple[int, int]) -> None:
    for resized in (True, False):
        assert small(resize_image=resized)(image(1, 3, *shape)).shape[-2:] == shape
    assert small()(image(1, 3, 50, 70)).shape[-2:] == (50, 70)


def test_tables_of_positions_are_resized_when_it_is_built(tmp_path: Path) -> None:
    state = torch.load(write_base(tmp_path / 'sam.pth', 128))
    model = small(weights=str(tmp_path / 'sam.pth'), img_size=64, adapter='none')
    own = model.image_encoder.encoder.state_dict()
    assert own['pos_embed'].shape == (1, 4, 4, 32)
    assert own['blocks.1.attn.rel_pos_h'].shape == (7, 16)
    window = 'blocks.0.attn.rel_pos_h'
    assert torch.equal(own[window], state[f'image_encoder.{window}'])
    # The same that segment-anything computes in every pass from the longer table.
    longer = encoder(128)
    longer.load_state_dict(
        {
            name.removeprefix('image_encoder.'): tensor
            for name, tensor in state.items()
            if name.startswith('image_encoder.')
        }
    )
    longer.pos_embed = nn.Parameter(own['pos_embed'])
    picture = image(1, 3, 64, 64)
    torch.testing.assert_close(
        model.image_encoder(picture), longer(picture), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize('shape', [(64, 70), (60, 64)])
def test_sides_that_are_no_multiples_of_16_are_told(shape: tuple[int, int]) -> None:
    height, width = shape
    with pytest.raises(ValueError, match=f'multiples of 16 .* {height} x {width}'):
        small(resize_image=False)(image(1, 3, height, width))
    with pytest.raises(ValueError, match=r'img_size must be .* 16 .*got 500.* is 496'):
        small(img_size=500)


def test_more_bands_go_through_an_inflated_patch_embedding(tmp_path: Path) -> None:
    path = write_base(tmp_path / 'sam.pth')
    model = small(channels=6, weights=str(path), adapter='none')
    projection = model.image_encoder.encoder.patch_embed.proj
    given = torch.load(path)['image_encoder.patch_embed.proj.weight']
    torch.testing.assert_close(projection.weight[:, 3:], given / 2)
    assert projection.weight.requires_grad  # SAM has not seen these bands
    assert model(image(1, 6, 64, 64)).shape == (1, 2, 64, 64)
    # Twice the same three bands are those three.
    three = small(weights=str(path), adapter='none')
    picture = image(1, 3, 64, 64)
    torch.testing.assert_close(
        model(torch.cat([picture, picture], 1)), three(picture), atol=1e-4, rtol=1e-4
    )


def test_a_subset_of_the_bands_leaves_sam_as_it_is() -> None:
    model, plain = small(channels=5, rgb=[3, 2, 0]), small()
    plain.load_state_dict(model.state_dict())
    pictures = image(1, 5, 64, 64)
    assert torch.equal(model(pictures), plain(pictures[:, [3, 2, 0]]))
    with pytest.raises(ValueError, match=r'three channels of 0 to 4.*got \[3, 2, 5\]'):
        small(channels=5, rgb=[3, 2, 5])


# Saving memory.


@pytest.mark.parametrize('adapter', ['mlp1', 'lora'])
def test_activation_checkpointing_keeps_less_and_learns_the_same(adapter: str) -> None:
    pictures = image(1, 3, 64, 64)
    gradients, kept = [], []
    for saving in (False, True):
        model = small(checkpointing=saving, adapter=adapter).train()
        held: list[int] = []

        def pack(tensor: Tensor, held: list[int] = held) -> Tensor:
            held.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            answer = model.image_encoder(pictures)
        torch.autograd.backward(answer.square().sum())
        named = dict(model.named_parameters())
        gradients.append({n: p.grad for n, p in named.items() if p.grad is not None})
        kept.append(sum(held))
    assert kept[1] < 0.5 * kept[0]
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    'device, setting, expected',
    [
        ('cuda', None, True), ('cuda', False, False),
        ('cpu', None, False), ('cpu', True, True),
    ],
)  # fmt: skip
def test_memory_is_saved_on_a_gpu_unless_the_user_says_otherwise(
    device: str, setting: bool | None, expected: bool
) -> None:
    assert wanted_on(torch.device(device), setting) is expected


def test_in_bfloat16_the_answer_is_nearly_the_same() -> None:
    pictures = image(1, 3, 64, 64)
    exact, half = small(), small(bf16=True)
    embedding = half.image_encoder(pictures)
    assert embedding.dtype == torch.float32
    expected = exact.image_encoder(pictures)
    assert not torch.equal(embedding, expected)
    torch.testing.assert_close(embedding, expected, atol=0.1, rtol=0.1)


def test_a_frozen_encoder_keeps_nothing_for_the_backward_pass() -> None:
    embedding = small(adapter='none')._embed(image(1, 3, 64, 64))
    assert not embedding.requires_grad


# Another way to adapt.


def test_lora_begins_as_sam_and_trains_no_weight_of_it() -> None:
    pytest.importorskip('peft')
    model, plain = small(adapter={'kind': 'lora', 'rank': 2}), small(adapter='none')
    pictures = image(1, 3, 64, 64)
    assert torch.equal(model(pictures), plain(pictures))
    learned = [n for n, p in model.image_encoder.named_parameters() if p.requires_grad]
    assert len(learned) == 2 * 2 and all('qkv.lora_' in name for name in learned)


def test_lora_without_peft_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(ImportError, match=r"pip install 'eoseg\[lora\]'"):
        small(adapter='lora')


@pytest.mark.parametrize(
    'adapter, message',
    [
        ({'kind': 'lora', 'r': 2}, 'lora has no r; it has kind, rank, alpha, dropout'),
        ({'kind': 'mlp2', 'rank': 2}, 'mlp2 has no rank; it has kind, location, resid'),
    ],
)
def test_an_unknown_argument_of_an_adapter_lists_those_there_are(
    adapter: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        small(adapter=adapter)


def test_an_unknown_adapter_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"mlp1, .*, lora, none; got 'adapter'"):
        small(adapter='adapter')


# Its base.


def test_without_weights_the_base_is_always_the_same_and_draws_no_number() -> None:
    torch.manual_seed(5)
    first = AdaptedSAM(3, 2, size=SMALL, img_size=64, adapter='none')
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    second = small(adapter='mlp1')
    assert first.base is not None and second.base is not None
    assert first.base.hash == second.base.hash


def test_weights_are_told_apart_whatever_file_they_are_in(tmp_path: Path) -> None:
    state = {'a': torch.ones(2), 'b': torch.zeros(3)}
    assert state_hash(state) == state_hash(dict(reversed(state.items())))
    assert state_hash(state) != state_hash({'a': torch.ones(2), 'b': torch.ones(3)})
    assert state_hash(state) != state_hash({'a': torch.ones(2), 'c': torch.zeros(3)})
    path = write_base(tmp_path / 'sam.pth')
    model = small(weights=str(path), img_size=96)
    assert model.base == ('custom', state_hash(torch.load(path)), 'sam.pth')


def test_a_missing_file_says_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('EOSEG_WEIGHTS', str(tmp_path))
    said = r'sam_vit_l_0b3195\.pth from https://dl.*/sam_vit_l_0b3195\.pth'
    with torch.device('meta'):
        with pytest.raises(FileNotFoundError, match=f'No weights .*nowhere.* {said}'):
            AdaptedSAM(3, 2, weights='nowhere.pth')
        with pytest.raises(FileNotFoundError, match=said):
            AdaptedSAM(3, 2, weights='auto')
    with pytest.raises(ValueError, match='none are of custom'):
        small(weights='auto')
    (tmp_path / 'sam_vit_b_01ec64.pth').touch()
    assert find_base('vit_b') == tmp_path / 'sam_vit_b_01ec64.pth'


def test_a_sam_of_another_size_is_told_from_its_keys(tmp_path: Path) -> None:
    with torch.device('meta'):
        theirs = sam_model_registry['vit_b']().state_dict()
    # Shapes are enough: of each tensor one number is kept.
    thin = {name: torch.zeros(1).expand(t.shape) for name, t in theirs.items()}
    torch.save(
        {n: t for n, t in thin.items() if 'blocks.' in n or 'proj.' in n},
        tmp_path / 'b.pth',
    )
    with torch.device('meta'), pytest.raises(
        CheckpointError,
        match=r'b\.pth is a SAM of size vit_b \(12 blocks of 768 .* size vit_l \(24 .*'
        'size=vit_b',
    ):  # fmt: skip
        AdaptedSAM(3, 2, size='vit_l', weights=str(tmp_path / 'b.pth'))


def test_a_file_that_is_no_sam_is_told(tmp_path: Path) -> None:
    torch.save({'conv.weight': torch.ones(1)}, tmp_path / 'net.pth')
    with pytest.raises(CheckpointError, match=r'net\.pth is no checkpoint of SAM'):
        small(weights=str(tmp_path / 'net.pth'))


def test_a_sam_that_lacks_weights_is_told(tmp_path: Path) -> None:
    state = torch.load(write_base(tmp_path / 'sam.pth'))
    del state['mask_decoder.iou_token.weight']
    torch.save(state, tmp_path / 'sam.pth')
    with pytest.raises(CheckpointError, match=r'1 missing \(mask_decoder.iou_token'):
        small(weights=str(tmp_path / 'sam.pth'))
    headless = {name: t for name, t in state.items() if 'iou' not in name}
    torch.save(headless, tmp_path / 'sam.pth')
    with pytest.raises(CheckpointError, match=r'5 missing \(mask_decoder.iou_pred'):
        small(6, weights=str(tmp_path / 'sam.pth'))


def test_what_has_learned_as_a_whole_is_a_base_for_adapters(tmp_path: Path) -> None:
    path = write_base(tmp_path / 'sam.pth', 64)
    given = small(weights=str(path), adapter='none', freeze=False)
    torch.save(given.to_sam(), tmp_path / 'again.pth')
    again = small(weights=str(tmp_path / 'again.pth'))
    first = small(weights=str(path))
    assert again.base is not None and first.base is not None
    assert again.base.hash == first.base.hash
    with pytest.raises(ValueError, match='no place for an adapter'):
        first.to_sam()


def test_the_encoder_of_a_sam_teaches(tmp_path: Path) -> None:
    """The file that adapters are made for is one of a teacher, too."""
    path = write_base(tmp_path / 'sam.pth', 64)
    teacher = Teacher(
        'samvit_base_patch16', path, blocks=[0, 1], img_size=64, embed_dim=32, depth=2,
        num_heads=2, mlp_ratio=2.0, neck_chans=32, window_size=3,
        global_attn_indexes=(1,),
    )  # fmt: skip
    sam = small(weights=str(path), adapter='none').image_encoder.encoder
    seen: list[Tensor] = []
    for block in sam.blocks:
        block.register_forward_hook(lambda _m, _i, answer: seen.append(answer))
    pictures = image(1, 3, 64, 64)
    sam(pictures)
    for taught, expected in zip(teacher(pictures), seen, strict=True):
        torch.testing.assert_close(
            taught, expected.permute(0, 3, 1, 2), atol=1e-5, rtol=1e-4
        )
