"""SEN12MS: triplets of files become pairs with ten classes; no header is read twice."""

import os
import shutil
import time
from pathlib import Path

import pytest
import rasterio
import torch
from affine import Affine
from matplotlib import pyplot as plt
from rasterio.windows import Window
from tiny import write_fake
from torch.utils.data import DataLoader
from torchgeo.datasets import SEN12MS as TorchGeoSEN12MS
from torchgeo.datasets import DatasetNotFoundError

from eoseg_datasets import (
    SEN12MS,
    GridSceneSampler,
    NonGeoScenes,
    ScenePatch,
    grids,
    stack_samples,
)
from eoseg_datasets.archives import ArchiveError
from eoseg_datasets.grid import Grid
from eoseg_datasets.scene_dataset import whole_scene
from eoseg_datasets.splits import split_scenes

RGB = ('B04', 'B03', 'B02')


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv('EOSEG_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake('sen12ms', tmp_path_factory.mktemp('sen12ms'))


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(root, tmp_path / 'copy'))


def position(dataset: SEN12MS, name: str) -> int:
    return [scene.name for scene in dataset.scenes].index(name)


def test_radar_comes_first_then_all_optical_bands(root: Path) -> None:
    dataset = SEN12MS(root)
    assert dataset.bands == SEN12MS.sar_bands + SEN12MS.optical_bands
    i = position(dataset, 'ROIs1158_spring_8_patch_30')
    image = NonGeoScenes(dataset)[i]['image']
    assert image.shape == (15, 32, 32) and image.dtype == torch.float32
    assert image[:, 5, 4].tolist() == [-30, -5, *(100 * b + 4 for b in range(1, 14))]


def test_values_are_those_of_torchgeo(root: Path) -> None:
    theirs = TorchGeoSEN12MS(str(root), split='test', checksum=False)[1]
    dataset = SEN12MS(root, split='test')
    ours = NonGeoScenes(dataset)[1]
    there = ours['valid']
    torch.testing.assert_close(ours['image'][:, there], theirs['image'][:, there])
    named = ours['mask'] != 255
    simple = torch.tensor([0, 1, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 6, 8, 9, 10])
    assert (ours['mask'][named] + 1 == simple[theirs['mask'][named]]).all()


def test_bands_are_chosen_by_name_and_other_sensors_need_not_be_there(
    copy: Path,
) -> None:
    for folder in copy.glob('ROIs*/s2_*'):
        shutil.rmtree(folder)
    dataset = SEN12MS(copy, bands=SEN12MS.sar_bands)
    assert dataset[whole_scene(dataset.scenes, 0)]['image'].shape == (2, 32, 32)
    with pytest.raises(DatasetNotFoundError, match=r'ROIs1158_spring_s2\.tar\.gz'):
        SEN12MS(copy)


def test_igbp_becomes_ten_classes_and_what_is_unknown_has_no_label(root: Path) -> None:
    dataset = SEN12MS(root)
    mask = NonGeoScenes(dataset)[0]['mask']
    assert mask[1, :17].tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 5, 7, 8, 9]
    assert mask[0, :4].tolist() == [255, 255, 255, 0]
    assert dataset.CLASSES.names[5:7] == ('Croplands', 'Urban/Built-up')


def test_pixels_without_radar_are_not_valid_and_have_no_label(root: Path) -> None:
    for bands, invalid in ((None, 1), (SEN12MS.sar_bands, 1), (RGB, 0)):
        sample = NonGeoScenes(SEN12MS(root, bands=bands))[0]
        assert (~sample['valid']).sum() == invalid
        assert bool(sample['mask'][2, 3] == 255) == bool(invalid)


def test_the_broken_patch_is_left_out(root: Path) -> None:
    names = [scene.name for scene in SEN12MS(root).scenes]
    assert len(names) == 6
    assert 'ROIs1868_summer_146_patch_203' in names
    assert 'ROIs1868_summer_146_patch_202' not in names


def test_patches_keep_their_place(root: Path) -> None:
    dataset = SEN12MS(root, seasons=('spring',))
    assert [scene.grid.crs.to_epsg() for scene in dataset.scenes] == [32631] * 2 + [
        32638
    ]
    left, _, _, top = dataset.scenes[0].grid.bounds
    sample = dataset[left + 40 : left + 120, top - 200 : top - 120]
    torch.testing.assert_close(
        sample['image'],
        dataset[ScenePatch(0, Window(4, 12, 8, 8))]['image'],
    )


def test_a_season_that_is_not_asked_for_need_not_be_there(copy: Path) -> None:
    shutil.rmtree(copy / 'ROIs2017_winter')
    assert len(SEN12MS(copy, seasons=['spring', 'summer', 'fall'])) == 5
    with pytest.raises(DatasetNotFoundError, match='ROIs2017_winter_s1'):
        SEN12MS(copy)


def test_a_split_without_the_seasons_says_which_it_has(copy: Path) -> None:
    (copy / 'test_list.txt').write_text('ROIs1970_fall_s2_9_p1.tif\n')
    with pytest.raises(
        ValueError, match=r'SEN12MS test has no patch of spring; .* has patches of fall'
    ):
        SEN12MS(copy, split='test', seasons=['spring'])


def test_patches_of_a_scene_stay_together(root: Path) -> None:
    dataset = SEN12MS(root)
    split = split_scenes(dataset.scenes, dataset.labelled, 32, val=0.2, test=0.2)
    assert split.rule == 'by scene (5 scenes)'


def test_headers_are_read_once(
    copy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = SEN12MS(copy)
    (table,) = cache.rglob('*.npz')
    opened: list[Path] = []
    read = grids._grid_in

    def counted(path: Path) -> Grid:
        opened.append(path)
        return read(path)

    monkeypatch.setattr(grids, '_grid_in', counted)
    again = SEN12MS(copy)
    assert again.scenes == first.scenes and not opened
    changed = copy / 'ROIs1970_fall/s1_9/ROIs1970_fall_s1_9_p1.tif'
    shutil.copy(copy / 'ROIs1158_spring/s1_8/ROIs1158_spring_s1_8_p30.tif', changed)
    assert SEN12MS(copy).scenes != first.scenes
    assert opened == [changed]
    table.write_bytes(b'PK damaged')
    assert len(SEN12MS(copy)) == 6
    assert len(opened) == 7


def move(path: Path, east: float) -> None:
    """Write a raster again, elsewhere."""
    with rasterio.open(path) as source:
        profile, image = source.profile, source.read()
    profile['transform'] = Affine(10, 0, east, 0, -10, 5_300_000)
    with rasterio.open(path, 'w', **profile) as target:
        target.write(image)


def test_a_header_just_written_is_not_trusted_where_time_has_whole_seconds(
    copy: Path, cache: Path
) -> None:
    changed = copy / 'ROIs1970_fall/s1_9/ROIs1970_fall_s1_9_p1.tif'
    second = int(time.time())
    sizes, places = set(), set()
    for east in (1000, 2000):
        move(changed, east)
        os.utime(changed, (second, second))
        sizes.add(changed.stat().st_size)
        places |= {scene.grid.transform.c for scene in SEN12MS(copy).scenes}
    assert len(sizes) == 1
    assert {1000, 2000} <= places


def test_headers_read_by_other_code_are_read_anew(
    copy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = SEN12MS(copy)
    opened: list[Path] = []
    read = grids._grid_in

    def counted(path: Path) -> Grid:
        opened.append(path)
        return read(path)

    monkeypatch.setattr(grids, '_grid_in', counted)
    monkeypatch.setattr(grids, 'code_version', lambda *_: 'newer')
    assert SEN12MS(copy).scenes == first.scenes
    assert len(opened) == 6


def test_a_cache_that_cannot_be_written_costs_only_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('EOSEG_CACHE', '/dev/null/nowhere')
    assert len(SEN12MS(root)) == 6


def test_a_file_that_is_no_raster_is_named(copy: Path) -> None:
    (copy / 'ROIs1970_fall/s1_9/ROIs1970_fall_s1_9_p1.tif').write_bytes(b'<html>')
    with pytest.raises(
        ValueError, match=r'ROIs1970_fall_s1_9_p1\.tif cannot be opened'
    ):
        SEN12MS(copy)


def test_missing_patches_are_counted_and_one_is_named(copy: Path) -> None:
    (copy / 'ROIs1158_spring/lc_1/ROIs1158_spring_lc_1_p31.tif').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 files .*spring_lc_1_p31\.tif'):
        SEN12MS(copy)


def test_a_missing_list_says_that_it_can_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r'train_list\.txt.*download=True'):
        SEN12MS(tmp_path)


def test_a_list_of_something_else_is_named(copy: Path) -> None:
    (copy / 'train_list.txt').write_text('patch 1\n')
    with pytest.raises(ValueError, match=r"the line 'patch', which names no patch"):
        SEN12MS(copy)
    with pytest.raises(ArchiveError, match='its md5 is'):
        SEN12MS(copy, checksum=True)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'split': 'val'}, "must be train or test, got 'val'"),
        ({'bands': ('B8',)}, 'has no band B8; its bands are VV, VH, B01'),
        ({'bands': ('VV', 'VV')}, 'each band of SEN12MS once'),
        ({'seasons': ('autumn',)}, 'has no season autumn; its seasons are spring'),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    root: Path, arguments: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SEN12MS(root, **arguments)  # type: ignore[arg-type]


def test_a_label_of_no_class_is_named(copy: Path) -> None:
    dataset = SEN12MS(copy, seasons=['fall'])
    source = copy / 'ROIs1970_fall/s2_9/ROIs1970_fall_s2_9_p1.tif'
    shutil.copy(source, copy / 'ROIs1970_fall/lc_9/ROIs1970_fall_lc_9_p1.tif')
    with pytest.raises(ValueError, match=r'lc_9_p1\.tif has the value 100'):
        NonGeoScenes(dataset)[0]


def test_batches_and_unions(root: Path) -> None:
    dataset = SEN12MS(root, seasons=['spring'], bands=RGB)
    regions = [whole_scene(dataset.scenes, i) for i in dataset.labelled]
    loader = DataLoader(
        dataset, 2, sampler=GridSceneSampler(regions, 32), collate_fn=stack_samples
    )
    assert [len(batch['mask']) for batch in loader] == [2, 1]
    union = dataset | SEN12MS(root, split='test', bands=RGB)
    assert len(union) == 5


def test_a_plot_shows_the_optical_bands(root: Path) -> None:
    dataset = SEN12MS(root)
    figure = dataset.plot(dataset[whole_scene(dataset.scenes, 0)])
    assert [axis.get_title() for axis in figure.axes] == ['Image', 'Mask']
    plt.close(figure)
