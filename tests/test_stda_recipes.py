"""Recipes of ST-DASegNet: settings of the paper, and in small they train and map."""

import csv
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import yaml
from affine import Affine
from lightning.pytorch import Trainer
from safetensors.torch import save_file
from tiny import WriteRaster, write_fake

from eoseg.checkpoint import Checkpoint
from eoseg.inputs import Inputs
from eoseg.main import main
from eoseg.models import MixTransformer, STDASegNet
from eoseg.recipes import find_recipe
from eoseg.tasks import DomainAdaptation

#: Fake data of source and target of the recipes that repeat the paper; their classes.
PUBLISHED: dict[str, tuple[str, str, int]] = {
    'potsdam-vaihingen-stda': ('potsdam', 'vaihingen', 6),
    'loveda-stda': ('loveda', 'loveda', 7),
}

#: Few steps on small patches.
SHORT = [
    '--model.network.head_channels', '8', '--trainer.max_epochs', '1',
    '--trainer.log_every_n_steps', '1',
    *(word for domain in ('source', 'target') for option, value in (
        ('patch_size', '64'), ('batch_size', '2'), ('length', '4'), ('num_workers', '0'),
    ) for word in (f'--data.{domain}.{option}', value)),
]  # fmt: skip


def config_of(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(
        (find_recipe(name) / 'fit.yaml').read_text('utf-8')
    )
    return config


def roots(source: Path, target: Path) -> list[str]:
    return ['--data.source.root', str(source), '--data.target.root', str(target)]


def reverse_of(name: str) -> list[str]:
    """What the README tells to type for the way back."""
    text = (find_recipe(name) / 'README.md').read_text('utf-8')
    (command,) = (
        block
        for block in text.split('```')[1::2]
        if block.strip().startswith('eoseg fit') and 'pseudo_class_weights' in block
    )
    return shlex.split(command.replace('\\\n', ' '))[1:]


def resolved(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The whole config of a command."""
    assert main([*words, '--print_config']) == 0
    config: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return config


@pytest.mark.parametrize('name', list(PUBLISHED))
def test_recipes_of_the_paper_train_as_published(name: str) -> None:
    config = config_of(name)
    classes = PUBLISHED[name][2]
    inputs = Inputs(
        bands=('R', 'G', 'B'), mean=(0.0,) * 3, std=(1.0,) * 3,
        classes=tuple('abcdefg'[:classes]), colors=('#000000',) * classes,
        patch_size=config['data']['init_args']['target']['init_args']['patch_size'],
    )  # fmt: skip
    arguments = config['model']['init_args']
    # Its size is tested with the network; another one is faster to build.
    assert arguments['network'] == {'backbone': 'mit_b5', 'drop_path_rate': 0.1}
    arguments['network'] = {'backbone': 'mit_b0'}
    task = DomainAdaptation(inputs, **arguments)
    assert (task.preset, task.downs, task.target_side) == ('paper', 2, 384)
    data = config['data']['init_args']['source']['init_args']
    steps = data['length'] // data['batch_size'] * config['trainer']['max_epochs']
    assert steps == 40_000
    # Validated every 1,000 iterations, and trained to the end.
    assert config['early_stopping']['patience'] >= steps / 1000
    rates = rates_of(task, steps, config)
    for step in range(0, steps, 400):
        rising = min((step + 1) / 800, 1)
        theirs = rising * (1 - step / steps)
        assert rates(step) == pytest.approx(theirs, abs=0.021)


def rates_of(task: DomainAdaptation, steps: int, config: dict[str, Any]) -> Any:
    trainer = Trainer(
        max_steps=3 * steps, logger=False, enable_checkpointing=False,
        accelerator='cpu', **config['trainer'] | {'max_epochs': -1},
    )  # fmt: skip
    task.trainer = trainer
    optimizers: Any = task.configure_optimizers()
    peaks = [one.param_groups[0]['initial_lr'] for one in optimizers[0]]
    assert peaks == [6e-5, 1e-5, 1e-5]
    return optimizers[1][0].lr_lambdas[0]


@pytest.mark.parametrize('name', list(PUBLISHED))
def test_recipes_of_the_paper_train_in_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    *domains, classes = PUBLISHED[name]
    for domain in set(domains):
        write_fake(domain, tmp_path / domain)
    weights = tmp_path / 'mit_b0.safetensors'
    save_file(MixTransformer('mit_b0', 3).network.state_dict(), weights)
    monkeypatch.setenv('EOSEG_WEIGHTS', str(tmp_path))
    out = tmp_path / 'run'
    words = ['--recipe', name, *roots(*(tmp_path / domain for domain in domains))]
    words += ['--out', str(out)]
    small = ['--model.network.backbone', 'mit_b0', '--model.target_side', '64', *SHORT]
    assert main(['fit', *words, *small]) == 0
    checkpoint = Checkpoint.load(out / 'checkpoints' / 'best.ckpt')
    assert isinstance(checkpoint.network, STDASegNet)
    assert checkpoint.inputs.num_classes == classes
    origin = torch.load(out / 'checkpoints' / 'best.ckpt', weights_only=True)['eoseg']
    assert origin['origin']['backbone']['weights']


@pytest.mark.parametrize('name', list(PUBLISHED))
def test_recipes_of_the_paper_have_a_way_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:  # fmt: skip
    (tmp_path / 'mit_b5.safetensors').touch()
    monkeypatch.setenv('EOSEG_WEIGHTS', str(tmp_path))
    there = config_of(name)
    back = resolved(reverse_of(name), capsys)
    domains = [
        [config['data']['init_args'][domain] for domain in ('source', 'target')]
        for config in (there, back)
    ]
    for ours, theirs in zip(domains[0], domains[1][::-1], strict=True):
        assert theirs['class_path'] == ours['class_path']
        for key in ('scene', 'division', 'labels', 'bands'):
            assert theirs['init_args'].get(key) == ours['init_args'].get(key)
    for config, (source, target) in zip((there, back), domains, strict=True):
        # The target is squashed, the source cut out at that size.
        side = config['model']['init_args']['target_side']
        assert source['init_args']['patch_size'] == side == 384
        assert target['init_args']['patch_size'] > side


def test_recipes_of_the_paper_do_not_start_without_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('EOSEG_WEIGHTS', str(tmp_path))
    words = ['fit', '--recipe', 'loveda-stda', *roots(tmp_path, tmp_path)]
    assert main([*words, '--out', str(tmp_path / 'run')]) == 1
    message = capsys.readouterr().err
    assert 'no weights of mit_b5 on this machine' in message
    assert '--model.network.backbone_weights FILE' in message
    assert not (tmp_path / 'run').exists()


def write_domains(tmp_path: Path, write_raster: WriteRaster) -> tuple[Path, Path]:
    """Scenes with labels, and others elsewhere, with other pixels and bands, without."""
    mask = np.zeros((1, 160, 160), np.uint8)
    mask[..., 80:] = 1
    for i in range(5):
        image = np.concatenate([100 * mask + 10 * i + band for band in range(3)])
        write_raster(f'labelled/images/s{i}.tif', image, bands=('B', 'G', 'R'))
        write_raster(f'labelled/labels/s{i}.tif', mask)
        there = Affine(3, 0, 4_300_000, 0, -3, 2_700_000)
        write_raster(f'new/s{i}.tif', image[::-1], 'EPSG:3035', there, ('R', 'G', 'B'))
    return tmp_path / 'labelled', tmp_path / 'new'


@pytest.mark.parametrize('paths', ['both', 'target'])
def test_the_small_recipe_learns_for_scenes_without_labels_and_maps_them(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    write_raster: WriteRaster,
    paths: str,
) -> None:
    source, target = write_domains(tmp_path, write_raster)
    out, maps = tmp_path / 'run', tmp_path / 'maps'
    words = ['--recipe', 'clouds-stda-small', *roots(source, target), '--out', str(out)]
    words += ['--data.source.bands', '[R, G, B]', '--model.network.paths', paths]
    small = ['--model.network.backbone', 'convnext_atto', *SHORT]
    assert main(['fit', *words, *small]) == 0
    assert 'the target has no labels' in capsys.readouterr().err
    with (out / 'metrics.csv').open() as file:
        columns = set(csv.DictReader(file).fieldnames or ())
    assert columns >= {'train/agreement', 'train/accuracy_target', 'val/miou'}
    best = out / 'checkpoints' / 'best.ckpt'
    checkpoint = Checkpoint.load(best)
    assert isinstance(checkpoint.network, STDASegNet)
    assert checkpoint.network.paths == paths
    assert checkpoint.inputs.bands == ('R', 'G', 'B')
    assert checkpoint.inputs.res == 3
    assert main(['predict', str(target), str(best), '--out', str(maps)]) == 0
    with rasterio.open(maps / 's0_classes.tif') as found:
        assert found.crs == 'EPSG:3035'
        assert found.shape == (160, 160)


def test_labels_of_the_target_are_for_scores_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write_raster: WriteRaster
) -> None:
    source, _ = write_domains(tmp_path, write_raster)
    target = shutil.copytree(source, tmp_path / 'target')
    out = tmp_path / 'run'
    words = ['--recipe', 'clouds-stda-small', *roots(source, target), '--out', str(out)]
    small = ['--model.network.backbone', 'convnext_atto', *SHORT]
    assert main(['fit', *words, *small, '--trainer.max_epochs', '2']) == 0
    said = capsys.readouterr().err
    assert 'they are used for scores alone' in ' '.join(said.split())
    assert 'best mIoU' not in said
    best, last = (
        torch.load(out / 'checkpoints' / f'{name}.ckpt', weights_only=True)
        for name in ('best', 'last')
    )
    assert best['epoch'] == last['epoch'] == 1
    keeping = [name for name in last['callbacks'] if name.startswith('ModelCheckpoint')]
    assert keeping and not any('miou' in name for name in keeping)
    checkpoint = ['--ckpt_path', str(out / 'checkpoints' / 'best.ckpt')]
    assert main(['test', *words, *small, *checkpoint]) == 0
