"""Data modules of radar pairs and of landslides: what is in which part."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import write_fake

from eoseg.datamodules import (
    BijieLandslideDataModule,
    DFC2020DataModule,
    Landslide4SenseDataModule,
    SEN12MSDataModule,
    SpaceNet6DataModule,
)
from eoseg.datamodules.scenes import SceneDataModule, Use
from eoseg.tasks import Segmentation
from eoseg_datasets import DFC2020

SIZES: dict[str, Any] = {'batch_size': 2, 'patch_size': 16, 'length': 4}
USES: tuple[Use, ...] = ('train', 'val', 'test')
NAMES = ('bijie_landslide', 'dfc2020', 'landslide4sense', 'sen12ms', 'spacenet6')


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('EOSEG_CACHE', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('root')
    for name in NAMES:
        write_fake(name, folder / name)
    return folder


def scenes(module: SceneDataModule, use: Use) -> set[str]:
    part = module.parts[use]
    return {part.dataset.scenes[region.scene].name for region in part.regions}


def first_batch(module: SceneDataModule) -> dict[str, torch.Tensor]:
    module.setup('fit')
    batch: dict[str, torch.Tensor] = next(iter(module.train_dataloader()))
    return batch


def test_sen12ms_keeps_whole_scenes_for_validation(root: Path) -> None:
    module = SEN12MSDataModule(root / 'sen12ms', **SIZES)
    train, val, test = (scenes(module, use) for use in USES)
    assert len(train | val) == 6 and not train & val and len(test) == 2
    sources = [{name.split('_patch')[0] for name in part} for part in (train, val)]
    assert not sources[0] & sources[1]
    assert first_batch(module)['image'].shape == (2, 15, 16, 16)
    assert module.inputs.res == 10
    assert module.inputs.bands[:3] == ('VV', 'VH', 'B01')
    assert len(module.inputs.classes) == 10


def test_dfc2020_has_a_published_split_for_each_use(root: Path) -> None:
    module = DFC2020DataModule(root / 'dfc2020', bands=DFC2020.sar_bands, **SIZES)
    sizes = [len(scenes(module, use)) for use in USES]
    assert sizes == [4, 2, 2]
    assert module.inputs.mean == (-10, -20)
    assert first_batch(module)['mask'].max() == 255


def test_landslides_of_the_competition_are_validated_on_training_patches(
    root: Path,
) -> None:
    module = Landslide4SenseDataModule(root / 'landslide4sense', **SIZES)
    assert set(module.parts) == {'train', 'val'}
    train, val = scenes(module, 'train'), scenes(module, 'val')
    assert (len(train), len(val)) == (10, 2) and not train & val
    assert first_batch(module)['image'].shape == (2, 14, 16, 16)
    assert module.inputs.bands[-2:] == ('slope', 'dem')
    with pytest.raises(ValueError, match='nothing is left to test on'):
        module.setup('test')


def test_landslides_with_all_masks_have_their_published_splits(
    root: Path, tmp_path: Path
) -> None:
    source = root / 'landslide4sense'
    for split in ('Train', 'Valid', 'Test'):
        shutil.copytree(source / f'{split}Data/img', tmp_path / f'{split}Data/img')
        shutil.copytree(source / 'TrainData/mask', tmp_path / f'{split}Data/mask')
    module = Landslide4SenseDataModule(tmp_path, **SIZES)
    sizes = [len(scenes(module, use)) for use in USES]
    assert sizes == [12, 1, 2]
    shutil.rmtree(tmp_path / 'TrainData' / 'mask')
    with pytest.raises(FileNotFoundError, match='no masks of the training split'):
        Landslide4SenseDataModule(tmp_path, **SIZES).setup('fit')


def test_bijie_is_divided_by_picture_and_small_ones_are_padded(root: Path) -> None:
    arguments = SIZES | {'patch_size': 32}
    module = BijieLandslideDataModule(root / 'bijie_landslide', **arguments)
    train, val = scenes(module, 'train'), scenes(module, 'val')
    assert (len(train), len(val)) == (4, 2) and not train & val
    batch = first_batch(module)
    assert batch['image'].shape == (2, 3, 32, 32)
    assert not batch['valid'].all()
    assert (batch['mask'][~batch['valid']] == 255).all()
    again = BijieLandslideDataModule(root / 'bijie_landslide', **arguments)
    assert scenes(again, 'val') == val
    three = BijieLandslideDataModule(
        root / 'bijie_landslide', non_landslide=True, split=(0.25, 0.25), **SIZES
    )
    assert [len(scenes(three, u)) for u in USES] == [4, 2, 2]


def test_spacenet6_is_divided_on_the_ground(root: Path) -> None:
    module = SpaceNet6DataModule(root / 'spacenet6', optical='PS-RGBNIR', **SIZES)
    ends = []
    for part in (module.parts[use] for use in USES):
        grids = [part.dataset.scenes[r.scene].grid.crop(r.window) for r in part.regions]
        ends.append((min(g.bounds[0] for g in grids), max(g.bounds[2] for g in grids)))
    assert ends[0][1] <= ends[1][0] < ends[1][1] <= ends[2][0]
    assert first_batch(module)['image'].shape == (2, 8, 16, 16)
    assert module.inputs.res == 0.5


def test_a_model_learns_from_a_batch_of_pairs(root: Path) -> None:
    module = DFC2020DataModule(root / 'dfc2020', **SIZES)
    task = Segmentation(module.inputs, network={'backbone': 'resnet10t'})
    loss = task.losses(first_batch(module))['loss']
    torch.autograd.backward(loss)
    gradients = [p.grad for p in task.parameters() if p.requires_grad]
    assert loss.isfinite() and any(g is not None and g.any() for g in gradients)
