"""Bijie landslides: pictures of many sizes, with elevation if wanted."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import write_fake
from torchgeo.datasets import DatasetNotFoundError

from eoseg_datasets import BijieLandslide, NonGeoScenes
from eoseg_datasets.scene_dataset import whole_scene


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake('bijie_landslide', tmp_path_factory.mktemp('bijie'))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(root, tmp_path / 'copy'))


def test_each_picture_has_its_own_size_and_its_mask(root: Path) -> None:
    dataset = NonGeoScenes(BijieLandslide(root))
    shapes = [tuple(dataset[i]['image'].shape) for i in range(len(dataset))]
    assert shapes[:2] == [(3, 24, 20), (3, 13, 31)]
    sample = dataset[3]
    assert sample['image'][:, 7, 5].tolist() == [7, 5, 10]
    assert sample['mask'][:, 0].tolist() == [1] * 4 + [0] * 16
    assert sample['valid'].all()


def test_elevation_is_a_fourth_band_for_those_who_ask(root: Path) -> None:
    dataset = BijieLandslide(root, bands=('R', 'dem'))
    assert NonGeoScenes(dataset)[0]['image'][:, 9, 2].tolist() == [9, 109]


def test_other_places_are_background_and_only_read_if_asked_for(root: Path) -> None:
    assert len(BijieLandslide(root)) == 6
    dataset = BijieLandslide(root, ('G', 'dem'), non_landslide=True)
    assert len(dataset) == 8 and len(dataset.labelled) == 8
    assert len({scene.name for scene in dataset.scenes}) == 8
    sample = NonGeoScenes(dataset)[6]
    assert sample['mask'].shape == (15, 22) and not sample['mask'].any()


def test_the_layout_of_translandseg_is_read(root: Path, tmp_path: Path) -> None:
    source = root / 'Bijie-landslide-dataset' / 'landslide'
    shutil.copytree(source / 'image', tmp_path / 'image')
    shutil.copytree(source / 'mask', tmp_path / 'label')
    ours, theirs = (NonGeoScenes(BijieLandslide(r)) for r in (root, tmp_path))
    torch.testing.assert_close(ours[4], theirs[4])
    with pytest.raises(FileNotFoundError, match=r'6 images have no file .*dem'):
        BijieLandslide(tmp_path, bands=BijieLandslide.all_bands)
    with pytest.raises(FileNotFoundError, match='non-landslide/image has no images'):
        BijieLandslide(tmp_path, non_landslide=True)


def test_pictures_do_not_overlap(root: Path) -> None:
    dataset = BijieLandslide(root, non_landslide=True)
    shapes = list(dataset.index.geometry)
    assert not any(a.intersects(b) for i, a in enumerate(shapes) for b in shapes[:i])
    left, bottom, *_ = dataset.scenes[5].grid.bounds
    sample = (dataset | BijieLandslide(root))[left : left + 8, bottom : bottom + 8]
    assert sample['image'].shape == (3, 8, 8)


def test_a_picture_without_a_mask_is_named(copy: Path) -> None:
    (copy / 'Bijie-landslide-dataset/landslide/mask/df010.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 images .*image/df010\.png'):
        BijieLandslide(copy)


def test_a_grey_picture_is_named(copy: Path) -> None:
    path = copy / 'Bijie-landslide-dataset/landslide/image/df010.png'
    Image.new('L', (24, 20)).save(path)
    with pytest.raises(ValueError, match=r'df010\.png has 1 bands, expected are 3'):
        BijieLandslide(copy)


def test_a_mask_with_shades_is_named(copy: Path) -> None:
    path = copy / 'Bijie-landslide-dataset/landslide/mask/df001.png'
    Image.new('L', (20, 24), 128).save(path)
    with pytest.raises(ValueError, match=r'df001\.png has the value 128'):
        NonGeoScenes(BijieLandslide(copy))[0]


def test_a_missing_data_set_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r'gpcv\.whu\.edu\.cn'):
        BijieLandslide(tmp_path)


def test_an_unknown_band_names_those_there_are(root: Path) -> None:
    with pytest.raises(ValueError, match='its bands are R, G, B, dem'):
        BijieLandslide(root, bands=('B4',))


@pytest.mark.real_data
@pytest.mark.parametrize('region', ['sichuan', 'nepal'])
def test_real_landslides_in_this_layout_are_read(
    data: Path, tmp_path: Path, region: str
) -> None:
    source = data / f'pairs_landslide_{region}'
    (tmp_path / 'image').symlink_to(source / 'images')
    (tmp_path / 'label').symlink_to(source / 'masks')
    dataset = BijieLandslide(tmp_path)
    assert len(dataset) == len(list((source / 'images').glob('*.png')))
    sample = dataset[whole_scene(dataset.scenes, 0)]
    share = (sample['mask'] == 1).float().mean().item()
    assert 0.0001 < share < 0.5 and sample['image'].std() > 5
