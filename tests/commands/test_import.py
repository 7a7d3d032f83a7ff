"""Checkpoints of the authors of KTDA give, as ours, what their formulas give."""

import math
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from eoseg.checkpoint import Checkpoint
from eoseg.commands.importing import MEAN, STD
from eoseg.errors import CheckpointError
from eoseg.main import main
from eoseg.models.published import convert_ktda
from eoseg.tasks import Distillation

DEPTHS, WIDTHS = (2, 2, 6, 2), (40, 80, 160, 320)
BASE = ((3, 3, 27, 3), (128, 256, 512, 1024))
SCALES = (4, 2, 1, 0.5)
Weights = dict[str, Tensor]


def shapes(
    depths: tuple[int, ...] = DEPTHS,
    widths: tuple[int, ...] = WIDTHS,
    dim: int = 16,
    channels: int = 8,
    classes: int = 5,
    depth: int = 2,
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published checkpoint."""
    found: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        found[f'{name}.weight'] = shape
        if bias:
            found[f'{name}.bias'] = shape[:1]

    def conv_bn(name: str, *shape: int) -> None:
        layer(f'{name}.conv', *shape, bias=False)
        for part in ('weight', 'bias', 'running_mean', 'running_var'):
            found[f'{name}.bn.{part}'] = shape[:1]
        found[f'{name}.bn.num_batches_tracked'] = ()

    layer('backbone.downsample_layers.0.0', widths[0], 3, 4, 4)
    layer('backbone.downsample_layers.0.1', widths[0])
    for i, (blocks, width) in enumerate(zip(depths, widths, strict=True)):
        if i:
            layer(f'backbone.downsample_layers.{i}.0', widths[i - 1])
            layer(f'backbone.downsample_layers.{i}.1', width, widths[i - 1], 2, 2)
        for j in range(blocks):
            block = f'backbone.stages.{i}.{j}'
            layer(f'{block}.depthwise_conv', width, 1, 7, 7)
            layer(f'{block}.norm', width)
            layer(f'{block}.pointwise_conv1', 4 * width, width)
            layer(f'{block}.pointwise_conv2', width, 4 * width)
            found[f'{block}.gamma'] = (width,)
        layer(f'backbone.norm{i}', width)
        layer(f'fam.convert.{i}', dim, width, 1, 1)
        layer(f'neck.lateral_convs.{i}.conv', dim, dim, 1, 1)
        layer(f'neck.convs.{i}.conv', dim, dim, 3, 3)
        for j in range(depth):
            block = f'fmm.adapters.{i}.{j}'
            layer(f'{block}.norm1', dim)
            layer(f'{block}.attn.qkv', 3 * dim, dim)
            layer(f'{block}.attn.proj', dim, dim)
            layer(f'{block}.norm2', dim)
            layer(f'{block}.mlp.fc1', 4 * dim, dim)
            layer(f'{block}.mlp.fc2', dim, 4 * dim)
        conv_bn(f'decode_head.psp_modules.{i}.1', channels, dim, 1, 1)
    conv_bn('decode_head.bottleneck', channels, dim + 4 * channels, 3, 3)
    for i in range(3):
        conv_bn(f'decode_head.lateral_convs.{i}', channels, dim, 1, 1)
        conv_bn(f'decode_head.fpn_convs.{i}', channels, channels, 3, 3)
    conv_bn('decode_head.fpn_bottleneck', channels, 4 * channels, 3, 3)
    layer('decode_head.conv_seg', classes, channels, 1, 1)
    conv_bn('auxiliary_head.convs.0', channels // 2, dim, 3, 3)
    layer('auxiliary_head.conv_seg', classes, channels // 2, 1, 1)
    layer('teach_backbone.patch_embed.projection', 8, 3, 14, 14)
    return found


def published(**kwargs: Any) -> Weights:
    """Random weights of a published network, of a size at which every layer counts."""
    generator = torch.Generator().manual_seed(0)

    def weight(name: str, shape: tuple[int, ...]) -> Tensor:
        if name.endswith('num_batches_tracked'):
            return torch.tensor(7)
        values = torch.randn(shape, generator=generator)
        if name.endswith('running_var'):
            return values.abs() + 0.5
        if len(shape) > 1:
            return values / math.sqrt(math.prod(shape[1:]))
        return values * 0.3 + (1.0 if name.endswith('weight') else 0.0)

    return {name: weight(name, shape) for name, shape in shapes(**kwargs).items()}


def their_logits(w: Weights, image: Tensor, depth: int = 2, heads: int = 8) -> Tensor:
    """The published network in plain formulas: one line per layer."""

    def conv(name: str, x: Tensor, **kwargs: Any) -> Tensor:
        return F.conv2d(x, w[f'{name}.weight'], w.get(f'{name}.bias'), **kwargs)

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, w[f'{name}.weight'], w[f'{name}.bias'])

    def norm(name: str, x: Tensor) -> Tensor:  # over the last dimension
        return F.layer_norm(
            x, x.shape[-1:], w[f'{name}.weight'], w[f'{name}.bias'], eps=1e-6
        )

    def norm2d(name: str, x: Tensor) -> Tensor:
        return norm(name, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def conv_bn_relu(name: str, x: Tensor, padding: int = 0) -> Tensor:
        x = conv(f'{name}.conv', x, padding=padding)
        mean, var = w[f'{name}.bn.running_mean'], w[f'{name}.bn.running_var']
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        x = x * w[f'{name}.bn.weight'][:, None, None]
        return F.relu(x + w[f'{name}.bn.bias'][:, None, None])

    def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
        return F.interpolate(x, size, mode='bilinear', align_corners=False)

    x, stages = image, []
    for i, blocks in enumerate(DEPTHS):
        down = f'backbone.downsample_layers.{i}'
        if i == 0:
            x = norm2d(f'{down}.1', conv(f'{down}.0', x, stride=4))
        else:
            x = conv(f'{down}.1', norm2d(f'{down}.0', x), stride=2)
        for j in range(blocks):
            block = f'backbone.stages.{i}.{j}'
            y = conv(f'{block}.depthwise_conv', x, padding=3, groups=x.shape[1])
            y = norm(f'{block}.norm', y.permute(0, 2, 3, 1))
            y = linear(
                f'{block}.pointwise_conv2',
                F.gelu(linear(f'{block}.pointwise_conv1', y)),
            )
            x = x + (w[f'{block}.gamma'] * y).permute(0, 3, 1, 2)
        stages.append(norm2d(f'backbone.norm{i}', x))

    maps = []
    for i, stage in enumerate(stages):
        grid = (math.ceil(image.shape[-2] / 14), math.ceil(image.shape[-1] / 14))
        x = resize(conv(f'fam.convert.{i}', stage), grid)
        x = conv(f'neck.lateral_convs.{i}.conv', x)
        x = F.interpolate(
            x, scale_factor=SCALES[i], mode='bilinear', align_corners=False
        )
        x = conv(f'neck.convs.{i}.conv', x, padding=1)
        b, c, height, width = x.shape
        t = x.permute(0, 2, 3, 1).reshape(b, -1, c)
        for j in range(depth):
            block = f'fmm.adapters.{i}.{j}'
            qkv = linear(f'{block}.attn.qkv', norm(f'{block}.norm1', t))
            q, k, v = qkv.reshape(b, -1, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
            a = (q @ k.transpose(-2, -1) / math.sqrt(c // heads)).softmax(-1) @ v
            t = t + linear(f'{block}.attn.proj', a.transpose(1, 2).reshape(b, -1, c))
            y = F.gelu(linear(f'{block}.mlp.fc1', norm(f'{block}.norm2', t)))
            t = t + linear(f'{block}.mlp.fc2', y)
        maps.append(t.reshape(b, height, width, c).permute(0, 3, 1, 2))

    size = tuple(maps[3].shape[2:])
    context = [maps[3]]
    for i, pool in enumerate((1, 2, 3, 6)):
        y = F.adaptive_avg_pool2d(maps[3], pool)
        context.append(resize(conv_bn_relu(f'decode_head.psp_modules.{i}.1', y), size))
    top = conv_bn_relu('decode_head.bottleneck', torch.cat(context, dim=1), padding=1)
    levels = [
        conv_bn_relu(f'decode_head.lateral_convs.{i}', maps[i]) for i in range(3)
    ] + [top]
    for i in (3, 2, 1):
        levels[i - 1] = levels[i - 1] + resize(
            levels[i], tuple(levels[i - 1].shape[2:])
        )
    outs = [
        conv_bn_relu(f'decode_head.fpn_convs.{i}', levels[i], padding=1)
        for i in range(3)
    ] + [levels[3]]
    fused = torch.cat([resize(out, tuple(outs[0].shape[2:])) for out in outs], dim=1)
    fused = conv_bn_relu('decode_head.fpn_bottleneck', fused, padding=1)
    return resize(conv('decode_head.conv_seg', fused), tuple(image.shape[2:]))


def imported(state: Any, folder: Path, *options: str) -> Checkpoint:
    torch.save(state, folder / 'theirs.pth')
    out = folder / 'ours.ckpt'
    assert (
        main(
            ['import', 'ktda', str(folder / 'theirs.pth'), '--out', str(out), *options]
        )
        == 0
    )
    return Checkpoint.load(out)


@pytest.fixture(scope='module')
def weights() -> Weights:
    return published()


@pytest.mark.parametrize('size', [(64, 64), (84, 70)])
def test_logits_are_those_of_the_published_formulas(
    weights: Weights, tmp_path: Path, size: tuple[int, int]
) -> None:
    network = imported({'state_dict': weights}, tmp_path).network.double()
    image = torch.randn(
        2, 3, *size, generator=torch.Generator().manual_seed(1)
    ).double()
    double = {name: tensor.double() for name, tensor in weights.items()}
    with torch.no_grad():
        expected = their_logits(double, image)
        torch.testing.assert_close(network(image), expected, rtol=1e-9, atol=1e-9)
    assert expected.std() > 0.1


def test_every_weight_counts(weights: Weights) -> None:
    image = torch.randn(1, 3, 64, 64)
    before = their_logits(weights, image)
    kept = [
        n
        for n in weights
        if not n.startswith(('auxiliary', 'teach')) and '.num_' not in n
    ]
    for name in kept[::9]:
        changed = their_logits(weights | {name: weights[name] + 0.5}, image)
        assert not torch.equal(changed, before), name


def test_checkpoint_says_what_it_expects_and_answers(
    weights: Weights, tmp_path: Path
) -> None:
    inputs = imported(weights, tmp_path).inputs
    assert inputs.bands == ('R', 'G', 'B')
    assert inputs.mean == (123.675, 116.28, 103.53)
    assert inputs.std == (58.395, 57.12, 57.375)
    assert inputs.classes == ('low', 'middle-low', 'middle', 'middle-high', 'high')
    assert inputs.patch_size == 256


@pytest.mark.filterwarnings('ignore:The .*dataloader.* does not have many workers')
# of Lightning 2.6 about torch 2.15
@pytest.mark.filterwarnings('ignore:.*isinstance.treespec, LeafSpec.')
def test_checkpoint_can_be_scored(weights: Weights, tmp_path: Path) -> None:
    checkpoint = imported(weights, tmp_path)
    network = torch.load(tmp_path / 'ours.ckpt', weights_only=True)['eoseg']['network']
    task = Distillation(checkpoint.inputs, network)
    image, mask = torch.rand(3, 64, 64) * 255, torch.zeros(64, 64, dtype=torch.int64)
    samples: Any = [{'image': image, 'mask': mask, 'valid': mask == 0}]
    trainer = Trainer(
        accelerator='cpu',
        logger=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    (scores,) = trainer.test(
        task,
        DataLoader(samples),
        tmp_path / 'ours.ckpt',
        verbose=False,
        weights_only=True,
    )
    expected = their_logits(weights, checkpoint_input(image[None])).argmax(dim=1)
    assert scores['test/oa'] == pytest.approx(expected.eq(0).float().mean().item())


def checkpoint_input(image: Tensor) -> Tensor:
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return (image - mean) / std


def test_four_classes_are_clouds(tmp_path: Path) -> None:
    inputs = imported(published(classes=4), tmp_path).inputs
    assert inputs.classes == ('Clear', 'Cloud Shadow', 'Thin Cloud', 'Cloud')
    assert inputs.patch_size == 512


def test_other_classes_are_named_by_the_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = published(classes=3)
    options = ('--classes', 'land,river,lake', '--patch-size', '128')
    inputs = imported(state, tmp_path, *options).inputs
    assert inputs.classes == ('land', 'river', 'lake')
    assert len(set(inputs.colors)) == 3
    assert inputs.patch_size == 128
    file, out = str(tmp_path / 'theirs.pth'), str(tmp_path / 'other.ckpt')
    assert main(['import', 'ktda', file, '--out', out, '--classes', 'land,lake']) == 1
    assert '3 classes apart, 2 are named: land, lake' in capsys.readouterr().err


def test_names_of_the_development_version_are_read(weights: Weights) -> None:
    old = {
        name.replace('fam.', 'student_adapter.').replace('fmm.', 'veg_adapter.'): tensor
        for name, tensor in weights.items()
    }
    assert convert_ktda(old).state.keys() == convert_ktda(weights).state.keys()


def test_published_network_has_the_published_size() -> None:
    depths, widths = BASE
    with torch.device('meta'):
        state = {
            name: torch.empty(shape)
            for name, shape in shapes(depths, widths, 768, 512, 5, 4).items()
        }
    converted = convert_ktda(state)
    assert converted.network['backbone'] == 'convnext_base'
    assert converted.network['modulation']['depth'] == 4
    counted = [t for name, t in converted.state.items() if not _is_statistic(name)]
    assert sum(tensor.numel() for tensor in counted) == 258_309_509


def _is_statistic(name: str) -> bool:
    return name.endswith(('running_mean', 'running_var', 'num_batches_tracked'))


def test_other_modulations_are_told_by_their_shapes() -> None:
    state = published()
    none = {n: t for n, t in state.items() if not n.startswith('fmm.')}
    assert convert_ktda(none).network['modulation'] == 'none'
    mlp = {n: t for n, t in state.items() if not n.startswith('fmm.')}
    for i in range(4):
        for layer, shape in (('fc1', (4, 16)), ('fc2', (16, 4))):
            mlp[f'fmm.adapters.{i}.0.{layer}.weight'] = torch.zeros(shape)
            mlp[f'fmm.adapters.{i}.0.{layer}.bias'] = torch.zeros(shape[0])
    expected = {'kind': 'mlp', 'depth': 1, 'rank': 4}
    assert convert_ktda(mlp).network['modulation'] == expected


def test_weights_of_something_else_are_refused(weights: Weights) -> None:
    with pytest.raises(CheckpointError, match='no weights of KTDA'):
        convert_ktda({'fc.weight': torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match=r'1 unknown \(head\.extra\.weight\)'):
        convert_ktda(weights | {'head.extra.weight': torch.zeros(1)})
    cut = {n: t for n, t in weights.items() if 'stages.2.5' not in n}
    with pytest.raises(CheckpointError, match=r'has \(2, 2, 5, 2\) blocks'):
        convert_ktda(cut)
    short = {n: t for n, t in weights.items() if n != 'neck.convs.1.conv.bias'}
    with pytest.raises(CheckpointError, match=r'1 missing \(neck\.output\.1\.bias\)'):
        convert_ktda(short)


@pytest.fixture
def mmengine(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class of the name of the one that mmengine keeps beside the weights."""
    names = ['mmengine', 'mmengine.logging', 'mmengine.logging.history_buffer']
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    buffer = type('HistoryBuffer', (), {'__module__': names[-1]})
    monkeypatch.setattr(sys.modules[names[-1]], 'HistoryBuffer', buffer, raising=False)
    return buffer


def test_history_beside_the_weights_is_ignored(
    weights: Weights, tmp_path: Path, mmengine: type
) -> None:
    history = mmengine()
    history.__dict__.update(_log_history=np.array([0.5, 0.4]), _max_length=1000)
    content = {
        'meta': {'iter': 22770, 'cfg': 'model = dict()'},
        'message_hub': {'log_scalars': {'loss': history}, 'score': np.float64(0.5)},
        'state_dict': weights,
    }
    assert imported(content, tmp_path).inputs.num_classes == 5


class Burglar:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path('burgled'),)


def test_no_code_of_the_file_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': {}, 'hook': Burglar()}, 'a.pth', pickle_module=pickle)
    assert main(['import', 'ktda', 'a.pth', '--out', 'a.ckpt']) == 1
    assert 'cannot be read as weights' in capsys.readouterr().err
    assert not Path('burgled').exists()
    assert not Path('a.ckpt').exists()


def test_a_checkpoint_is_kept_unless_it_is_to_be_replaced(
    weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(weights, tmp_path)
    again = [
        'import',
        'ktda',
        str(tmp_path / 'theirs.pth'),
        '--out',
        str(tmp_path / 'ours.ckpt'),
    ]
    assert main(again) == 1
    assert 'exists' in capsys.readouterr().err
    assert main([*again, '--overwrite']) == 0
