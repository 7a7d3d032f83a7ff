"""Fake data of Landslide4Sense, in both layouts."""

from pathlib import Path

import h5py
import numpy as np

SIZE = 128
COUNTS = {'Train': 12, 'Valid': 1, 'Test': 2}


def write(root: Path) -> None:
    """Write the layout of the competition: only the training split has masks.

    Band b of image i is b + i / 100, with NaN in the corner of the last band; a
    landslide is where the column is less than 8.
    """
    for split, count in COUNTS.items():
        masks = root / f'{split}Data' / 'mask' if split == 'Train' else None
        write_split(root / f'{split}Data' / 'img', masks, count)


def write_mirror(root: Path) -> None:
    """Write the layout of Hugging Face: every split has masks."""
    for split, name in (('Train', 'train'), ('Valid', 'validation'), ('Test', 'test')):
        write_split(root / 'images' / name, root / 'annotations' / name, COUNTS[split])


def write_split(images: Path, masks: Path | None, count: int) -> None:
    bands = np.arange(1, 15, dtype=np.float64)
    for i in range(1, count + 1):
        image = np.broadcast_to(bands + i / 100, (SIZE, SIZE, 14)).copy()
        image[0, 0, 13] = np.nan
        write_h5(images / f'image_{i}.h5', 'img', image)
        if masks is not None:
            mask = np.indices((SIZE, SIZE))[1] < 8
            write_h5(masks / f'mask_{i}.h5', 'mask', mask.astype(np.uint8))


def write_h5(path: Path, key: str, array: np.typing.NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, 'w') as file:
        file[key] = array
