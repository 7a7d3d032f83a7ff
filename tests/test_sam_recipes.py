"""Recipes of SAM's adapters: settings of the paper, and in small they train."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from PIL import Image
from tiny import write_fake

from eoseg.checkpoint import Checkpoint
from eoseg.inputs import Inputs
from eoseg.main import main
from eoseg.models import AdaptedSAM
from eoseg.recipes import find_recipe
from eoseg.tasks import SAMAdapter

#: Fake data of the recipes that repeat the paper, and pictures of an epoch.
PUBLISHED = {
    'bijie-translandseg': ('bijie_landslide', 538),
    'landslide4sense-translandseg': ('landslide4sense', 2659),
}

#: A SAM without weights, few patches.
SMALL = [
    '--model.network.size', 'tiny', '--model.network.weights', 'random',
    '--model.network.img_size', '64', '--data.length', '8', '--data.num_workers', '0',
    '--trainer.max_epochs', '1', '--trainer.log_every_n_steps', '1',
]  # fmt: skip


def config_of(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(
        (find_recipe(name) / 'fit.yaml').read_text('utf-8')
    )
    return config


@pytest.mark.parametrize('name', list(PUBLISHED))
def test_recipes_of_the_paper_train_as_published(name: str) -> None:
    config = config_of(name)
    arguments = config['model']['init_args']
    inputs = Inputs(
        bands=('R', 'G', 'B'), mean=(0.0,) * 3, std=(1.0,) * 3,
        classes=('background', 'landslide'), colors=('#000000',) * 2, patch_size=128,
    )  # fmt: skip
    # The weights are not here; the network without them is as large.
    arguments['network'] |= {'weights': None}
    with torch.device('meta'):
        task = SAMAdapter(inputs, **arguments)
    assert sum(p.numel() for p in task.parameters() if p.requires_grad) == 4_175_140
    assert task.model.img_size == 1024
    task.trainer = Trainer(
        **config['trainer'], logger=False, enable_checkpointing=False, accelerator='cpu'
    )
    found: Any = task.configure_optimizers()
    (group,) = found['optimizer'].param_groups
    assert (group['lr'], group['weight_decay']) == (2e-4, 0.01)
    schedule = found['lr_scheduler']['scheduler']
    assert (schedule.T_max, schedule.eta_min) == (50, 1e-7)
    data = config['data']['init_args']
    assert (data['batch_size'], data['length']) == (2, PUBLISHED[name][1])
    assert config['early_stopping']['patience'] >= config['trainer']['max_epochs']


@pytest.mark.parametrize('name', list(PUBLISHED))
def test_recipes_of_the_paper_train_and_map_in_small(tmp_path: Path, name: str) -> None:
    root = write_fake(PUBLISHED[name][0], tmp_path / 'data')
    out = tmp_path / 'run'
    words = ['fit', '--recipe', name, '--data.root', str(root), '--out', str(out)]
    assert main([*words, *SMALL]) == 0
    checkpoint = Checkpoint.load(out / 'checkpoints' / 'best.ckpt')
    white = config_of(name)['model']['init_args']['white']
    assert checkpoint.inputs.mean[0] == pytest.approx(0.485 * white)
    assert isinstance(checkpoint.network, AdaptedSAM)
    assert checkpoint.network.base is not None


def test_recipes_of_the_paper_do_not_start_without_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('EOSEG_WEIGHTS', str(tmp_path))
    root = write_fake('bijie_landslide', tmp_path / 'data')
    words = ['fit', '--recipe', 'bijie-translandseg', '--data.root', str(root)]
    assert main([*words, '--out', str(tmp_path / 'run')]) == 1
    message = capsys.readouterr().err
    assert 'No weights of SAM vit_l on this machine' in message
    assert 'sam_vit_l_0b3195.pth' in message
    assert not (tmp_path / 'run' / 'checkpoints').exists()


def test_the_small_recipe_trains_on_any_pictures(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(5):
        mask = np.zeros((128, 128), np.uint8)
        mask[20:60, 30:90] = 1
        image = generator.integers(0, 100, (128, 128, 3)) + 100 * mask[..., None]
        for folder, values in (('images', image), ('masks', mask)):
            path = tmp_path / 'data' / folder / f'{number}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(path)
    out = tmp_path / 'run'
    words = ['fit', str(tmp_path / 'data'), '--recipe', 'landslide-sam-small']
    assert main([*words, '--out', str(out), *SMALL]) == 0
    best = out / 'checkpoints' / 'best.ckpt'
    assert best.stat().st_size < 400_000  # of 5.5 MB
    assert Checkpoint.load(best).inputs.num_classes == 2
