"""Fake data of SEN12MS, in the layout of the authors."""

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

SIZE = 32
TRAIN = (
    'ROIs1158_spring_s2_1_p30.tif',
    'ROIs1158_spring_s2_1_p31.tif',
    'ROIs1158_spring_s2_8_p30.tif',
    'ROIs1868_summer_s2_146_p202.tif',
    'ROIs1868_summer_s2_146_p203.tif',
    'ROIs1970_fall_s2_9_p1.tif',
    'ROIs2017_winter_s2_2_p7.tif',
)
TEST = ('ROIs1868_summer_s2_4_p12.tif', 'ROIs2017_winter_s2_3_p8.tif')


def write(root: Path) -> None:
    """Write patches whose numbers say where they are.

    Band b of Sentinel-2 has 100 b + column, VV has -number of the patch and VH -row.
    The land cover is 1 + column modulo 17, with 0, 254 and 255 in the first row.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name, files in (('train', TRAIN), ('test', TEST)):
        (root / f'{name}_list.txt').write_text(''.join(f'{file}\n' for file in files))
        for file in files:
            _write_patch(root, file)


def _write_patch(root: Path, file: str) -> None:
    rois, season, _, scene, patch = file.removesuffix('.tif').split('_')
    number = int(patch[1:])
    row, col = np.indices((SIZE, SIZE))
    s1 = np.stack([np.full((SIZE, SIZE), -number), -row]).astype(np.float32)
    s1[:, 2, 3] = np.nan
    if patch == 'p202':
        s1[:] = np.nan
    s2 = np.stack([100 * band + col for band in range(1, 14)]).astype(np.uint16)
    lc = np.stack([1 + col % 17] * 4).astype(np.uint16)
    lc[0, 0, :3] = 0, 254, 255
    # Neighbours share half of their ground, as those of the authors do.
    crs = CRS.from_epsg(32630 + int(scene) % 20)
    place = Affine(10, 0, 500_000 + 5 * SIZE * number, 0, -10, 4_000_000)
    for source, array in (('s1', s1), ('s2', s2), ('lc', lc)):
        folder = root / f'{rois}_{season}' / f'{source}_{scene}'
        path = folder / f'{rois}_{season}_{source}_{scene}_{patch}.tif'
        write_tif(path, array, crs, place)


def write_tif(
    path: Path, array: NDArray[np.generic], crs: CRS | None, place: Affine
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, 'w', driver='GTiff', crs=crs, transform=place, count=len(array),
        height=array.shape[1], width=array.shape[2], dtype=array.dtype,
    ) as target:  # fmt: skip
        target.write(array)
