import pickle
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from eoseg.errors import CheckpointError
from eoseg.models import find_weights, load_pretrained, load_state, weights_hash

NETWORK = 'mobilenetv3_small_050'


@pytest.fixture(scope='module')
def state() -> dict[str, Tensor]:
    """Weights of a whole classification network, as timm publishes them."""
    return dict(timm.create_model(NETWORK).state_dict())


def write(state: dict[str, Tensor], path: Path) -> Path:
    save_file(state, path)
    return path


class Burglar:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path('burgled'),)


def test_tensors_survive_a_file_of_safetensors_and_one_of_torch(tmp_path: Path) -> None:
    state = {'a': torch.tensor([1.0, 2.0]), 'n': torch.tensor(3)}
    save_file(state, tmp_path / 'a.safetensors')
    torch.save(state, tmp_path / 'a.pth')
    torch.save({'state_dict': state, 'epoch': 3}, tmp_path / 'b.pth')
    torch.save(state, tmp_path / 'c.pth', _use_new_zipfile_serialization=False)
    for path in sorted(tmp_path.iterdir()):
        loaded = load_state(path)
        assert loaded.keys() == state.keys(), path
        assert all(torch.equal(loaded[name], state[name]) for name in state), path


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    half = torch.tensor([0.1, 2.0]).to(dtype)
    path = write({'a': half, 'n': torch.tensor(3)}, tmp_path / 'a.safetensors')
    loaded = load_state(path)
    assert torch.equal(loaded['a'], half.float())
    assert loaded['a'].dtype == torch.float32
    assert loaded['n'].dtype == torch.int64


def test_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'(?s)none\.safetensors.*Get the file'):
        load_state(tmp_path / 'none.safetensors')


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'is empty'),
        (b'<!DOCTYPE html><html>Sign in</html>', 'is a web page'),
        (b'\n<html lang="en">Sign in</html>', 'is a web page'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'is a git-lfs pointer'),
        (b'just a text', 'is no file of weights'),
        (b'\x10\0\0\0\0\0\0\0{"a": tru', 'cannot be read'),
        (b'PK\x03\x04 broken', 'cannot be read'),
        (b'\x80\x02', 'cannot be read'),
    ],
)
def test_file_that_holds_no_weights_is_named_with_the_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / 'a.pth'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf'a\.pth {reason}(?s:.*)safetensors'):
        load_state(path)


def test_folder_holds_no_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='is a folder'):
        load_state(tmp_path)


@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_a_file_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({'a': Burglar()}, 'a.pth', _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match='cannot be read'):
        load_state(Path('a.pth'))
    assert not Path('burgled').exists()
    pickle.loads(pickle.dumps(Burglar()))  # the trap itself works
    assert Path('burgled').exists()


def test_file_of_other_things_than_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({'a': 1}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='more than tensors by name'):
        load_state(tmp_path / 'a.pth')


def test_hash_is_the_start_of_sha256(tmp_path: Path) -> None:
    (tmp_path / 'empty').touch()
    assert weights_hash(tmp_path / 'empty') == 'e3b0c44298fc1c14'


def test_weights_are_found_in_the_folder_of_the_environment_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / 'hub' / 'models--timm--resnet18.a1_in1k'
    (cache / 'refs').mkdir(parents=True)
    (cache / 'refs' / 'main').write_text('abc')
    (cache / 'snapshots' / 'abc').mkdir(parents=True)
    download = cache / 'snapshots' / 'abc' / 'model.safetensors'
    monkeypatch.setattr(
        huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path / 'hub')
    )
    monkeypatch.setenv('EOSEG_WEIGHTS', str(tmp_path))
    assert find_weights('resnet18') is None
    download.touch()
    assert find_weights('resnet18') == download
    assert find_weights('resnet18.a1_in1k') == download
    local = tmp_path / 'resnet18.safetensors'
    local.touch()
    assert find_weights('resnet18') == local


@pytest.mark.parametrize('name', ['none_such', 'resnet18.none_such'])
def test_networks_that_timm_has_not_have_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv('EOSEG_WEIGHTS', str(tmp_path))
    assert find_weights(name) is None


def test_folder_of_weights_is_in_the_home_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('EOSEG_WEIGHTS', raising=False)
    monkeypatch.setenv('HOME', str(tmp_path))
    path = tmp_path / '.cache' / 'eoseg' / 'weights' / 'none_such.safetensors'
    path.parent.mkdir(parents=True)
    path.touch()
    assert find_weights('none_such') == path


@pytest.mark.parametrize('name', [NETWORK, 'convnext_atto', 'resnet10t'])
def test_feature_maps_are_those_of_the_whole_network(tmp_path: Path, name: str) -> None:
    whole: Any = timm.create_model(name).eval()
    path = write(dict(whole.state_dict()), tmp_path / 'a.safetensors')
    features: Any = timm.create_model(name, features_only=True).eval()
    load_pretrained(features, path, in_channels=3)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = whole.forward_intermediates(image, intermediates_only=True)
        torch.testing.assert_close(features(image)[-1], expected[-1])


def test_repeated_channels_look_to_the_network_like_the_three(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    path = write(state, tmp_path / 'a.safetensors')
    three: Any = timm.create_model(NETWORK, features_only=True).eval()
    load_pretrained(three, path, in_channels=3)
    six: Any = timm.create_model(NETWORK, features_only=True, in_chans=6).eval()
    load_pretrained(six, path, in_channels=6)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(three(image), six(image.repeat(1, 2, 1, 1)), strict=True):
            torch.testing.assert_close(a, b)


def test_file_made_for_as_many_channels_is_taken_as_it_is(tmp_path: Path) -> None:
    network: Any = timm.create_model(NETWORK, in_chans=5)
    path = write(dict(network.state_dict()), tmp_path / 'a.safetensors')
    other: Any = timm.create_model(NETWORK, in_chans=5)
    load_pretrained(other, path, in_channels=5)
    torch.testing.assert_close(other.conv_stem.weight, network.conv_stem.weight)


@pytest.mark.parametrize('features_only', [True, False])
def test_layer_of_another_network_is_an_error(
    tmp_path: Path, state: dict[str, Tensor], features_only: bool
) -> None:
    path = write(state | {'blocks.9.weight': torch.ones(1)}, tmp_path / 'a.safetensors')
    network: Any = timm.create_model(NETWORK, features_only=features_only)
    with pytest.raises(
        CheckpointError, match=r'not in the network \(blocks\.9\.weight'
    ):
        load_pretrained(network, path, in_channels=3)


def test_missing_and_misshapen_layers_are_errors_that_name_the_first(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    wrong = {name: tensor for name, tensor in state.items() if 'blocks.1' not in name}
    wrong['bn1.weight'] = torch.ones(7)
    path = write(wrong, tmp_path / 'a.safetensors')
    before: Any = timm.create_model(NETWORK, num_classes=0)
    bias = before.bn1.bias.clone()
    with pytest.raises(CheckpointError) as info:
        load_pretrained(before, path, in_channels=3)
    assert f'a.safetensors does not fit {NETWORK}' in str(info.value)
    assert 'missing (blocks.1.0.conv_pw.weight, ' in str(info.value)
    assert 'bn1.weight (7,) instead of (16,)' in str(info.value)
    torch.testing.assert_close(before.bn1.bias, bias)


def test_counters_of_batches_may_be_absent(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    old = {name: tensor for name, tensor in state.items() if 'num_batches' not in name}
    network: Any = timm.create_model(NETWORK)
    load_pretrained(network, write(old, tmp_path / 'a.safetensors'), in_channels=3)
    torch.testing.assert_close(network.conv_stem.weight, state['conv_stem.weight'])


def test_position_embedding_is_resized_to_another_grid(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {'patch_size': 8, 'depth': 1, 'num_classes': 0}
    name = 'vit_tiny_patch16_224'
    small: Any = timm.create_model(name, img_size=32, **arguments)
    path = write(dict(small.state_dict()), tmp_path / 'a.safetensors')
    large: Any = timm.create_model(name, img_size=64, **arguments)
    load_pretrained(large, path, in_channels=3)
    assert large.pos_embed.shape == (1, 1 + 64, 192)
    torch.testing.assert_close(large.pos_embed[:, 0], small.pos_embed[:, 0])
    means = [vit.pos_embed[:, 1:].mean() for vit in (small, large)]
    torch.testing.assert_close(means[0], means[1], atol=1e-3, rtol=0)
