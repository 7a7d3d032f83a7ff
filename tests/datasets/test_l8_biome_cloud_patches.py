"""L8 Biome cloud patches: the published form, and one cut anew from the scenes."""

import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rasterio.windows import Window
from tiny import write_fake
from torch.utils.data import DataLoader
from torchgeo.datasets import DatasetNotFoundError

from eoseg_datasets import (
    L8BiomeCloudPatches,
    L8BiomeClouds,
    MinMaxStretch,
    NonGeoScenes,
    ScenePatch,
)
from eoseg_datasets.l8_biome_cloud_patches import cut_patches
from eoseg_datasets.splits import Split, source_scene

BARREN = 'barren_LC80420082013220LGN00'
RGB = ('B4', 'B3', 'B2')


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('l8_biome_cloud_patches')
    return write_fake('l8_biome_cloud_patches', folder)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake('l8_biome_clouds', tmp_path_factory.mktemp('l8_biome_clouds'))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(root, tmp_path / 'copy'))


def names(dataset: L8BiomeCloudPatches) -> list[str]:
    return [scene.name for scene in dataset.scenes]


def test_a_picture_comes_with_its_label_bands_and_day(root: Path) -> None:
    dataset = L8BiomeCloudPatches(root)
    index = names(dataset).index(f'{BARREN}_patch_0_1536')
    assert dataset.scenes[index].acquired == datetime(2013, 8, 8)
    assert dataset.bands == RGB
    sample = dataset[ScenePatch(index, Window(3, 6, 1, 4))]
    assert sample['mask'].ravel().tolist() == [2, 3, 0, 1]
    assert sample['image'][:, 0, 0].tolist() == [6, 3, 9]
    assert dataset.classes is L8BiomeClouds.CLASSES


def test_splits_are_those_of_the_folders(root: Path) -> None:
    sizes = [len(L8BiomeCloudPatches(root, s)) for s in ('train', 'val', 'test', 'all')]
    assert sizes == [8, 4, 2, 14]


def test_scenes_in_several_splits_are_listed(root: Path) -> None:
    shared = L8BiomeCloudPatches(root, 'test').shared_scenes()
    assert shared == {'water_LC80210072014236LGN00': ('train', 'val')}


def test_pictures_of_one_scene_have_one_source(root: Path) -> None:
    sources = {source_scene(name) for name in names(L8BiomeCloudPatches(root, 'all'))}
    assert len(sources) == 6


def test_only_the_first_picture_is_opened(copy: Path) -> None:
    for path in sorted((copy / 'cloud/img_dir/train').iterdir())[1:]:
        path.write_bytes(b'')
    assert len(L8BiomeCloudPatches(copy)) == 8


def test_bands_come_by_name_in_the_order_asked_for(root: Path) -> None:
    some, every = (
        L8BiomeCloudPatches(root, bands=('B2', 'B4')),
        L8BiomeCloudPatches(root),
    )
    torch.testing.assert_close(
        NonGeoScenes(some)[3]['image'], NonGeoScenes(every)[3]['image'][[2, 0]]
    )


def test_pictures_can_be_loaded_by_number(root: Path) -> None:
    pictures = NonGeoScenes(L8BiomeCloudPatches(root))
    batch = next(iter(DataLoader(pictures, batch_size=8)))
    assert batch['image'].shape == (8, 3, 32, 32)
    assert batch['mask'].unique().tolist() == [0, 1, 2, 3]


def test_the_folder_may_be_called_as_the_authors_call_it(
    root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root / 'cloud', tmp_path / 'l8_biome')
    assert len(L8BiomeCloudPatches(tmp_path, 'test')) == 2
    assert len(L8BiomeCloudPatches(tmp_path / 'l8_biome', 'test')) == 2


def test_a_missing_data_set_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r'cloud\.zip \(2\.80 GB\)'):
        L8BiomeCloudPatches(tmp_path)


def test_an_archive_of_another_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'cloud.zip').write_bytes(b'PK')
    with pytest.raises(RuntimeError, match='2 bytes, expected are 2800950839'):
        L8BiomeCloudPatches(tmp_path)


def test_an_unknown_split_or_band_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="train or val or test or all, got 'trian'"):
        L8BiomeCloudPatches(root, 'trian')
    with pytest.raises(ValueError, match='no band B5; its bands are B4, B3, B2'):
        L8BiomeCloudPatches(root, bands=['B5'])


def test_a_picture_without_a_label_is_named(copy: Path) -> None:
    (copy / f'cloud/ann_dir/train/{BARREN}_patch_0_0.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'_patch_0_0\.png has no label'):
        L8BiomeCloudPatches(copy)


def test_a_label_of_another_size_is_named_when_it_is_read(copy: Path) -> None:
    wrong = Image.fromarray(np.zeros((8, 8), np.uint8))
    wrong.save(copy / f'cloud/ann_dir/train/{BARREN}_patch_0_0.png')
    dataset = L8BiomeCloudPatches(copy)
    with pytest.raises(ValueError, match=r'_patch_0_0\.png has 8 x 8 pixels'):
        NonGeoScenes(dataset)[names(dataset).index(f'{BARREN}_patch_0_0')]


def test_scenes_are_cut_and_read_again_as_the_authors_did(
    scenes: Path, tmp_path: Path
) -> None:
    dataset = L8BiomeClouds(scenes, RGB, fill='clear')
    counts = cut_patches(dataset, tmp_path, size=16)
    # Of 3 x 4 patches in 5 scenes, those of the second column are clear, and in the
    # first scene all those below row 16.
    assert sum(counts.values()) == 4 * 3 * 3 + 3
    pictures = L8BiomeCloudPatches(tmp_path, 'all')
    assert len(pictures) == sum(counts.values())
    stretched = L8BiomeClouds(scenes, RGB, fill='clear', transforms=MinMaxStretch())
    index = names(pictures).index(f'{BARREN}_patch_0_32')
    scene = next(
        i for i, s in enumerate(stretched.scenes) if s.name.startswith('barren/LC8042')
    )
    expected = stretched[ScenePatch(scene, Window(32, 0, 16, 16))]
    sample = NonGeoScenes(pictures)[index]
    torch.testing.assert_close(sample['image'], expected['image'])
    torch.testing.assert_close(sample['mask'], expected['mask'])
    assert pictures.shared_scenes() == {}


def test_patches_that_are_all_clear_are_kept_if_wanted(
    scenes: Path, tmp_path: Path
) -> None:
    dataset = L8BiomeClouds(scenes, RGB)
    some = cut_patches(dataset, tmp_path / 'some', size=16)
    every = cut_patches(dataset, tmp_path / 'all', size=16, drop_clear=False)
    assert sum(every.values()) == 5 * 3 * 4
    assert sum(some.values()) == 4 * 3 * 3 + 3


def test_incomplete_patches_are_dropped(scenes: Path, tmp_path: Path) -> None:
    dataset = L8BiomeClouds(scenes, RGB)
    counts = cut_patches(dataset, tmp_path, size=40, drop_clear=False)
    assert sum(counts.values()) == 5
    assert all(p.stem.endswith('_patch_0_0') for p in tmp_path.rglob('*.png'))


def test_fill_has_no_label_in_patches_unless_it_is_clear(
    scenes: Path, tmp_path: Path
) -> None:
    whole = Window(0, 0, 64, 48)
    split = Split((ScenePatch(0, whole),), (), (), 'by hand')
    for fill, value in (('ignore', 255), ('clear', 0)):
        dataset = L8BiomeClouds(scenes, RGB, fill=fill)  # type: ignore[arg-type]
        counts = cut_patches(dataset, tmp_path / fill, size=16, split=split)
        assert counts == {'train': 3, 'val': 0, 'test': 0}
        label = tmp_path / fill / f'ann_dir/train/{BARREN}_patch_0_0.png'
        assert np.asarray(Image.open(label))[:5, 0].tolist() == [*[value] * 4, 1]


def test_cutting_again_writes_the_same_and_leaves_nothing_else(
    scenes: Path, tmp_path: Path
) -> None:
    dataset = L8BiomeClouds(scenes, RGB)
    cut_patches(dataset, tmp_path, size=16)
    before = {path: path.read_bytes() for path in tmp_path.rglob('*.*')}
    cut_patches(dataset, tmp_path, size=16)
    assert {path: path.read_bytes() for path in tmp_path.rglob('*.*')} == before
    assert all(path.suffix == '.png' for path in before)


def test_a_patch_never_lies_in_two_splits(scenes: Path, tmp_path: Path) -> None:
    dataset = L8BiomeClouds(scenes, RGB)
    scene = ScenePatch(0, Window(0, 0, 64, 48))
    cut_patches(dataset, tmp_path, 16, split=Split((scene,), (), (), 'by hand'))
    with pytest.raises(FileExistsError, match='in train, it belongs to test now'):
        cut_patches(dataset, tmp_path, 16, split=Split((), (), (scene,), 'by hand'))


def test_pictures_have_three_bands_and_are_stretched_once(
    scenes: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"has 11 .*bands=\('B4', 'B3', 'B2'\)"):
        cut_patches(L8BiomeClouds(scenes), tmp_path)
    stretched = L8BiomeClouds(scenes, RGB, transforms=MinMaxStretch())
    with pytest.raises(ValueError, match='open the data set without transforms'):
        cut_patches(stretched, tmp_path)


@pytest.mark.real_data
def test_names_of_real_patches_give_their_scene_and_day(
    data: Path, tmp_path: Path
) -> None:
    # Patches of another author, 384 px and cloud against the rest: names and form only.
    source = data / 'pairs_cloud_l8biome_rgb'
    stems = sorted(path.stem for path in (source / 'images').glob('*.png'))
    for folder, inner in (('images', 'img_dir'), ('masks', 'ann_dir')):
        for i, stem in enumerate(stems):
            target = tmp_path / inner / ('train', 'val', 'test')[i % 3]
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / folder / f'{stem}.png', target)
    dataset = L8BiomeCloudPatches(tmp_path, 'all')
    days = [scene.acquired for scene in dataset.scenes]
    assert all(
        day and datetime(2013, 4, 1) <= day < datetime(2014, 12, 1) for day in days
    )
    splits: dict[str, set[int]] = {}
    for i, stem in enumerate(stems):
        splits.setdefault(stem.split('_')[0], set()).add(i % 3)
    assert set(dataset.shared_scenes()) == {s for s, n in splits.items() if len(n) > 1}
    assert NonGeoScenes(dataset)[0]['image'].shape == (3, 384, 384)
