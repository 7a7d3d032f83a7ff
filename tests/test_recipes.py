"""Recipes are found by name; each is a config that its README explains."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from lightning.pytorch import Trainer
from PIL import Image
from safetensors.torch import save_file
from tiny import write_fake

from eoseg.checkpoint import Checkpoint
from eoseg.errors import OutputExistsError, RecipeNotFoundError
from eoseg.inputs import Inputs
from eoseg.main import main
from eoseg.recipes import copy_recipe, find_recipe, list_recipes, summary
from eoseg.tasks import Distillation

#: Fake data of the recipes that repeat a paper, and their classes.
PUBLISHED = {'grass-ktda': ('grass', 5), 'clouds-ktda': ('l8_biome_cloud_patches', 4)}

#: Their networks and patches in small.
SMALL = [
    '--model.network.backbone', 'convnext_atto', '--model.network.head_channels', '8',
    '--model.teacher.name', 'vit_tiny_patch16_224', '--model.teacher.embed_dim', '16',
    '--model.teacher.num_heads', '2',
    '--data.patch_size', '32', '--data.batch_size', '2', '--data.length', '4',
    '--data.num_workers', '0', '--trainer.log_every_n_steps', '1',
]  # fmt: skip


def config_of(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(
        (find_recipe(name) / 'fit.yaml').read_text('utf-8')
    )
    return config


def published_task(name: str) -> Distillation:
    """Task of a recipe in its true size, without memory for it."""
    classes = PUBLISHED[name][1]
    inputs = Inputs(
        bands=('R', 'G', 'B'),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        classes=tuple('abcde'[:classes]),
        colors=('#000000',) * classes,
        patch_size=256,
    )
    arguments = config_of(name)['model']['init_args']
    with torch.device('meta'):
        return Distillation(inputs, **arguments)


def write_weights(folder: Path) -> Path:
    """Write random weights of the networks in small."""
    folder.mkdir()
    teacher: dict[str, Any] = {'embed_dim': 16, 'num_heads': 2, 'num_classes': 0}
    for name, changes in (('convnext_atto', {}), ('vit_tiny_patch16_224', teacher)):
        network = timm.create_model(name, **changes)
        save_file(network.state_dict(), folder / f'{name}.safetensors')
    return folder


def write_pictures(root: Path, count: int) -> Path:
    """Write PNG images of 64 x 64 pixels whose bright half is class 1."""
    for name in ('images', 'masks'):
        (root / name).mkdir(parents=True)
    for i in range(count):
        mask = np.zeros((64, 64), np.uint8)
        mask[:, 32:] = 1
        image = np.stack([100 * mask + 10 * i + band for band in range(3)], axis=-1)
        Image.fromarray(image).save(root / 'images' / f's{i}.png')
        Image.fromarray(mask).save(root / 'masks' / f's{i}.png')
    return root


def test_a_recipe_is_found_by_either_spelling() -> None:
    assert find_recipe('scenes-ktda') == find_recipe('scenes_ktda')


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(RecipeNotFoundError, match=r"'grass'.*scenes-ktda.*--config"):
        find_recipe('grass')


@pytest.mark.parametrize('name', list_recipes())
def test_a_recipe_is_a_config_with_a_summary_and_a_readme(name: str) -> None:
    config = config_of(name)
    assert config['model']['class_path'].startswith('eoseg.tasks.')
    assert config['data']['class_path'].startswith('eoseg.datamodules.')
    assert isinstance(config['seed_everything'], int)
    assert len(summary(name)) > 20
    assert (find_recipe(name) / 'README.md').is_file()


def test_a_copy_is_the_users_own(tmp_path: Path) -> None:
    target = copy_recipe('scenes-ktda', tmp_path)
    assert (target / 'fit.yaml').read_text() == (
        find_recipe('scenes-ktda') / 'fit.yaml'
    ).read_text()
    with pytest.raises(OutputExistsError, match='remove it'):
        copy_recipe('scenes-ktda', tmp_path)


@pytest.mark.parametrize(
    'name, expected', [('grass-ktda', 260_080_778), ('clouds-ktda', 260_080_008)]
)
def test_recipes_of_the_paper_train_as_many_parameters_as_published(
    name: str, expected: int
) -> None:
    task = published_task(name)
    assert sum(p.numel() for p in task.parameters() if p.requires_grad) == expected
    assert sum(p.numel() for p in task._teacher[0].parameters()) == 86_579_712


@pytest.mark.parametrize(
    'name, iterations, rising, falling, most',
    [
        ('grass-ktda', 23_000, 1150, 1150, 0.046),
        ('clouds-ktda', 80_000, 2000, 1000, 0.012),
    ],
)
def test_the_learning_rate_is_nearly_that_of_the_paper(
    name: str, iterations: int, rising: int, falling: int, most: float
) -> None:
    """Their decay begins after iteration *falling*, ours with the first one."""
    config = config_of(name)
    task = published_task(name)
    task.trainer = Trainer(
        **config['trainer'], logger=False, enable_checkpointing=False, accelerator='cpu'
    )
    optimizers: Any = task.configure_optimizers()
    assert optimizers['optimizer'].param_groups[0]['initial_lr'] == 6e-4
    ours = optimizers['lr_scheduler']['scheduler'].lr_lambdas[0]
    for step in range(0, iterations, 50):
        rest = min((iterations - step) / (iterations - falling), 1)
        theirs = min(0.001 + 0.999 * step / rising, 1) * rest**0.9
        assert ours(step) == pytest.approx(theirs, abs=most)
    assert ours(iterations) == 0


@pytest.mark.parametrize(
    'name, iterations', [('grass-ktda', 230), ('clouds-ktda', 1000)]
)
def test_recipes_of_the_paper_validate_as_often_and_do_not_stop_early(
    name: str, iterations: int
) -> None:
    config = config_of(name)
    data = config['data']['init_args']
    assert data['length'] == iterations * data['batch_size']
    validations = config['trainer']['max_steps'] / iterations
    assert config['early_stopping']['patience'] >= validations


@pytest.mark.parametrize('name', list(PUBLISHED))
def test_recipes_of_the_paper_train_and_test_in_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv('EOSEG_WEIGHTS', str(write_weights(tmp_path / 'weights')))
    root = write_fake(PUBLISHED[name][0], tmp_path / 'data')
    out = tmp_path / 'run'
    words = ['--recipe', name, '--data.root', str(root), *SMALL, '--out', str(out)]
    assert main(['fit', *words, '--trainer.max_steps', '3']) == 0
    last = torch.load(out / 'checkpoints' / 'last.ckpt', weights_only=True)
    assert last['global_step'] == 3  # two of them are an epoch
    best = out / 'checkpoints' / 'best.ckpt'
    inputs = Checkpoint.load(best).inputs
    assert inputs.mean == (123.675, 116.28, 103.53)
    assert len(inputs.classes) == PUBLISHED[name][1]
    origin = torch.load(best, weights_only=True)['eoseg']['origin']
    assert origin['backbone']['weights'] and origin['teacher']['weights']
    with (out / 'metrics.csv').open() as file:
        assert 'train/distillation' in (csv.DictReader(file).fieldnames or ())
    assert main(['test', *words, '--ckpt_path', str(best)]) == 0
    assert (out / 'test' / 'confusion_test.csv').is_file()


def test_the_small_recipe_for_clouds_learns_from_pictures_and_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('EOSEG_WEIGHTS', str(write_weights(tmp_path / 'weights')))
    root = write_pictures(tmp_path / 'data', count=6)
    out = tmp_path / 'run'
    words = [str(root), '--recipe', 'clouds-ktda-small', *SMALL, '--out', str(out)]
    assert main(['fit', *words, '--trainer.max_steps', '3']) == 0
    best = out / 'checkpoints' / 'best.ckpt'
    origin = torch.load(best, weights_only=True)['eoseg']['origin']
    assert origin['backbone']['weights'] and origin['teacher']['weights']
    with (out / 'metrics.csv').open() as file:
        columns = csv.DictReader(file).fieldnames or ()
    assert 'train/similarity_3' in columns
    assert 'train/auxiliary' not in columns
    assert main(['test', *words, '--ckpt_path', str(best)]) == 0


def test_recipes_of_the_paper_do_not_start_without_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('EOSEG_WEIGHTS', str(write_weights(tmp_path / 'weights')))
    words = ['fit', str(tmp_path), '--recipe', 'grass_ktda', *SMALL]
    words += ['--out', str(tmp_path / 'run')]
    (tmp_path / 'weights' / 'vit_tiny_patch16_224.safetensors').unlink()
    assert main(words) == 1
    message = capsys.readouterr().err
    assert 'no weights of vit_tiny_patch16_224 on this machine' in message
    assert 'timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k from' in message
    assert '--model.teacher.weights FILE' in message
    assert not (tmp_path / 'run').exists()
