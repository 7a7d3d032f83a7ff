"""SpaceNet 6: radar and a chosen optical product of a tile, with its buildings."""

import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from tiny import write_fake
from torchgeo.datasets import DatasetNotFoundError
from torchgeo.datasets import SpaceNet6 as TorchGeoSpaceNet6

from eoseg_datasets import NonGeoScenes, SpaceNet6
from eoseg_datasets.archives import ArchiveError

AOI = 'SN6_buildings/train/train/AOI_11_Rotterdam'


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake('spacenet6', tmp_path_factory.mktemp('spacenet6'))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(root, tmp_path / 'copy'))


def test_radar_comes_first_then_the_optical_bands(root: Path) -> None:
    dataset = SpaceNet6(root)
    assert dataset.bands == ('HH', 'HV', 'VH', 'VV', 'R', 'G', 'B')
    sample = NonGeoScenes(dataset)[2]
    assert sample['image'][:, 3, 4].tolist() == [27, 2, 3, 4, 10, 20, 30]


def test_values_and_buildings_are_those_of_torchgeo(root: Path) -> None:
    ours = NonGeoScenes(SpaceNet6(root))
    for product, channels in (('SAR-Intensity', slice(4)), ('PS-RGB', slice(4, 7))):
        theirs = TorchGeoSpaceNet6(str(root), image=product, checksum=False)
        for i in (1, 2, 5):
            torch.testing.assert_close(ours[i]['image'][channels], theirs[i]['image'])
            torch.testing.assert_close(ours[i]['mask'], theirs[i]['mask'])


@pytest.mark.parametrize('product', SpaceNet6.products)
def test_every_optical_product_comes_on_the_pixels_of_the_radar(
    root: Path, product: str
) -> None:
    dataset = SpaceNet6(root, optical=product)  # type: ignore[arg-type]
    assert dataset.optical_bands == SpaceNet6.products[product]
    image = NonGeoScenes(dataset)[3]['image']
    values = [10, 20, 30, 40][: len(dataset.optical_bands)]
    assert image[4:, 11, 13].tolist() == values
    assert SpaceNet6.optical_bands == ('R', 'G', 'B')


def test_what_is_black_in_radar_is_not_valid_though_it_has_colours(root: Path) -> None:
    for bands in (None, SpaceNet6.sar_bands):
        sample = NonGeoScenes(SpaceNet6(root, bands=bands))[0]
        assert not sample['valid'][:, 0].any() and sample['valid'][:, 1:].all()
        assert (sample['mask'][:, 0] == 255).all()
    assert NonGeoScenes(SpaceNet6(root, bands=('R',)))[0]['valid'].all()


def test_radar_alone_needs_no_optical_files(copy: Path) -> None:
    shutil.rmtree(copy / AOI / 'PS-RGB')
    assert len(SpaceNet6(copy, bands=SpaceNet6.sar_bands)) == 12
    with pytest.raises(FileNotFoundError, match='PS-RGB has no file'):
        SpaceNet6(copy)


def test_the_test_split_has_radar_only_and_no_labels(root: Path) -> None:
    dataset = SpaceNet6(root, 'test')
    assert dataset.bands == SpaceNet6.sar_bands
    assert dataset.labelled == [] and 'mask' not in NonGeoScenes(dataset)[0]
    with pytest.raises(ValueError, match=r'SpaceNet6 \(test\) has no band R'):
        SpaceNet6(root, 'test', bands=('VV', 'R'))


def test_tiles_without_a_building_are_background(root: Path) -> None:
    dataset = NonGeoScenes(SpaceNet6(root, bands=('VV',)))
    counts = [int((dataset[i]['mask'] == 1).sum()) for i in range(4)]
    assert counts == [64, 0, 64, 0]


def test_a_tile_that_lies_elsewhere_in_the_optical_product_is_refused(
    copy: Path,
) -> None:
    images = sorted((copy / AOI / 'PS-RGB').iterdir())
    shutil.copy(images[1], images[0])
    with pytest.raises(ValueError, match=r'do not lie on one place: .* 24\.0 pixels'):
        SpaceNet6(copy)


@pytest.mark.parametrize('product', ['PS-RGB', 'geojson_buildings'])
def test_a_tile_without_its_other_file_is_named(copy: Path, product: str) -> None:
    next((copy / AOI / product).glob('*tile_8004*')).unlink()
    with pytest.raises(FileNotFoundError, match=rf'1 tiles .*{product}.*tile_8004'):
        SpaceNet6(copy)


def test_an_archive_is_extracted_where_torchgeo_looks(
    root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / 'SN6_buildings/test'
    folder.mkdir(parents=True)
    with tarfile.open(folder / SpaceNet6.tarballs['test'], 'w:gz') as archive:
        archive.add(root / 'SN6_buildings/test/test_public', 'test_public')
    assert len(SpaceNet6(tmp_path, 'test')) == 1
    assert len(TorchGeoSpaceNet6(str(tmp_path), 'test', checksum=False)) == 1
    with pytest.raises(ArchiveError, match='its md5 is'):
        SpaceNet6(tmp_path, 'test', checksum=True)


def test_a_missing_data_set_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r'train\.tar\.gz.*download=True'):
        SpaceNet6(tmp_path)


def test_unknown_splits_and_products_are_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="must be train or test, got 'val'"):
        SpaceNet6(root, 'val')
    with pytest.raises(ValueError, match='has no product RGB; its products are PS-RGB'):
        SpaceNet6(root, optical='RGB')  # type: ignore[arg-type]
