"""Every folder of real scenes opens, or says why a file does not."""

from pathlib import Path

import pytest
import torch
from rasterio.windows import Window
from torchgeo.datasets import DatasetNotFoundError

from eoseg_datasets import SceneFolder, ScenePatch
from eoseg_datasets.index import scene_table

pytestmark = pytest.mark.real_data


@pytest.mark.parametrize(
    'name, scenes, bands',
    [
        ('scenes_drone_aerial', 3, 3),  # the fourth band is alpha
        ('scenes_landsat8_montreal_overlap', 3, 3),
        ('scenes_landsat_misc', 4, 1),  # Landsat 5 and 7, a DEM: B1 is what all have
        ('scenes_landsat_peru_timeseries', 4, 4),
        ('scenes_naip_northdakota', 3, 4),
        ('scenes_sentinel2', 1, 5),
        ('scenes_zurich_25tiles', 26, 3),  # the tree masks have one band
        ('sar_optical_sen1floods11_spain', 1, 13),
        ('sar_optical_spacenet6_rotterdam', 2, 4),
        ('pairs_cloud_l8biome_rgb', 39, 3),
        ('pairs_landslide_sichuan', 10, 3),
        ('pairs_glacier_everest', 1, 3),
    ],
)
def test_scenes_of_a_folder_are_read(
    data: Path, name: str, scenes: int, bands: int
) -> None:
    dataset = SceneFolder(data / name)
    assert (len(dataset.scenes), len(dataset.bands)) == (scenes, bands)
    assert all(item.reason for item in dataset.rejected)
    for i, scene in enumerate(dataset.scenes):
        height, width = scene.grid.shape
        patch = ScenePatch(i, Window(width // 2 - 32, height // 2 - 32, 64, 64))
        sample = dataset[patch]
        assert sample['image'].shape == (bands, 64, 64)
        assert torch.isfinite(sample['image']).all()
        assert sample['valid'].any()
        assert (sample['image'][:, ~sample['valid']] == 0).all()


@pytest.mark.parametrize(
    'name, reason',
    [
        ('sar_optical_spacenet6_rotterdam', 'complex; convert them to amplitude'),
        ('scenes_zurich_25tiles', 'has no band'),
    ],
)
def test_what_is_not_read_has_a_reason(data: Path, name: str, reason: str) -> None:
    rejected = SceneFolder(data / name).rejected
    assert any(reason in item.reason for item in rejected)


def test_arrays_that_are_no_rasters_are_not_found_but_listed(data: Path) -> None:
    folder = data / 'pairs_cloud_dlr_multispectral'
    with pytest.raises(DatasetNotFoundError, match=r'landsat5\.npz: not a raster'):
        SceneFolder(folder)
    table = scene_table(folder)
    assert set(table['reason']) == {'not a raster'}
    assert {'landsat5.npz', 'sentinel2.npz'} <= set(table['path'])
