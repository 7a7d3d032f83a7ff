"""A folder of scenes is a GeoDataset of TorchGeo, and reads native pixels."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from affine import Affine
from pyproj import Transformer
from rasterio.windows import Window
from tiny import WriteRaster, ramp
from torch.utils.data import DataLoader
from torchgeo.datasets import DatasetNotFoundError, GeoDataset

from eoseg_datasets import (
    GridSceneSampler,
    RandomSceneSampler,
    SceneFolder,
    ScenePatch,
    stack_samples,
)
from eoseg_datasets.splits import source_scene, split_scenes
from eoseg_datasets.statistics import band_statistics

#: The grid of write_raster, and a place in the next UTM zone some kilometres east of it.
EAST = Affine(10, 0, 300_005, 0, -10, 5_300_003)


@pytest.fixture
def root(tmp_path: Path, write_raster: WriteRaster) -> Path:
    """Two scenes in two zones, with labels."""
    write_raster('images/west.tif', ramp(2, 40, 50), nodata=0)
    write_raster('labels/west.tif', (ramp(1, 40, 50)[0] % 3).astype(np.uint8))
    write_raster('images/east.tif', ramp(2, 30, 60), 'EPSG:32633', EAST, nodata=0)
    write_raster('labels/east.tif', np.ones((30, 60), np.uint8), 'EPSG:32633', EAST)
    return tmp_path


def test_a_patch_is_native_pixels_with_labels_and_place(root: Path) -> None:
    dataset = SceneFolder(root)
    east = [scene.name for scene in dataset.scenes].index('east')
    sample = dataset[ScenePatch(east, Window(4, 3, 8, 6))]
    np.testing.assert_array_equal(sample['image'], ramp(2, 30, 60)[:, 3:9, 4:12])
    assert sample['image'].dtype == torch.float32
    assert sample['mask'].dtype == torch.int64
    assert sample['mask'].unique().tolist() == [1]
    assert sample['valid'].dtype == torch.bool
    grid = dataset.grid_of(sample)
    assert grid.crs.to_epsg() == 32633
    assert grid.transform == EAST @ Affine.translation(4, 3)
    assert dataset.scenes[sample['scene'][0]].path.name == 'east.tif'


def test_what_a_patch_has_beyond_its_scene_has_no_label(root: Path) -> None:
    dataset = SceneFolder(root)
    west = [scene.name for scene in dataset.scenes].index('west')
    sample = dataset[ScenePatch(west, Window(-2, 35, 8, 8))]
    outside = ~sample['valid']
    assert outside.sum() == 64 - 6 * 5
    assert (sample['mask'][outside] == 255).all()
    assert (sample['image'][:, outside] == 0).all()
    assert (sample['mask'][sample['valid']] < 3).all()


def test_a_query_of_torchgeo_reads_the_same_native_pixels(root: Path) -> None:
    dataset = SceneFolder(root)
    assert isinstance(dataset, GeoDataset)
    assert dataset.crs.to_epsg() == 32633  # of two alike the one that comes first
    sample = dataset[300_045:300_125, 5_299_913:5_299_973]
    np.testing.assert_array_equal(sample['image'], ramp(2, 30, 60)[:, 3:9, 4:12])


def test_a_query_in_another_zone_reads_that_scene_unwarped(root: Path) -> None:
    dataset = SceneFolder(root)
    to_index = Transformer.from_crs('EPSG:32632', dataset.crs, always_xy=True)
    x, y = to_index.transform(600_000 + 10 * 20, 5_300_000 - 10 * 15)
    sample = dataset[x - 50 : x + 50 : 10, y - 40 : y + 40 : 10]
    assert dataset.grid_of(sample).crs.to_epsg() == 32632
    np.testing.assert_array_equal(sample['image'], ramp(2, 40, 50)[:, 11:19, 15:25])


def test_asked_for_one_crs_it_warps_images_smoothly_and_masks_to_the_nearest(
    root: Path,
) -> None:
    dataset = SceneFolder(root, crs='EPSG:32633')
    to_index = Transformer.from_crs('EPSG:32632', dataset.crs, always_xy=True)
    x, y = to_index.transform(600_000 + 10 * 20.5, 5_300_000 - 10 * 15.5)
    sample = dataset[x - 45 : x + 45 : 10, y - 45 : y + 45 : 10]
    assert dataset.grid_of(sample).crs.to_epsg() == 32633
    assert sample['image'][0, 4, 4] == pytest.approx(15 * 100 + 20 + 1, abs=15)
    assert set(sample['mask'].unique().tolist()) <= {0, 1, 2}


def test_a_query_beside_all_scenes_is_an_index_error(root: Path) -> None:
    with pytest.raises(IndexError, match='touches no scene'):
        SceneFolder(root)[0:100, 0:100]


def test_intersection_puts_both_on_one_grid(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / 'images', tmp_path / 'copy')
    both = SceneFolder(root / 'images') & SceneFolder(tmp_path / 'copy')
    sample = both[300_045:300_125, 5_299_913:5_299_973]
    assert sample['image'].shape == (4, 6, 8)
    np.testing.assert_array_equal(sample['image'][:2], sample['image'][2:])


def test_an_intersection_puts_masks_on_the_pixels_of_another_zone(root: Path) -> None:
    # The mask is in the zone of the index, which the west scene is not.
    masks = SceneFolder(root / 'labels', crs='EPSG:32633')
    both = SceneFolder(root / 'images') & masks
    alone = SceneFolder(root / 'images', crs='EPSG:32633')
    to_index = Transformer.from_crs('EPSG:32632', 'EPSG:32633', always_xy=True)
    x, y = to_index.transform(600_000 + 10 * 25, 5_300_000 - 10 * 20)
    query = (slice(x - 80, x + 80, 10), slice(y - 80, y + 80, 10))
    sample, expected = both[query], alone[query]
    np.testing.assert_array_equal(sample['image'][:2], expected['image'])


def test_what_one_of_two_lacks_is_not_valid_in_both(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    holes = ramp(1, 20, 20)
    holes[0, :, :5] = 0
    write_raster('a/x.tif', ramp(1, 20, 20), nodata=0)
    write_raster('b/x.tif', holes, nodata=0)
    both = SceneFolder(tmp_path / 'a') & SceneFolder(tmp_path / 'b')
    sample = both[600_000:600_200, 5_299_800:5_300_000]
    assert sample['image'].shape == (2, 20, 20)
    assert sample['valid'].shape == (20, 20)
    assert not sample['valid'][:, :5].any() and sample['valid'][:, 5:].all()


def test_a_union_fills_what_the_first_lacks_with_labels(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    east = Affine(10, 0, 600_100, 0, -10, 5_300_000)
    for name, level, place in [('a', -12, None), ('b', -7, east)]:
        image = np.full((1, 20, 10), level, np.int16)
        write_raster(f'{name}/images/x.tif', image, transform=place)
        labels = np.full((20, 10), name == 'b', np.uint8)
        labels[0] = 1 - labels[0]
        write_raster(f'{name}/labels/x.tif', labels, transform=place)
    either = SceneFolder(tmp_path / 'a') | SceneFolder(tmp_path / 'b')
    sample = either[600_000:600_200, 5_299_800:5_300_000]
    # The larger of two numbers would be the 0 outside of the other scene.
    assert sample['image'].unique().tolist() == [-12, -7]
    assert sample['valid'].all()
    assert sample['mask'][5].tolist() == [0] * 10 + [1] * 10


def test_joining_data_sets_leaves_them_as_they_were(root: Path) -> None:
    dataset = SceneFolder(root)
    to_index = Transformer.from_crs('EPSG:32632', dataset.crs, always_xy=True)
    x, y = to_index.transform(600_000 + 10 * 20, 5_300_000 - 10 * 15)
    assert dataset & SceneFolder(root)
    sample = dataset[x - 50 : x + 50 : 10, y - 40 : y + 40 : 10]
    assert dataset.grid_of(sample).crs.to_epsg() == 32632


def test_torchgeos_own_sampler_works(root: Path) -> None:
    from torchgeo import samplers

    dataset = SceneFolder(root / 'images')
    if hasattr(samplers, 'RandomPatchSampler'):  # since 0.10
        sampler = samplers.RandomPatchSampler(dataset, size=16, length=4)
    else:
        sampler = samplers.RandomGeoSampler(dataset, 16, length=4)
    loader = DataLoader(
        dataset, sampler=sampler, batch_size=2, collate_fn=stack_samples
    )
    batches = list(loader)
    assert [tuple(batch['image'].shape) for batch in batches] == [(2, 2, 16, 16)] * 2


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_pictures_that_lie_nowhere_do_not_overlap(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    for i in range(5):
        write_raster(f'{i}.tif', ramp(1, 8, 9), crs=None, transform=Affine.identity())
    dataset = SceneFolder(tmp_path)
    assert len(dataset) == 5
    shapes = list(dataset.index.geometry)
    assert not any(a.intersects(b) for i, a in enumerate(shapes) for b in shapes[:i])
    left, bottom, right, top = shapes[3].bounds
    sample = dataset[left:right, bottom:top]
    np.testing.assert_array_equal(sample['image'], ramp(1, 8, 9))


def test_scenes_with_other_bands_are_refused_with_a_reason(
    root: Path, write_raster: WriteRaster
) -> None:
    write_raster('images/grey.tif', ramp(1, 9, 9))
    dataset = SceneFolder(root)
    assert len(dataset) == 2
    (grey,) = [item for item in dataset.rejected if item.path.stem == 'grey']
    assert 'has no band B2' in grey.reason


def test_an_empty_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError):
        SceneFolder(tmp_path)


def test_files_that_are_no_scenes_are_listed_with_their_reasons(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f'landsat{number}.npz').touch()
    (tmp_path / 'z.tif').write_bytes(b'')
    with pytest.raises(DatasetNotFoundError) as caught:
        SceneFolder(tmp_path)
    head, broken, *skipped, rest = str(caught.value).splitlines()
    assert head == f'No scene in {tmp_path} can be read:'
    assert broken.endswith('z.tif: the file is empty')
    assert len(skipped) == 9 and skipped[0].endswith('landsat0.npz: not a raster')
    assert rest.strip() == 'and 3 more'


def test_plot_shows_image_mask_and_prediction(root: Path) -> None:
    dataset = SceneFolder(root)
    sample = dataset[ScenePatch(0, Window(0, 0, 16, 16))]
    figure = dataset.plot({**sample, 'prediction': sample['mask']}, suptitle='Scene')
    assert [axis.get_title() for axis in figure.axes] == ['Image', 'Mask', 'Prediction']


def test_random_patches_stay_in_their_region_and_repeat_with_the_seed() -> None:
    region = ScenePatch(0, Window(10, 20, 50, 40))
    first, second = (list(RandomSceneSampler([region], 16, 30, seed=3)) for _ in '12')
    assert first == second
    assert first != list(RandomSceneSampler([region], 16, 30, seed=4))
    for _, window, _ in first:
        assert 10 <= window.col_off <= 60 - 16
        assert 20 <= window.row_off <= 60 - 16


def test_a_region_smaller_than_a_patch_is_not_dropped() -> None:
    region = ScenePatch(0, Window(0, 0, 5, 40))
    assert len(list(RandomSceneSampler([region], 16, 3))) == 3
    (only,) = list(GridSceneSampler([ScenePatch(0, Window(0, 0, 5, 5))], 16))
    assert only.window == Window(0, 0, 16, 16)


def test_grid_patches_cover_a_region_and_do_not_leave_it() -> None:
    covered = np.zeros((70, 90), int)
    for _, window, _ in GridSceneSampler([ScenePatch(0, Window(10, 20, 50, 37))], 16):
        rows, cols = window.toslices()
        covered[rows, cols] += 1
    assert (covered[20:57, 10:60] > 0).all()
    covered[20:57, 10:60] = 0
    assert not covered.any()


def test_pictures_of_one_scene_stay_together(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    for row, scene in enumerate('abcdef'):
        for patch in range(3):
            place = Affine(10, 0, 600_000 + 80 * patch, 0, -10, 5_300_000 - 80 * row)
            path = f'images/{scene}_patch_{patch}.tif'
            write_raster(path, ramp(1, 8, 8), transform=place)
    scenes = SceneFolder(tmp_path).scenes
    split = split_scenes(scenes, range(18), patch_size=8)
    parts = [
        {source_scene(scenes[region.scene].name) for region in part}
        for part in (split.train, split.val, split.test)
    ]
    assert [len(part) for part in parts] == [4, 1, 1]
    assert len(set.union(*parts)) == 6


def test_one_scene_is_divided_into_blocks_that_share_no_pixel(root: Path) -> None:
    scenes = SceneFolder(root).scenes
    split = split_scenes(scenes, [0, 1], patch_size=8)
    counts = [np.zeros(scene.grid.shape, int) for scene in scenes]
    for region in (*split.train, *split.val, *split.test):
        rows, cols = region.window.toslices()
        counts[region.scene][rows, cols] += 1
        assert min(region.window.height, region.window.width) >= 8
    assert max(count.max() for count in counts) == 1
    assert split.val and split.test and len(split.train) > len(split.val)


def test_a_scene_too_small_to_divide_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r'--data\.patch_size of at most 28'):
        split_scenes(SceneFolder(root).scenes, [0, 1], patch_size=40)


def test_statistics_are_those_of_valid_pixels(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    image = ramp(2, 20, 30)
    image[:, :, :7] = 0
    write_raster('a.tif', image, nodata=0)
    dataset = SceneFolder(tmp_path)
    mean, std = band_statistics(
        dataset.scenes, [ScenePatch(0, Window(0, 0, 30, 20))], size=8
    )
    inside = image[:, :, 7:].reshape(2, -1).astype(float)
    np.testing.assert_allclose(mean, inside.mean(axis=1))
    np.testing.assert_allclose(std, inside.std(axis=1))


def test_a_grid_sampler_labels_each_pixel_once(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    write_raster('images/a.tif', ramp(1, 70, 70))
    write_raster('labels/a.tif', (ramp(1, 70, 70)[0] % 2).astype(np.uint8))
    dataset = SceneFolder(tmp_path)
    patches = list(GridSceneSampler([ScenePatch(0, Window(0, 0, 70, 70))], 32))
    samples = [dataset[patch] for patch in patches]
    assert sum(int((sample['mask'] != 255).sum()) for sample in samples) == 4900
    assert all(sample['valid'].all() for sample in samples)


def test_each_epoch_is_drawn_anew_and_can_be_gone_back_to() -> None:
    sampler = RandomSceneSampler([ScenePatch(0, Window(0, 0, 99, 99))], 16, 20, seed=3)
    epochs = [list(sampler) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    resumed = RandomSceneSampler([ScenePatch(0, Window(0, 0, 99, 99))], 16, 20, seed=3)
    resumed.set_epoch(2)
    assert list(resumed) == epochs[2]


def test_labels_beside_scenes_in_the_root_are_no_scenes(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    write_raster('a.tif', ramp(1, 8, 8))
    label = write_raster('labels/a.tif', np.eye(8, dtype=np.uint8))
    dataset = SceneFolder(tmp_path)
    assert [scene.name for scene in dataset.scenes] == ['a']
    assert dataset.label_paths == [label]


def test_two_files_of_labels_of_one_scene_are_refused(
    root: Path, write_raster: WriteRaster
) -> None:
    write_raster('labels/west.tiff', np.ones((40, 50), np.uint8))
    with pytest.raises(ValueError, match=r'west\.tif and .*west\.tiff; keep one'):
        SceneFolder(root)


def test_a_stac_item_is_no_label(root: Path) -> None:
    (root / 'labels' / 'west.json').write_text(
        '{"type": "Feature", "stac_version": "1.0.0", "geometry": null}'
    )
    paths = [path for path in SceneFolder(root).label_paths if path]
    assert sorted(path.name for path in paths) == ['east.tif', 'west.tif']
