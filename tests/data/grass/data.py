"""Fake data of Grass, in the layout of the authors."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 32
IDS = {'train': (81, 102, 446, 447, 1657, 1660, 1978), 'val': (7, 90)}
PALETTE = [185, 101, 71, 248, 202, 155, 211, 232, 158, 138, 191, 104, 92, 144, 77]


def write(root: Path) -> None:
    """Write pictures whose red is the number of the picture and whose green is the row.

    The class of a pixel is its column modulo 5.
    """
    for split, ids in IDS.items():
        for folder in ('img_dir', 'ann_dir'):
            (root / 'grass' / folder / split).mkdir(parents=True)
        for number in ids:
            row, col = np.indices((SIZE, SIZE), np.uint8)
            picture = np.stack([np.full_like(row, number % 251), row, col], axis=-1)
            image = root / 'grass' / 'img_dir' / split / f'{number}.tif'
            Image.fromarray(picture).save(image)
            label = Image.fromarray(col % 5)
            label.putpalette(PALETTE)
            label.save(root / 'grass' / 'ann_dir' / split / f'{number}.png')
