"""Fake data of DFC2020, in the layout of Copernicus-Bench."""

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

SIZE = 32
SPLITS = {'train': ('test', 0, 4), 'val': ('test', 4, 6), 'test': ('validation', 0, 2)}


def write(root: Path) -> None:
    """Write patches whose numbers say where they are.

    Band b of Sentinel-2 has 100 b + number of the patch, VV has -10 and VH -20. The
    class in the file is the column modulo 11.
    """
    folder = root / 'dfc2020_s1s2'
    folder.mkdir(parents=True)
    col = np.indices((SIZE, SIZE))[1]
    for split, (rois, first, last) in SPLITS.items():
        files = [f'ROIs0000_{rois}_dfc_0_p{i}.tif' for i in range(first, last)]
        table = folder / f'dfc-{split}-new.csv'
        table.write_text(''.join(f'{file}\n' for file in files))
        for i, file in enumerate(files, first):
            s1 = np.stack([np.full((SIZE, SIZE), value) for value in (-10.0, -20.0)])
            s2 = np.stack([np.full((SIZE, SIZE), 100 * b + i) for b in range(1, 14)])
            place = Affine(10, 0, 400_000 + 10 * SIZE * i, 0, -10, 5_000_000)
            for source, array in (
                ('s1', s1),
                ('s2', s2.astype(np.uint16)),
                ('dfc', (col % 11)[None].astype(np.uint8)),
            ):
                path = folder / source / file.replace('dfc', source)
                path.parent.mkdir(exist_ok=True)
                with rasterio.open(
                    path, 'w', driver='GTiff', crs='EPSG:32633', transform=place,
                    count=len(array), height=SIZE, width=SIZE, dtype=array.dtype,
                ) as target:  # fmt: skip
                    target.write(array)
