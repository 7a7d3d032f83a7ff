"""Fake tiles of Vaihingen: 33 of different sizes, with world files alone."""

import warnings
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from torchgeo.datasets import Vaihingen2D

#: Red, green and blue of the classes in their order, and black.
COLORS = np.array(
    [
        (255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0),
        (255, 0, 0), (0, 0, 0),
    ],
    np.uint8,
)  # fmt: skip


def write(root: Path) -> None:
    """Write images with IR, R, G = 60, 50, 40 + class, and both labels."""
    truth = 'ISPRS_semantic_labeling_Vaihingen_ground_truth_'
    for number, name in enumerate(sorted(chain(*Vaihingen2D.splits.values()))):
        height, width = 36 + number % 3, 48 + number % 2
        full = np.minimum(np.arange(height) // 6, 5)[:, None] + np.zeros(width, int)
        eroded = np.where((np.arange(height) % 6 == 0)[:, None], 6, full)
        image = np.stack([value + full + number for value in (60, 50, 40)])
        save(root / 'top' / name, image)
        world = [0.09, 0, 0, -0.09, 496_000 + 5 * number, 5_420_000]
        path = (root / 'top' / name).with_suffix('.tfw')
        path.write_text('\n'.join(map(str, world)))
        save(root / f'{truth}COMPLETE' / name, COLORS[full].transpose(2, 0, 1))
        name = f'{name.removesuffix(".tif")}_noBoundary.tif'
        save(root / f'{truth}eroded_COMPLETE' / name, COLORS[eroded].transpose(2, 0, 1))


def save(path: Path, array: Any) -> None:
    """Write a tile that does not say where it lies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # That they lie nowhere is what they are here for.
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        with rasterio.open(
            path, 'w', driver='GTiff', count=3, height=array.shape[1],
            width=array.shape[2], dtype='uint8',
        ) as target:  # fmt: skip
            target.write(array.astype(np.uint8))
