"""Fake L8 Biome cloud patches, in the layout of the authors."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 32

#: Scenes of each split; one of them is in two.
SCENES = {
    'train': (
        'barren_LC80420082013220LGN00',
        'forest_LC80200462014005LGN00',
        'grass_crops_LC81510262014139LGN00',
        'water_LC80210072014236LGN00',
    ),
    'val': ('water_LC80210072014236LGN00', 'urban_LC80460282014171LGN00'),
    'test': ('snow_ice_LC81910182013240LGN00',),
}


def write(root: Path) -> None:
    """Write two patches of each scene; the class of a pixel is its row modulo 4."""
    for number, (split, scenes) in enumerate(SCENES.items()):
        for folder in ('img_dir', 'ann_dir'):
            (root / 'cloud' / folder / split).mkdir(parents=True)
        for scene in scenes:
            for col in (512 * number, 512 * number + 1536):
                row_, col_ = np.indices((SIZE, SIZE), np.uint8)
                picture = np.stack([row_, col_, row_ + col_], axis=-1)
                name = f'{scene}_patch_0_{col}.png'
                Image.fromarray(picture).save(root / 'cloud/img_dir' / split / name)
                Image.fromarray(row_ % 4).save(root / 'cloud/ann_dir' / split / name)
