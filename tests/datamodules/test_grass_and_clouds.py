"""Data modules of Grass and of the L8 Biome clouds: what is in which part."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import write_fake

from eoseg.datamodules import (
    GrassDataModule,
    L8BiomeCloudPatchesBySceneDataModule,
    L8BiomeCloudPatchesDataModule,
    L8BiomeCloudsDataModule,
)
from eoseg.datamodules.lazy import opened
from eoseg.datamodules.scenes import SceneDataModule, Use
from eoseg.tasks import Segmentation
from eoseg_datasets.splits import source_scene

SIZES: dict[str, Any] = {'batch_size': 2, 'patch_size': 16, 'length': 4}


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('root')
    for name in ('grass', 'l8_biome_clouds', 'l8_biome_cloud_patches'):
        write_fake(name, folder / name)
    return folder


def scenes(module: SceneDataModule, use: Use) -> set[str]:
    part = module.parts[use]
    return {part.dataset.scenes[region.scene].name for region in part.regions}


def first_batch(module: SceneDataModule) -> dict[str, torch.Tensor]:
    module.setup('fit')
    batch: dict[str, torch.Tensor] = next(iter(module.train_dataloader()))
    return batch


def test_grass_tests_on_what_is_published_as_validation(root: Path) -> None:
    module = GrassDataModule(root / 'grass', **SIZES)
    assert scenes(module, 'test') == {'7', '90'}
    train, val = scenes(module, 'train'), scenes(module, 'val')
    assert (len(train), len(val)) == (6, 1)
    assert not train & val


def test_training_needs_no_files_for_testing(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = Path(shutil.copytree(root / 'grass', tmp_path / 'grass'))
    for folder in list(copy.rglob('*_dir/val')):
        shutil.rmtree(folder)
    module = GrassDataModule(copy, **SIZES)
    with caplog.at_level(logging.INFO, 'eoseg'):
        module.setup('fit')
    assert '6 train, 1 val regions' in caplog.text
    assert set(opened(module.parts)) == {'train', 'val'}
    assert 'test' in module.parts
    with pytest.raises(FileNotFoundError, match='val'):
        module.setup('test')


def test_each_split_is_opened_once(root: Path) -> None:
    parts = GrassDataModule(root / 'grass', **SIZES).parts
    assert parts['test'] is parts['test']
    assert parts['train'].dataset is parts['val'].dataset
    assert len(parts) == 3


def test_grass_gives_batches_and_says_what_a_model_sees(root: Path) -> None:
    module = GrassDataModule(root / 'grass', **SIZES)
    batch = first_batch(module)
    assert batch['image'].shape == (2, 3, 16, 16)
    assert batch['mask'].shape == (2, 16, 16)
    assert module.inputs.bands == ('R', 'G', 'B')
    assert module.inputs.classes[4] == 'high' and module.inputs.colors[4] == '#5c904d'
    assert module.inputs.res is None


def test_pictures_have_the_statistics_of_imagenet_band_by_band(root: Path) -> None:
    module = GrassDataModule(root / 'grass', bands=('B', 'R'), **SIZES)
    assert module.inputs.mean == (103.53, 123.675)
    assert module.inputs.std == (57.375, 58.395)


def test_pictures_are_distorted_in_training_and_stay_within_8_bit(root: Path) -> None:
    module = L8BiomeCloudPatchesDataModule(
        root / 'l8_biome_cloud_patches', **(SIZES | {'batch_size': 8, 'length': 8})
    )
    batch = first_batch(module)
    torch.manual_seed(0)
    changed = module.train_aug(dict(batch))
    assert (changed['image'] % 1 > 0).any()  # no longer whole numbers
    assert 0 <= changed['image'].min() and changed['image'].max() <= 255
    # The class of a pixel is its row modulo 4: flips are left to right alone.
    assert torch.equal(changed['mask'], batch['mask'])


def test_pictures_of_two_bands_are_only_flipped(root: Path) -> None:
    module = GrassDataModule(root / 'grass', bands=('R', 'G'), **SIZES)
    batch = first_batch(module)
    columns = module.train_aug(dict(batch))['image'].sort(dim=3).values
    assert torch.equal(columns, batch['image'].sort(dim=3).values)


def test_scenes_of_clouds_are_divided_by_scene(root: Path) -> None:
    module = L8BiomeCloudsDataModule(
        root / 'l8_biome_clouds', bands=('B4', 'B3', 'B2'), **SIZES
    )
    parts = [scenes(module, use) for use in ('train', 'val', 'test')]
    assert [len(part) for part in parts] == [3, 1, 1]
    assert len(set.union(*parts)) == 5
    assert first_batch(module)['image'].shape == (2, 3, 16, 16)
    assert module.inputs.res == 30
    assert module.inputs.mean[0] == pytest.approx(9000 + 25.5, abs=0.1)  # without fill


def test_arguments_of_the_data_set_reach_it(root: Path) -> None:
    module = L8BiomeCloudsDataModule(root / 'l8_biome_clouds', fill='clear', **SIZES)
    batch = first_batch(module)
    assert batch['image'].shape == (2, 11, 16, 16)
    assert batch['valid'].all() and (batch['mask'] < 4).all()


def test_published_patches_that_share_scenes_are_warned_of(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = L8BiomeCloudPatchesDataModule(root / 'l8_biome_cloud_patches', **SIZES)
    with caplog.at_level(logging.WARNING, 'eoseg'):
        sizes = [len(module.parts[use].regions) for use in ('train', 'val', 'test')]
    assert sizes == [8, 4, 2]
    assert '1 scenes (such as water_LC80210072014236LGN00)' in caplog.text


def test_patches_divided_by_scene_share_none(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = L8BiomeCloudPatchesBySceneDataModule(
        root / 'l8_biome_cloud_patches', **SIZES
    )
    parts = [scenes(module, use) for use in ('train', 'val', 'test')]
    sources = [{source_scene(name) for name in part} for part in parts]
    assert [len(part) for part in sources] == [4, 1, 1]
    assert len(set.union(*sources)) == 6
    assert sum(len(module.parts[use].regions) for use in module.parts) == 14
    assert 'too bright' not in caplog.text


def test_a_model_learns_from_a_batch_of_clouds(root: Path) -> None:
    module = L8BiomeCloudsDataModule(root / 'l8_biome_clouds', **SIZES)
    task = Segmentation(module.inputs, network={'backbone': 'resnet10t'})
    loss = task.losses(first_batch(module))['loss']
    torch.autograd.backward(loss)
    gradients = [p.grad for p in task.parameters() if p.requires_grad]
    assert loss.isfinite() and any(g is not None and g.any() for g in gradients)
