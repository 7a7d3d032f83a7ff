"""One scene: read, predict, blend; strip by strip."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor

from eoseg_datasets.scene import Scene

from .blending import BandBlender
from .windows import WindowGrid


@dataclass(frozen=True)
class Strip:
    """Finished rows of a scene, over its whole width."""

    #: First row.
    row_off: int
    #: Class probabilities, of shape (K, rows, width); 0 where not valid.
    probabilities: NDArray[np.float32]
    #: Whether a pixel holds a measurement, of shape (rows, width).
    valid: NDArray[np.bool_]


def predict_scene(
    scene: Scene,
    predict: Callable[[Tensor], Tensor],
    windows: WindowGrid,
    blender: BandBlender,
    batch_size: int = 8,
) -> Iterator[Strip]:
    """Class probabilities of a scene, from top to bottom.

    Memory grows with the width of the scene, not with its height: one row of windows is
    read, and one row of windows of probabilities is held.

    Args:
        scene: What to map.
        predict: From images of shape (B, C, size, size), NaN where a pixel is not valid,
            to probabilities of shape (B, K, size, size).
        windows: Windows that cover the scene.
        blender: Takes the windows.
        batch_size: Windows per call of *predict*.

    Yields:
        Strips that together are the scene.

    Raises:
        RasterioError: If the scene cannot be read.
    """
    top = 0
    for row, row_off in enumerate(windows.rows.offsets):
        image, valid = _read_row(scene, row_off, windows)
        columns = [
            col for col in range(len(windows.cols.offsets)) if _any(valid, col, windows)
        ]
        for start in range(0, len(columns), batch_size):
            batch = columns[start : start + batch_size]
            patches = torch.stack([_patch(image, col, windows) for col in batch])
            for col, probabilities in zip(
                batch, predict(patches).cpu().numpy(), strict=True
            ):
                blender.add(probabilities, row, col)
        blended = blender.finish(row)
        there = valid[top - row_off :][: blended.shape[1], : windows.width]
        yield Strip(top, blended * there, there)
        top += blended.shape[1]


def _read_row(
    scene: Scene, row_off: int, windows: WindowGrid
) -> tuple[Tensor, NDArray[np.bool_]]:
    """Pixels of a row of windows, NaN where not valid, and where they are."""
    width = max(windows.width, windows.size)
    image, valid = scene.read(Window(0, row_off, width, windows.size))
    image[:, ~valid] = np.nan
    return torch.from_numpy(image), valid


def _patch(image: Tensor, col: int, windows: WindowGrid) -> Tensor:
    left = windows.cols.offsets[col]
    return image[:, :, left : left + windows.size]


def _any(valid: NDArray[np.bool_], col: int, windows: WindowGrid) -> bool:
    """Whether a window has a valid pixel; where none is, there is nothing to map."""
    left = windows.cols.offsets[col]
    return bool(valid[:, left : left + windows.size].any())
