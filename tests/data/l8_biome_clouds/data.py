"""Fake scenes of L8 Biome, in the layout of TorchGeo's archives."""

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

HEIGHT, WIDTH = 48, 64

#: Biome, scene and UTM zone; no two overlap on the ground.
SCENES = (
    ('barren', 'LC80420082013220LGN00', 32610),
    ('barren', 'LC80530022014156LGN00', 32611),
    ('forest', 'LC80200462014005LGN00', 32616),
    ('water', 'LC80210072014236LGN00', 32622),
    ('water', 'LC81910182013240LGN00', 32634),
)

#: Stored values from left to right, 16 columns each: shadow, clear, thin cloud, cloud.
COLUMNS = (64, 128, 192, 255)


def write(root: Path) -> None:
    """Write scenes with fill in the first 4 rows.

    A pixel has the value band x 1000 + row + 5000, or 0 in the fill. The first scene is
    clear below row 16.
    """
    for biome, scene, epsg in SCENES:
        folder = root / biome / scene
        folder.mkdir(parents=True)
        band, row, _ = np.indices((11, HEIGHT, WIDTH))
        image = np.asarray((band + 1) * 1000 + row + 5000, np.uint16)
        mask = np.tile(np.repeat(np.array(COLUMNS, np.uint8), 16), (HEIGHT, 1))
        if scene == SCENES[0][1]:
            mask[16:] = 128
        image[:, :4], mask[:4] = 0, 0
        _write(folder / f'{scene}.TIF', image, epsg)
        _write(folder / f'{scene}_fixedmask.TIF', mask[None], epsg)
        _write(folder / f'{scene}_BQA.TIF', image[:1], epsg)
        (folder / f'{scene}_MTL.txt').write_text('GROUP = L1_METADATA_FILE\n')


def _write(path: Path, bands: np.ndarray, epsg: int) -> None:
    with rasterio.open(
        path, 'w', driver='GTiff', width=WIDTH, height=HEIGHT, count=len(bands),
        dtype=bands.dtype, crs=f'EPSG:{epsg}',
        transform=Affine(30, 0, 339_885, 0, -30, 5_286_915), compress='lzw',
    ) as target:  # fmt: skip
        target.write(bands)
