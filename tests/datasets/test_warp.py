"""Warping follows GDAL's kernels, and nothing bleeds out of what is not valid."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from tiny import WriteRaster

from eoseg_datasets import SceneFolder
from eoseg_datasets.grid import Grid
from eoseg_datasets.scene import open_scene
from eoseg_datasets.warp import warp_image

#: Noise is the hardest image: neighbours differ by up to 255 grey levels.
NOISE = np.random.default_rng(0).integers(0, 256, (1, 300, 320), dtype=np.uint8)


def target_in(crs: str, scene: Path, res: float, size: int = 96) -> Grid:
    """A grid around the middle of a scene."""
    grid = open_scene(scene).grid
    left, bottom, right, top = grid.bounds
    to_target = Transformer.from_crs(grid.crs, crs, always_xy=True)
    x, y = to_target.transform((left + right) / 2, (bottom + top) / 2)
    transform = rasterio.transform.from_origin(
        x - size / 2 * res, y + size / 2 * res, res, res
    )
    return Grid(rasterio.crs.CRS.from_user_input(crs), transform, size, size)


@pytest.mark.parametrize('crs', ['EPSG:32633', 'EPSG:3035', 'EPSG:3857'])
@pytest.mark.parametrize('resampling', [Resampling.bilinear, Resampling.cubic])
def test_a_warped_image_is_gdals_to_half_a_grey_level(
    write_raster: WriteRaster, crs: str, resampling: Resampling
) -> None:
    path = write_raster('images/a.tif', NOISE)
    target = target_in(crs, path, 10)
    dataset = SceneFolder(path.parent, crs=crs, res=10, resampling=resampling)
    left, bottom, right, top = target.bounds
    sample = dataset[left:right:10, bottom:top:10]
    with (
        rasterio.open(path) as source,
        WarpedVRT(
            source,
            crs=crs,
            transform=target.transform,
            width=target.width,
            height=target.height,
            resampling=resampling,
            # Else the ratio of the windows chooses the kernel, which blurs.
            XSCALE=1,
            YSCALE=1,
        ) as warped,
    ):
        expected = warped.read(1).astype(np.float32)
    # GDAL rounds to whole levels and cuts off where a cubic kernel overshoots.
    ours = sample['image'][0].numpy().clip(0, 255)
    assert np.abs(ours - expected).max() <= 0.501


def test_masks_are_warped_to_the_nearest_pixel(write_raster: WriteRaster) -> None:
    path = write_raster('images/a.tif', NOISE)
    write_raster('labels/a.tif', np.where(NOISE[0] > 127, 200, 100).astype(np.uint8))
    target = target_in('EPSG:32633', path, 10)
    dataset = SceneFolder(path.parents[1], crs='EPSG:32633', res=10)
    left, bottom, right, top = target.bounds
    sample = dataset[left:right:10, bottom:top:10]
    assert sample['mask'].unique().tolist() == [0, 1]


@pytest.mark.parametrize('resampling', [Resampling.bilinear, Resampling.cubic])
def test_what_is_not_valid_does_not_bleed(
    write_raster: WriteRaster, resampling: Resampling
) -> None:
    path = write_raster('a.tif', NOISE)
    source, target = open_scene(path).grid, target_in('EPSG:32633', path, 10)
    image = np.full((1, *source.shape), 100, np.float32)
    valid = np.random.default_rng(1).random(source.shape) > 0.2
    image[:, ~valid] = -1e6
    warped, there = warp_image(image, valid, source, target, resampling)
    assert 0.3 < there.mean() < 1
    np.testing.assert_allclose(warped[0, there], 100, atol=1e-2)
    assert (warped[:, ~there] == 0).all()


def test_neighbouring_patches_are_warped_as_one(write_raster: WriteRaster) -> None:
    path = write_raster('images/a.tif', NOISE)
    dataset = SceneFolder(path.parent, crs='EPSG:32633', res=10)
    target = target_in('EPSG:32633', path, 10)
    left, bottom, right, top = target.bounds
    middle = left + 480
    whole = dataset[left:right:10, bottom:top:10]['image'][0].numpy()
    west = dataset[left:middle:10, bottom:top:10]['image'][0].numpy()
    east = dataset[middle:right:10, bottom:top:10]['image'][0].numpy()
    # GDAL interpolates coordinates within 1/8 pixel; a blur would differ by far more.
    np.testing.assert_allclose(np.hstack([west, east]), whole, atol=2)


def test_another_kernel_is_refused(write_raster: WriteRaster) -> None:
    path = write_raster('images/a.tif', NOISE)
    with pytest.raises(ValueError, match=r'Resampling\.bilinear or Resampling\.cubic'):
        SceneFolder(path.parent, resampling=Resampling.nearest)
