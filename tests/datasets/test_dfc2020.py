"""DFC2020: three folders and a table become pairs with ten classes."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from tiny import write_fake
from torchgeo.datasets import (
    CopernicusBenchDFC2020S1,
    CopernicusBenchDFC2020S2,
    DatasetNotFoundError,
)

from eoseg_datasets import DFC2020, NonGeoScenes
from eoseg_datasets.archives import ArchiveError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('EOSEG_CACHE', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake('dfc2020', tmp_path_factory.mktemp('dfc2020'))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(root, tmp_path / 'copy'))


def test_each_split_is_what_its_table_says(root: Path) -> None:
    names = [
        [scene.name for scene in DFC2020(root, split).scenes]
        for split in DFC2020.splits
    ]
    assert [len(part) for part in names] == [4, 2, 2]
    assert names[1] == ['ROIs0000_test_0_p4', 'ROIs0000_test_0_p5']


def test_values_are_those_of_torchgeos_two_data_sets(root: Path) -> None:
    ours = NonGeoScenes(DFC2020(root, 'val'))[1]
    parts = [
        dataset(str(root), split='val')[1]
        for dataset in (CopernicusBenchDFC2020S1, CopernicusBenchDFC2020S2)
    ]
    torch.testing.assert_close(
        ours['image'], torch.cat([part['image'] for part in parts])
    )
    named = parts[0]['mask'] > 0
    assert (ours['mask'][named] == parts[0]['mask'][named] - 1).all()
    assert (ours['mask'][~named] == 255).all()


def test_classes_are_those_of_sen12ms(root: Path) -> None:
    mask = NonGeoScenes(DFC2020(root))[0]['mask']
    assert mask[0, :12].tolist() == [255, *range(10), 255]
    assert DFC2020.CLASSES.names[0] == 'Forest'
    assert DFC2020.CLASSES.legend.colors[9] == '#1c0dff'


def test_one_sensor_needs_no_files_of_the_other(copy: Path) -> None:
    shutil.rmtree(copy / 'dfc2020_s1s2' / 's1')
    dataset = DFC2020(copy, bands=('B8A', 'B04'))
    assert NonGeoScenes(dataset)[3]['image'][:, 0, 0].tolist() == [903, 403]
    with pytest.raises(FileNotFoundError, match=r'4 files .*s1/ROIs0000_test_s1_0_p0'):
        DFC2020(copy)


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_patches_without_a_place_are_read_as_well(copy: Path) -> None:
    for path in (copy / 'dfc2020_s1s2').rglob('*.tif'):
        with rasterio.open(path) as source:
            array, profile = source.read(), source.profile
        profile.pop('crs')
        profile.pop('transform')
        with rasterio.open(path, 'w', **profile) as target:
            target.write(array)
    dataset = DFC2020(copy)
    assert dataset.crs.is_engineering
    assert np.unique(NonGeoScenes(dataset)[0]['mask']).tolist() == [*range(10), 255]


def test_an_archive_is_extracted(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / 'dfc2020.zip', 'w') as archive:
        for path in sorted(root.rglob('*.*')):
            archive.write(path, path.relative_to(root))
    assert len(DFC2020(tmp_path)) == 4
    with pytest.raises(ArchiveError, match='its sha256 is'):
        DFC2020(tmp_path, checksum=True)


def test_a_missing_data_set_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r'dfc2020\.zip.*download=True'):
        DFC2020(tmp_path)


def test_an_unknown_split_names_those_there_are(root: Path) -> None:
    with pytest.raises(ValueError, match='must be train or val or test'):
        DFC2020(root, 'all')
