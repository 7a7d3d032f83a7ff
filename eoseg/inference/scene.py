"""One scene: read, predict, blend; from top to bottom."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor

from eoseg_datasets.scene import Scene

from .blending import BandBlender
from .reader import read_rows
from .ring import RowRing

#: From images of shape (B, C, size, size), NaN where a pixel is not valid, to class
#: probabilities of shape (B, K, size, size).
Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Strip:
    """Finished rows of a scene, over its width or a part of it."""

    #: Which pixels of the scene.
    window: Window
    #: Class probabilities, of shape (K, rows, width), on the device of the blender; what
    #: they are where a pixel is not valid means nothing.
    probabilities: Tensor
    #: Whether a pixel holds a measurement, of shape (rows, width).
    valid: NDArray[np.bool_]


def predict_scene(
    scene: Scene,
    predict: Predict,
    blender: BandBlender,
    batch_size: int = 8,
    threads: int = 1,
) -> Iterator[Strip]:
    """Class probabilities of a scene, from top to bottom.

    Memory grows with the width of what the blender gives out, not with its height: a few
    rows of blocks are read ahead, and one row of windows of probabilities is held. A batch
    goes on into the next row of windows; a window without a valid pixel is left out, and
    so is one that is not wanted: what only such windows see has no meaning.

    Args:
        scene: What to map.
        predict: Computes probabilities; on the device of the blender, where it is handed
            the images. They are overwritten after it has returned.
        blender: Knows the windows and adds them up.
        batch_size: Most windows per call of *predict*.
        threads: How many rows of blocks are read at a time.

    Yields:
        Strips that together are what the blender gives out.

    Raises:
        RasterioError: If the scene cannot be read.
    """
    seen = _seen(blender)
    rows = read_rows(scene, seen, blender.device, threads)
    ring = RowRing(rows, scene.bands, int(seen.col_off))
    shape = batch_size, len(scene.bands), blender.windows.size, blender.windows.size
    for images, places in _batches(ring, blender, shape):
        for (row, col), probabilities in zip(places, predict(images), strict=True):
            yield from _finished(ring, blender, row)
            blender.add(probabilities, col)
    yield from _finished(ring, blender, blender.rows.stop)


def _seen(blender: BandBlender) -> Window:
    """What the windows of a blender see of the scene."""
    windows = blender.windows
    (top, bottom), (left, right) = (
        (
            axis.offsets[at.start],
            min(axis.offsets[at.stop - 1] + axis.size, axis.length),
        )
        for axis, at in ((windows.rows, blender.rows), (windows.cols, blender.cols))
    )
    return Window(left, top, right - left, bottom - top)


def _batches(
    ring: RowRing, blender: BandBlender, shape: tuple[int, int, int, int]
) -> Iterator[tuple[Tensor, list[tuple[int, int]]]]:
    """Images of windows with a valid pixel, and row and column of each."""
    windows = blender.windows
    # Convolutions are faster with the channels last, and one batch is used for all.
    images = torch.empty(
        shape, device=blender.device, memory_format=torch.channels_last
    )
    places: list[tuple[int, int]] = []
    for row in blender.rows:
        top = windows.rows.offsets[row]
        ring.forget(top)
        ring.read_to(top + windows.size)
        for col in blender.cols:
            if not windows.wants(row, col):
                continue
            if ring.fill(images[len(places)], top, windows.cols.offsets[col]):
                places.append((row, col))
            if len(places) == len(images):
                yield images, places
                places = []
    if places:
        yield images[: len(places)], places


def _finished(ring: RowRing, blender: BandBlender, row: int) -> Iterator[Strip]:
    """Strips that no window from *row* on touches."""
    while blender.row < row:
        top, probabilities = blender.finish()
        _, height, width = probabilities.shape
        if height == 0:
            continue
        col = int(blender.part.col_off)
        first = col - ring.left
        valid = ring.take_valid(top, top + height)[:, first : first + width]
        yield Strip(Window(col, top, width, height), probabilities, valid)
