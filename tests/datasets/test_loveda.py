"""LoveDA: two domains, and masks in which 0 is no class."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchgeo.datasets
from PIL import Image
from tiny import write_fake
from torchgeo.datasets import DatasetNotFoundError

from eoseg.datamodules import LoveDADataModule
from eoseg_datasets import LoveDA, NonGeoScenes


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake('loveda', tmp_path_factory.mktemp('loveda'))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(root, tmp_path / 'copy'))


def test_an_image_is_what_torchgeo_reads_but_for_the_values_of_masks(
    root: Path,
) -> None:
    ours = NonGeoScenes(LoveDA(root))
    theirs = torchgeo.datasets.LoveDA(str(root), checksum=False)
    samples = {f['image']: theirs[i] for i, f in enumerate(theirs.files)}
    assert len(ours) == len(theirs) == 12
    for i, scene in enumerate(ours.dataset.scenes):
        other = samples[str(scene.path)]
        assert torch.equal(ours[i]['image'], other['image'])
        expected = torch.where(other['mask'] == 0, 255, other['mask'] - 1)
        assert torch.equal(ours[i]['mask'], expected)


def test_a_domain_can_be_read_alone(root: Path) -> None:
    urban, rural = LoveDA(root, scene=['urban']), LoveDA(root, scene=['rural'])
    assert [s.name for s in rural.scenes] == [f'Rural/{i}' for i in range(8, 14)]
    assert {s.name.split('/')[0] for s in urban.scenes} == {'Urban'}
    assert len(LoveDA(root).scenes) == len(urban.scenes) + len(rural.scenes)


def test_the_test_split_has_no_masks(root: Path) -> None:
    dataset = LoveDA(root, 'test')
    assert dataset.classes is None and dataset.labelled == []
    assert 'mask' not in NonGeoScenes(dataset)[0]


def test_bands_are_read_by_name(root: Path) -> None:
    image, swapped = (
        NonGeoScenes(LoveDA(root, bands=bands))[0]['image']
        for bands in (('R', 'G', 'B'), ('B', 'R'))
    )
    assert torch.equal(swapped, image[[2, 0]])


def test_images_lie_apart_in_a_plane_and_are_found_there(root: Path) -> None:
    dataset = LoveDA(root)
    assert dataset.crs.is_engineering
    left, bottom, right, top = dataset.scenes[5].grid.bounds
    sample = dataset[left:right, bottom:top]
    assert torch.equal(sample['image'], NonGeoScenes(dataset)[5]['image'])


def test_nothing_but_the_first_bytes_of_images_is_read_at_first(copy: Path) -> None:
    for path in copy.rglob('*.png'):
        path.write_bytes(path.read_bytes()[:26] if 'images' in str(path) else b'')
    assert len(LoveDA(copy).scenes) == 12


def test_an_image_of_another_size_keeps_it(copy: Path) -> None:
    for folder in ('images_png', 'masks_png'):
        path = copy / 'Train' / 'Rural' / folder / '9.png'
        Image.open(path).resize((20, 24), Image.Resampling.NEAREST).save(path)
    dataset = LoveDA(copy, scene=['rural'])
    assert dataset.scenes[1].grid.shape == (24, 20)
    assert NonGeoScenes(dataset)[1]['mask'].shape == (24, 20)


@pytest.mark.parametrize('mode', ['L', 'RGBA'])
def test_an_image_of_another_kind_is_refused(copy: Path, mode: str) -> None:
    path = copy / 'Val' / 'Urban' / 'images_png' / '100.png'
    Image.fromarray(np.zeros((32, 32), np.uint8)).convert(mode).save(path)
    shutil.copy(path, copy / 'Val' / 'Urban' / 'masks_png')
    with pytest.raises(ValueError, match=r'100\.png is no PNG file with red'):
        LoveDA(copy, 'val')


def test_an_image_without_mask_is_named(copy: Path) -> None:
    (copy / 'Train' / 'Rural' / 'masks_png' / '10.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'10\.png has no mask.*Train\.zip'):
        LoveDA(copy)
    assert len(LoveDA(copy, scene=['urban']).scenes) == 6


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'split': 'validation'}, 'train or val or test'),
        ({'scene': ['suburb']}, 'suburb.*urban, rural'),
        ({'scene': []}, 'at least one'),
        ({'bands': ['NIR']}, 'NIR.*R, G, B'),
    ],
)
def test_a_wrong_argument_says_what_is_accepted(
    root: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LoveDA(root, **wrong)


def test_without_download_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r'download=True.*Val\.zip'):
        LoveDA(tmp_path, 'val')


@pytest.fixture
def server(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with Val.zip whose checksum is known."""
    folder = tmp_path / 'archives'
    folder.mkdir()
    name = shutil.make_archive(str(folder / 'Val'), 'zip', root, 'Val')
    md5 = hashlib.md5(Path(name).read_bytes()).hexdigest()
    info = LoveDA.info_dict['val'] | {'md5': md5}
    monkeypatch.setitem(LoveDA.info_dict, 'val', info)
    return folder


def test_an_archive_beside_is_checked_and_extracted(server: Path) -> None:
    assert len(LoveDA(server, 'val', checksum=True).scenes) == 4


def test_a_broken_archive_is_refused(server: Path) -> None:
    with (server / 'Val.zip').open('ab') as file:
        file.write(b'more')
    with pytest.raises(RuntimeError, match=r'Val\.zip is corrupt'):
        LoveDA(server, 'val', checksum=True)


def test_the_data_module_has_the_published_validation(root: Path) -> None:
    module = LoveDADataModule(root, batch_size=2, patch_size=16, scene=['rural'])
    module.setup('fit')
    batch = next(iter(module.train_dataloader()))
    assert batch['image'].shape == (2, 3, 16, 16)
    assert module.inputs.classes == LoveDA.CLASSES.names
    assert module.inputs.values == (1, 2, 3, 4, 5, 6, 7)
    assert {use: len(part.regions) for use, part in module.parts.items()} == {
        'train': 6,
        'val': 2,
    }
    with pytest.raises(ValueError, match='not published'):
        module.setup('test')
