"""Scenes of one field, predicted and mosaicked, are the field predicted whole."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from earth import EAST, UTM32, WEST, assemble, plane, positions, share_of_one, write
from scipy.ndimage import binary_erosion
from torch import Tensor
from torch.nn.functional import avg_pool2d

from eoseg.inference.blending import BandBlender
from eoseg.inference.map_source import MapSource
from eoseg.inference.mosaic import Block
from eoseg.inference.scene import Predict, predict_scene
from eoseg.inference.target import target_grid
from eoseg.inference.windows import WindowGrid
from eoseg_datasets.grid import Grid
from eoseg_datasets.scene import open_scene


def pixelwise(images: Tensor) -> Tensor:
    """Brightness of a pixel as the probability of class 1."""
    share = (images[:, :1] - 1000) / 4000
    return torch.cat([1 - share, share], dim=1)


def around(images: Tensor) -> Tensor:
    """Brightness around a pixel: at the edge of a window the model sees one side only."""
    return avg_pool2d(
        pixelwise(images), kernel_size=3, stride=1, padding=1, count_include_pad=False
    )


def predicted(folder: Path, name: str, grid: Grid, model: Predict) -> MapSource:
    """A scene that sees the field, and its map as predict writes it."""
    image = np.rint(1000 + 4000 * plane(*positions(grid))).astype(np.uint16)
    path = folder / f'{name}.tif'
    with rasterio.open(
        path, 'w', driver='GTiff', dtype='uint16', count=1, width=grid.width,
        height=grid.height, crs=grid.crs, transform=grid.transform,
    ) as target:  # fmt: skip
        target.write(image, 1)
    windows = WindowGrid(grid.height, grid.width, size=48, overlap=24)
    strips = predict_scene(open_scene(path), model, BandBlender(2, windows))
    shares = torch.cat([strip.probabilities for strip in strips], dim=1)
    stored = (254 * shares).round().to(torch.uint8).numpy()
    return write(folder / f'{name}_probabilities.tif', grid, stored)


def mosaics(folder: Path, model: Predict) -> tuple[Block, Block]:
    """Of scenes in two zones, and of one scene over both, onto one grid."""
    target = target_grid([WEST, EAST], UTM32)
    whole = Grid(
        UTM32,
        target.transform @ Affine.translation(-15, -15),
        target.width + 30,
        target.height + 30,
    )
    parts = [
        predicted(folder, name, grid, model)
        for name, grid in [('west', WEST), ('east', EAST)]
    ]
    return (
        assemble(parts, target, feather=250),
        assemble([predicted(folder, 'whole', whole, model)], target),
    )


@pytest.mark.parametrize('model', [pixelwise, around])
def test_what_is_predicted_in_parts_is_what_is_predicted_whole(
    tmp_path: Path, model: Predict
) -> None:
    parts, whole = mosaics(tmp_path, model)
    # At the outer edge, where no other scene helps, the model sees less.
    inside = binary_erosion(parts.source >= 0, iterations=2)
    assert inside.sum() > 9000
    assert set(np.unique(parts.source[inside])) == {0, 1}
    difference = (share_of_one(parts) - share_of_one(whole))[inside]
    # 0.02 px are 0.0005 of the field; storing both may take 0.004, interpolating one of
    # them bends it by up to 0.002.
    assert np.sqrt((difference**2).mean()) < 0.002
    assert np.quantile(np.abs(difference), 0.99) < 0.005
    sure = np.abs(share_of_one(whole) - 0.5) > 0.007
    assert (parts.classes == whole.classes)[inside & sure].all()


def test_the_seam_is_no_steeper_than_elsewhere(tmp_path: Path) -> None:
    parts, whole = mosaics(tmp_path, pixelwise)
    inside = binary_erosion(parts.source >= 0, iterations=2)
    between = inside[:, 1:] & inside[:, :-1]
    seam = between & (parts.source[:, 1:] != parts.source[:, :-1])
    assert seam.sum() > 50
    steps, expected = (np.abs(np.diff(share_of_one(x))) for x in (parts, whole))
    across, elsewhere = (
        steps[at].sum() / expected[at].sum() for at in (seam, between & ~seam)
    )
    assert across == pytest.approx(elsewhere, rel=0.01)
