import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from eoseg.models import Teacher

DATA = Path(os.environ.get('EOSEG_DATA') or Path(__file__).parents[3] / 'shared/data')
DINOV2 = DATA / 'weights_dinov2_vits14' / 'dinov2_vits14_timm.fp16.safetensors'


def tiny_teacher(**kwargs: Any) -> Teacher:
    arguments: dict[str, Any] = {
        'patch_size': 8,
        'img_size': 32,
        'depth': 4,
        'embed_dim': 24,
        'num_heads': 2,
    }
    return Teacher('vit_tiny_patch16_224', **arguments | kwargs)


TEACHER = tiny_teacher()


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60))
def test_maps_lie_on_the_grid_that_covers_the_image(height: int, width: int) -> None:
    rows, columns = TEACHER.grid(height, width)
    assert 0 <= rows * 8 - height < 8
    assert 0 <= columns * 8 - width < 8
    maps = TEACHER(torch.zeros(1, 3, height, width))
    assert [m.shape for m in maps] == [(1, TEACHER.dim, rows, columns)] * 4


def test_image_is_padded_with_zeros_at_the_bottom_and_at_the_right() -> None:
    image = torch.randn(1, 3, 30, 25)
    padded = F.pad(image, (0, 7, 0, 2))
    for a, b in zip(TEACHER(image), TEACHER(padded), strict=True):
        torch.testing.assert_close(a, b)


def test_final_norm_is_applied_to_the_last_block_alone() -> None:
    image = torch.randn(1, 3, 32, 32)
    network: Any = TEACHER.network
    raw = network.forward_intermediates(image, norm=False, intermediates_only=True)
    normed = network.forward_intermediates(image, norm=True, intermediates_only=True)
    for feature, expected in zip(TEACHER(image), [*raw[:3], normed[3]], strict=True):
        torch.testing.assert_close(feature, expected)
    assert not torch.allclose(raw[3], normed[3], atol=0.1)


def test_chosen_blocks_are_read_and_without_the_last_none_is_normalised() -> None:
    image = torch.randn(1, 3, 32, 32)
    every = TEACHER(image)
    some = tiny_teacher(blocks=[0, 2])(image)
    torch.testing.assert_close(some, [every[0], every[2]])


@pytest.mark.parametrize(
    ('name', 'blocks'),
    [
        ('vit_small_patch14_dinov2', [2, 5, 8, 11]),
        ('vit_large_patch14_dinov2', [5, 11, 17, 23]),
    ],
)
def test_last_blocks_of_the_quarters_are_read_by_default(
    name: str, blocks: list[int]
) -> None:
    with torch.device('meta'):
        teacher = Teacher(name)
    assert teacher.blocks == blocks
    assert teacher.patch_size == 14


def test_published_teacher_has_the_published_size() -> None:
    with torch.device('meta'):
        teacher = Teacher('vit_base_patch14_dinov2')
    assert sum(p.numel() for p in teacher.parameters()) == 86_579_712
    assert teacher.dim == 768
    assert teacher.grid(256, 512) == (19, 37)


def test_red_green_and_blue_come_from_where_they_are() -> None:
    image = torch.randn(1, 5, 16, 16)
    teacher = tiny_teacher(rgb=[4, 2, 0])
    expected = TEACHER(image[:, [4, 2, 0]])
    torch.testing.assert_close(teacher(image), expected)


def test_final_norm_is_applied_to_every_block_where_asked_for() -> None:
    image = torch.randn(1, 3, 32, 32)
    network: Any = TEACHER.network
    expected = network.forward_intermediates(image, norm=True, intermediates_only=True)
    for feature, normed in zip(
        tiny_teacher(norm_all=True)(image), expected, strict=True
    ):
        torch.testing.assert_close(feature, normed)


@pytest.mark.parametrize(
    ('name', 'patch_size'),
    [
        ('vit_small_patch14_reg4_dinov2', 14),
        ('vit_small_patch16_dinov3', 16),
        ('vit_base_patch16_clip_224', 16),
        ('vit_base_patch16_224', 16),  # MAE has weights for it
        ('eva02_tiny_patch14_224', 14),
        ('samvit_base_patch16', 16),
    ],
)
def test_transformers_of_any_family_give_maps_on_the_same_grid(
    name: str, patch_size: int
) -> None:
    teacher = Teacher(name, depth=4, embed_dim=24, num_heads=2)
    image = torch.randn(1, 3, 40, 70)
    maps = teacher(image)
    grid = (-(-40 // patch_size), -(-70 // patch_size))
    assert teacher.patch_size == patch_size
    assert [m.shape for m in maps] == [(1, teacher.dim, *grid)] * 4
    padded = F.pad(image, (0, -70 % patch_size, 0, -40 % patch_size))
    for a, b in zip(maps, teacher(padded), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ('name', 'theirs'),
    [
        ('vit_small_patch16_dinov3', {}),
        ('samvit_base_patch16', {'.mlp.fc': '.mlp.lin'}),
    ],
)
def test_weights_of_other_families_are_those_of_the_file(
    name: str, theirs: dict[str, str], tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {'depth': 4, 'embed_dim': 24, 'num_heads': 2}
    teacher = Teacher(name, **sizes)
    for parameter in teacher.network.parameters():
        nn.init.normal_(parameter)
    prefix = 'image_encoder.' if theirs else ''
    state = teacher.network.state_dict()
    for ours, their in theirs.items():
        state = {k.replace(ours, their): v for k, v in state.items()}
    save_file({f'{prefix}{k}': v for k, v in state.items()}, tmp_path / 'a.safetensors')
    loaded = Teacher(name, tmp_path / 'a.safetensors', **sizes)
    image = torch.randn(1, 3, 32, 32)
    for a, b in zip(loaded(image), teacher(image), strict=True):
        assert torch.equal(a, b)


def test_encoder_without_a_final_norm_cannot_apply_it_to_every_block() -> None:
    with pytest.raises(ValueError, match='samvit_base_patch16 has no final norm'):
        Teacher('samvit_base_patch16', norm_all=True, depth=4)


def test_missing_weights_are_named_with_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r'vit_small_patch14_dinov2 at .*none\.pt.*timm/vit_small_patch14_dinov2',
    ):
        Teacher('vit_small_patch14_dinov2', tmp_path / 'none.pt', depth=1)


def test_half_precision_of_the_student_is_not_that_of_the_teacher() -> None:
    image = torch.randn(1, 3, 16, 16)
    with torch.autocast('cpu', torch.bfloat16):
        maps = TEACHER(image)
    for a, b in zip(maps, TEACHER(image), strict=True):
        assert torch.equal(a, b)


def test_teacher_stays_as_it_is_whatever_is_asked_of_it() -> None:
    teacher = tiny_teacher()
    image = torch.randn(1, 3, 16, 16, requires_grad=True)
    assert teacher.train() is teacher
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not any(feature.requires_grad for feature in teacher(image))


def test_without_weights_it_is_always_the_same_and_draws_no_random_number() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = tiny_teacher().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two = tiny_teacher().state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_weights_are_those_of_the_file(tmp_path: Path) -> None:
    state = {
        name: torch.full_like(tensor, 0.5)
        for name, tensor in TEACHER.network.state_dict().items()
    }
    save_file(state, tmp_path / 'a.safetensors')
    teacher = tiny_teacher(weights=tmp_path / 'a.safetensors')
    assert all(p.eq(0.5).all() for p in teacher.parameters())


def test_task_can_hold_a_teacher_outside_of_its_checkpoint() -> None:
    class Task(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = nn.Conv2d(3, 2, 1)
            self.frozen = (TEACHER,)

        def forward(self, image: Tensor) -> Tensor:
            features: list[Tensor] = self.frozen[0](image)
            loss: Tensor = (self.student(image) - features[0].mean()).square().mean()
            return loss

    task = Task()
    assert task.state_dict().keys() == {'student.weight', 'student.bias'}
    task(torch.randn(1, 3, 16, 16)).backward()
    assert task.student.weight.grad is not None


@pytest.mark.parametrize('blocks', [[], [1, 0], [1, 1], [3, 4], [-1]])
def test_blocks_that_the_network_has_not_are_refused(blocks: list[int]) -> None:
    with pytest.raises(ValueError, match=r'increasing numbers from 0 to 3.*got \['):
        tiny_teacher(blocks=blocks)


def test_other_networks_than_vision_transformers_are_refused() -> None:
    with pytest.raises(ValueError, match="no vision transformer 'resnet18'"):
        Teacher('resnet18')


@pytest.mark.real_data
@pytest.mark.skipif(not DINOV2.exists(), reason=f'no {DINOV2.name}; set EOSEG_DATA')
def test_real_teacher_tells_the_halves_of_an_image_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros(1, 3, 128, 128)  # smooth on the left, noise on the right
    image[..., 70:] = torch.randn(1, 3, 128, 58, generator=generator)
    maps = Teacher(weights=DINOV2)(image)
    assert [m.shape for m in maps] == [(1, 384, 10, 10)] * 4
    cells = F.normalize(maps[-1][0].flatten(1).T, dim=1).reshape(10, 10, 384)
    left, right = cells[1:8, 1:4].flatten(0, 1), cells[1:8, 6:8].flatten(0, 1)
    within = min((left @ left.T).mean().item(), (right @ right.T).mean().item())
    assert within > (left @ right.T).mean().item() + 0.2
