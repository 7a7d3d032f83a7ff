"""Vaihingen: tiles with world files alone, and two ways to divide them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import write_fake
from torchgeo.datasets import DatasetNotFoundError, Vaihingen2D

from eoseg.datamodules import VaihingenDataModule
from eoseg_datasets import NonGeoScenes, Potsdam, Vaihingen

TRUTH = 'ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE'
ERODED = 'ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE'


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake('vaihingen', tmp_path_factory.mktemp('vaihingen'))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(root, tmp_path / 'copy'))


def test_a_tile_is_what_torchgeo_reads_but_for_the_order_of_classes(copy: Path) -> None:
    for path in (copy / TRUTH).iterdir():
        path.rename(copy / path.name)
    ours = NonGeoScenes(Vaihingen(copy, 'test'))
    theirs = Vaihingen2D(str(copy), 'test', checksum=False)
    samples = {Path(f['image']).stem: theirs[i] for i, f in enumerate(theirs.files)}
    assert len(ours) == len(theirs) == 17
    for i in range(len(ours)):
        other = samples[ours.dataset.scenes[i].name]
        assert torch.equal(ours[i]['image'], other['image'])
        assert torch.equal(ours[i]['mask'], (other['mask'] - 1) % 6)


def areas(dataset: Vaihingen) -> set[int]:
    return {int(scene.name.rpartition('area')[2]) for scene in dataset.scenes}


def test_either_division_has_every_tile_once(root: Path) -> None:
    train, test = areas(Vaihingen(root)), areas(Vaihingen(root, 'test'))
    assert (len(train), len(test), len(train | test)) == (16, 17, 33)
    held_out = areas(Vaihingen(root, 'test', division='adaptation'))
    assert held_out == {2, 5, 7, 8, 13, 20, 22, 24}
    learned = areas(Vaihingen(root, division='adaptation'))
    assert len(learned) == 25 and learned | held_out == train | test


def test_with_world_files_alone_tiles_lie_in_a_plane_apart(root: Path) -> None:
    dataset = Vaihingen(root)
    assert dataset.crs.is_engineering
    assert not dataset.index.geometry.iloc[0].intersects(dataset.index.geometry.iloc[1])


def test_black_lines_are_no_label(root: Path) -> None:
    mask = NonGeoScenes(Vaihingen(root, labels='eroded'))[0]['mask']
    assert (mask[::6] == 255).all()
    assert mask[1::6].unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert 255 not in NonGeoScenes(Vaihingen(root))[0]['mask']


def test_tiles_are_found_in_the_folder_of_their_archive(copy: Path) -> None:
    name = 'ISPRS_semantic_labeling_Vaihingen'
    (copy / name).mkdir()
    (copy / 'top').rename(copy / name / 'top')
    (copy / TRUTH).rename(copy / name / 'gts_for_participants')
    assert len(Vaihingen(copy, labels='full').scenes) == 16


def test_bands_are_read_by_name(root: Path) -> None:
    everything, some = Vaihingen(root), Vaihingen(root, bands=('G', 'IR'))
    image, swapped = (NonGeoScenes(d)[0]['image'] for d in (everything, some))
    assert everything.bands == ('IR', 'R', 'G')
    assert torch.equal(swapped, image[[2, 0]])


def test_classes_are_those_of_potsdam() -> None:
    assert Vaihingen.CLASSES == Potsdam.CLASSES


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'split': 'val'}, 'train or test'),
        ({'bands': ['B']}, 'B.*IR, R, G'),
        ({'division': 'ours'}, "isprs or adaptation, got 'ours'"),
    ],
)
def test_a_wrong_argument_says_what_is_accepted(
    root: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Vaihingen(root, **wrong)


def test_what_is_missing_is_named(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r'Vaihingen.*isprs\.org'):
        Vaihingen(tmp_path / 'nothing')
    (copy / ERODED / 'top_mosaic_09cm_area11_noBoundary.tif').unlink()
    with pytest.raises(FileNotFoundError, match=r'15 of the 16.*area11_noBoundary'):
        Vaihingen(copy, labels='eroded')


def test_the_data_module_takes_a_division(root: Path) -> None:
    module = VaihingenDataModule(
        root, batch_size=2, patch_size=16, labels='eroded', division='adaptation'
    )
    module.setup('test')
    batch = next(iter(module.test_dataloader()))
    assert batch['image'].shape == (2, 3, 16, 16)
    assert 255 in batch['mask']
    parts = {use: len(part.regions) for use, part in module.parts.items()}
    assert parts == {'train': 20, 'val': 5, 'test': 8}
