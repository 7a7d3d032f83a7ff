"""Fake data of the Bijie landslides, in the layout of the authors."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {
    'df001': (24, 20), 'df002': (13, 31), 'df003': (16, 16), 'df010': (20, 24),
    'df011': (18, 18), 'df012': (21, 17),
}  # fmt: skip


def write(root: Path) -> None:
    """Write images whose red is the row, green the column and blue the number.

    A landslide is where the row is less than 4; the elevation is 100 + row.
    """
    folder = root / 'Bijie-landslide-dataset'
    for name, size in SIZES.items():
        _write_image(folder / 'landslide', name, size)
        row = np.indices(size)[0]
        mask = np.where(row < 4, 255, 0).astype(np.uint8)
        _save(mask, folder / 'landslide' / 'mask' / f'{name}.png')
    # Names of the other places repeat those of landslides.
    for name in ('df001', 'no002'):
        _write_image(folder / 'non-landslide', name, (15, 22))


def _write_image(folder: Path, name: str, size: tuple[int, int]) -> None:
    row, col = np.indices(size, np.uint8)
    blue = np.full_like(row, int(name[2:]))
    _save(np.stack([row, col, blue], axis=-1), folder / 'image' / f'{name}.png')
    _save(100 + row, folder / 'dem' / f'{name}.png')


def _save(array: np.typing.NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
