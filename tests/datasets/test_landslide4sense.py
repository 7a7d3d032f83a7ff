"""Landslide4Sense: patches in HDF5, in two layouts, with and without masks."""

import builtins
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from rasterio.windows import Window
from tiny import write_fake
from torch.utils.data import DataLoader
from torchgeo.datasets import DatasetNotFoundError

from eoseg_datasets import (
    GridSceneSampler,
    Landslide4Sense,
    NonGeoScenes,
    ScenePatch,
    stack_samples,
)
from eoseg_datasets.scene_dataset import whole_scene


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake('landslide4sense', tmp_path_factory.mktemp('landslide4sense'))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(root, tmp_path / 'copy'))


@pytest.fixture
def mirror(root: Path, tmp_path: Path) -> Path:
    """The same files as they lie on Hugging Face, all with masks."""
    for split, name in (('Train', 'train'), ('Valid', 'validation'), ('Test', 'test')):
        images = Path(
            shutil.copytree(root / f'{split}Data/img', tmp_path / 'images' / name)
        )
        masks = tmp_path / 'annotations' / name
        masks.mkdir(parents=True)
        for path in images.iterdir():
            mask = path.name.replace('image', 'mask')
            shutil.copy(root / 'TrainData/mask/mask_1.h5', masks / mask)
    return tmp_path


def test_bands_come_by_name_and_nan_is_not_valid(root: Path) -> None:
    dataset = Landslide4Sense(root)
    assert dataset.bands == (*(f'B{i}' for i in range(1, 13)), 'slope', 'dem')
    sample = NonGeoScenes(dataset)[1]
    expected = torch.arange(1, 15) + 0.02
    torch.testing.assert_close(sample['image'][:, 1, 0], expected)
    assert (~sample['valid']).nonzero().tolist() == [[0, 0]]
    assert sample['mask'][0, :9].tolist() == [255, *[1] * 7, 0]
    assert not sample['image'][:, 0, 0].any()


def test_chosen_bands_come_in_their_order(root: Path) -> None:
    dataset = Landslide4Sense(root, bands=('slope', 'B2'))
    sample = dataset[ScenePatch(0, Window(-2, -2, 8, 8))]
    assert sample['image'][:, 2, 2].tolist() == pytest.approx([13.01, 2.01])
    assert sample['valid'].sum() == 36
    assert (
        dataset.scenes[0].valid(Window(-2, -2, 8, 8)) == sample['valid'].numpy()
    ).all()


def test_images_are_in_the_order_of_their_numbers(root: Path) -> None:
    names = [scene.name for scene in Landslide4Sense(root).scenes]
    assert names == [f'image_{i}' for i in range(1, 13)]


def test_both_layouts_hold_the_same(root: Path, mirror: Path) -> None:
    ours, theirs = (NonGeoScenes(Landslide4Sense(r)) for r in (root, mirror))
    assert len(ours) == len(theirs) == 12
    torch.testing.assert_close(ours[3], theirs[3])
    assert len(Landslide4Sense(mirror, 'val').labelled) == 1


def test_a_split_without_masks_has_no_labels(root: Path) -> None:
    dataset = Landslide4Sense(root, 'test')
    assert dataset.classes is None and dataset.labelled == []
    assert 'mask' not in NonGeoScenes(dataset)[1]


def test_opening_reads_no_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError('a file was opened')

    monkeypatch.setattr(h5py, 'File', refuse)
    assert len(Landslide4Sense(root)) == 12


def test_scenes_can_be_sent_to_workers(root: Path) -> None:
    dataset = pickle.loads(pickle.dumps(Landslide4Sense(root, bands=('B4',))))
    regions = [whole_scene(dataset.scenes, i) for i in dataset.labelled]
    loader = DataLoader(
        dataset, 6, sampler=GridSceneSampler(regions, 128), num_workers=2,
        collate_fn=stack_samples, multiprocessing_context='fork',
    )  # fmt: skip
    assert [tuple(b['image'].shape) for b in loader] == [(6, 1, 128, 128)] * 2


def test_without_h5py_it_says_what_to_install(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == 'h5py':
            raise ModuleNotFoundError("No module named 'h5py'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'eoseg\[h5\]'"):
        Landslide4Sense(root)


def test_an_image_without_a_mask_is_named(copy: Path) -> None:
    (copy / 'TrainData/mask/mask_7.h5').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 images have no mask.*image_7\.h5'):
        Landslide4Sense(copy)


def test_an_archive_is_extracted(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / 'ValidData.zip', 'w') as archive:
        archive.write(root / 'ValidData/img/image_1.h5', 'ValidData/img/image_1.h5')
    assert len(Landslide4Sense(tmp_path, 'val')) == 1


def test_a_missing_data_set_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r'TrainData\.zip.*zenodo.*10463239'):
        Landslide4Sense(tmp_path)


def test_unknown_splits_and_bands_are_refused(root: Path) -> None:
    with pytest.raises(ValueError, match='train or val or test'):
        Landslide4Sense(root, 'validation')
    with pytest.raises(ValueError, match='has no band B8A; its bands are B1, B2'):
        Landslide4Sense(root, bands=('B8A',))


def rewrite(path: Path, key: str, array: np.typing.NDArray[Any]) -> None:
    with h5py.File(path, 'w') as file:
        file[key] = array


@pytest.mark.parametrize(
    ('key', 'array', 'message'),
    [
        ('image', np.zeros((128, 128, 14)), 'has no array img, but image'),
        ('img', np.zeros((64, 64, 14)), r'has img of \(64, 64\) pixels'),
        ('img', np.zeros((128, 128, 3)), 'at least 14 bands'),
        ('img', np.zeros((128, 128)), 'expected is'),
    ],
)
def test_another_array_is_refused_when_it_is_read(
    copy: Path, key: str, array: np.typing.NDArray[Any], message: str
) -> None:
    rewrite(copy / 'TrainData/img/image_1.h5', key, array)
    with pytest.raises(ValueError, match=rf'image_1\.h5 .*{message}'):
        NonGeoScenes(Landslide4Sense(copy))[0]


def test_a_damaged_file_is_named(copy: Path) -> None:
    (copy / 'TrainData/img/image_1.h5').write_bytes(b'<html>')
    with pytest.raises(OSError, match=r'image_1\.h5 cannot be read'):
        NonGeoScenes(Landslide4Sense(copy))[0]


def test_a_file_does_not_lead_to_another_one(copy: Path) -> None:
    path, other = copy / 'TrainData/img/image_1.h5', copy / 'TrainData/img/image_2.h5'
    shape = (128, 128, 14)
    layout = h5py.VirtualLayout(shape, 'f8')
    layout[:] = h5py.VirtualSource(other, 'img', shape)
    with h5py.File(path, 'w') as file:
        file.create_virtual_dataset('img', layout)
    with pytest.raises(ValueError, match='in another file, which is not read'):
        NonGeoScenes(Landslide4Sense(copy))[0]
    with h5py.File(path, 'w') as file:
        file['img'] = h5py.ExternalLink(other, 'img')
    with pytest.raises(ValueError, match='in another file, which is not read'):
        NonGeoScenes(Landslide4Sense(copy))[0]
    with h5py.File(path, 'w') as file:
        file.create_dataset('img', shape, 'f8', external=[(other, 0, 128 * 128 * 112)])
    with pytest.raises(ValueError, match='in another file, which is not read'):
        NonGeoScenes(Landslide4Sense(copy))[0]


def test_a_mask_of_other_values_is_named(copy: Path) -> None:
    rewrite(copy / 'TrainData/mask/mask_1.h5', 'mask', np.full((128, 128), 7))
    with pytest.raises(ValueError, match=r'mask_1\.h5 has the value 7'):
        NonGeoScenes(Landslide4Sense(copy))[0]
