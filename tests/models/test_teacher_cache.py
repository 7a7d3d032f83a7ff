from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eoseg.models import CachedTeacher, Teacher


def teacher(**kwargs: Any) -> Teacher:
    arguments: dict[str, Any] = {
        'patch_size': 8,
        'img_size': 32,
        'depth': 4,
        'embed_dim': 24,
        'num_heads': 2,
    }
    return Teacher('vit_tiny_patch16_224', **arguments | kwargs)


def forbidden(image: Tensor) -> list[Tensor]:
    raise AssertionError('the teacher was asked')


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob('*') if path.is_file())


def test_maps_are_those_of_the_teacher_in_half_precision(tmp_path: Path) -> None:
    image = torch.randn(3, 3, 32, 20)
    cached = CachedTeacher(teacher(), tmp_path)
    computed, found = cached(image), cached(image)
    for a, b, c in zip(computed, found, teacher()(image), strict=True):
        assert torch.equal(a, b)
        assert a.dtype == torch.float32
        assert torch.equal(a, c.half().float())


def test_images_that_come_again_in_any_company_are_not_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.randn(4, 3, 16, 16)
    cached = CachedTeacher(teacher(), tmp_path)
    cached(image)
    expected = [feature[[3, 1]] for feature in cached(image)]
    assert len(files(tmp_path)) == 4
    monkeypatch.setattr(cached.teacher, 'forward', forbidden)
    for a, b in zip(cached(image[[3, 1]]), expected, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(AssertionError, match='was asked'):
        cached(image.flip(-1))


def test_only_the_bands_that_the_teacher_sees_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.randn(1, 4, 16, 16)
    cached = CachedTeacher(teacher(), tmp_path)
    cached(image)
    image[:, 3] += 1
    monkeypatch.setattr(cached.teacher, 'forward', forbidden)
    cached(image)


def test_teachers_that_differ_share_a_folder(tmp_path: Path) -> None:
    other = teacher()
    other.network.patch_embed.proj.bias.data += 1
    teachers = [
        teacher(), other, teacher(norm_all=True), teacher(blocks=[0, 1]),
        teacher(num_heads=3),
    ]  # fmt: skip
    image = torch.randn(1, 3, 16, 16)
    for number, one in enumerate(teachers, 1):
        cached = CachedTeacher(one, tmp_path)
        torch.testing.assert_close(cached(image), one(image), rtol=1e-3, atol=1e-3)
        assert len(files(tmp_path)) == number


def test_numbers_beyond_half_precision_stay_finite(tmp_path: Path) -> None:
    large = teacher(blocks=[0])
    large.network.patch_embed.proj.bias.data += 1e6
    (feature,) = CachedTeacher(large, tmp_path)(torch.randn(1, 3, 16, 16))
    assert feature.max() == torch.finfo(torch.float16).max


def test_nothing_unfinished_is_left_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(tensors: dict[str, Tensor], path: Path) -> None:
        path.write_bytes(b'half')
        raise OSError('disk full')

    monkeypatch.setattr('eoseg.models.teacher_cache.save_file', broken)
    with pytest.raises(OSError, match='disk full'):
        CachedTeacher(teacher(), tmp_path)(torch.randn(1, 3, 16, 16))
    assert files(tmp_path) == []
