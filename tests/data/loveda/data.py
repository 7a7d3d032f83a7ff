"""Fake images of LoveDA: a few of 32 x 32 pixels for each split and domain."""

from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image


def write(root: Path) -> None:
    """Write bright towns and dark countryside; masks are 0 to 7 by column."""
    numbers = count(8)
    mask = np.tile(np.arange(32, dtype=np.uint8) // 4, (32, 1))
    for split, length in {'Train': 6, 'Val': 2, 'Test': 1}.items():
        for domain, base in {'Rural': 50, 'Urban': 150}.items():
            folder = root / split / domain
            (folder / 'images_png').mkdir(parents=True)
            if split != 'Test':
                (folder / 'masks_png').mkdir()
            for number in [next(numbers) for _ in range(length)]:
                bands = [base + 10 * band + mask + number for band in range(3)]
                image = Image.fromarray(np.stack(bands, axis=-1).astype(np.uint8))
                image.save(folder / 'images_png' / f'{number}.png')
                if split != 'Test':
                    Image.fromarray(mask).save(folder / 'masks_png' / f'{number}.png')
