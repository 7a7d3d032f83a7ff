"""Fake tiles of Potsdam: 38 of 48 x 40 pixels, in all three versions."""

import warnings
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from torchgeo.datasets import Potsdam2D

#: Red, green and blue of the classes in their order, and black.
COLORS = np.array(
    [
        (255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0),
        (255, 0, 0), (0, 0, 0),
    ],
    np.uint8,
)  # fmt: skip
HEIGHT, WIDTH = 40, 48


def classes() -> Any:
    """Stripes of eight columns, one for each class."""
    return np.tile(np.arange(WIDTH) // 8, (HEIGHT, 1))


def write(root: Path) -> None:
    """Write images with R, G, B, IR = 10, 20, 30, 40 + class, and both labels."""
    for number, tile in enumerate(sorted(chain(*Potsdam2D.splits.values()))):
        x, y = tile.split('_')[2:]
        place = Affine(
            0.05, 0, 3.66e5 + 0.05 * WIDTH * int(y),
            0, -0.05, 5.807e6 - 0.05 * HEIGHT * int(x),
        )  # fmt: skip
        full = classes()
        red, green, blue, infrared = (
            (value + full + number).astype(np.uint8) for value in (10, 20, 30, 40)
        )
        for folder, bands in {
            '2_Ortho_RGB': (red, green, blue),
            '3_Ortho_IRRG': (infrared, red, green),
            '4_Ortho_RGBIR': (red, green, blue, infrared),
        }.items():
            suffix = folder.rpartition('_')[2]
            save(root / folder / f'{tile}_{suffix}.tif', np.stack(bands), place)
        eroded = np.where(np.arange(WIDTH) % 8 == 0, 6, full)
        labels = root / '5_Labels_all'
        save(labels / f'{tile}_label.tif', picture(tile, full))
        labels = root / '5_Labels_all_noBoundary'
        save(labels / f'{tile}_label_noBoundary.tif', picture(tile, eroded))


def picture(tile: str, indices: Any) -> Any:
    """Colours of classes, as impure as they are in two of the published tiles."""
    colors = COLORS[indices].transpose(2, 0, 1)
    if tile.endswith('4_12'):
        noise = np.random.default_rng(0).integers(0, 40, colors.shape, np.uint8)
        return np.where(colors > 0, colors - noise, noise)
    if tile.endswith('6_7'):
        return np.where(indices == 4, np.array([252, 255, 0])[:, None, None], colors)
    return colors


def save(path: Path, array: Any, place: Affine | None = None) -> None:
    """Write a tile; labels do not say where they lie."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {'crs': 'EPSG:32633', 'transform': place} if place else {}
    with warnings.catch_warnings():
        # That they lie nowhere is what they are here for.
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        with rasterio.open(
            path, 'w', driver='GTiff', count=len(array), height=HEIGHT, width=WIDTH,
            dtype='uint8', **profile,
        ) as target:  # fmt: skip
            target.write(array.astype(np.uint8))
