"""Read a scene in rows of whole blocks, as it is stored, ahead of who needs it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window
from torch import Tensor

from eoseg_datasets.handles import handle
from eoseg_datasets.scene import Scene

from .threads import ahead

#: Rows to read at once: at least, so that a call is worth its while, and at most, so that
#: files of a single block do not have to fit into memory.
LOW, HIGH = 256, 1024

#: Rows that are read or wait while others are worked on.
AHEAD = 2

#: Bytes that GDAL keeps of decoded blocks. Rows of whole blocks need none; masks and bands
#: that share a block do. GDAL's own default is a twentieth of the machine's memory.
CACHE = 64 * 2**20


@dataclass(frozen=True)
class Rows:
    """Rows of a scene as they are stored, over a part of its width."""

    #: First row.
    top: int
    #: Stored numbers, of shape (C, h, w), on the device.
    numbers: Tensor
    #: Whether a pixel is valid, of shape (h, w), here and on the device.
    valid: NDArray[np.bool_]
    mask: Tensor

    @property
    def bottom(self) -> int:
        """Row after the last."""
        return self.top + len(self.valid)


def read_rows(
    scene: Scene, window: Window, device: torch.device, threads: int = 1
) -> Iterator[Rows]:
    """Read a part of a scene from top to bottom, in threads with handles of their own.

    Every block of the file is decoded once, if the window has the width of the scene or
    its blocks do.

    Args:
        scene: Any scene.
        window: Part of it, in whole pixels and inside.
        device: Where the numbers are wanted.
        threads: How many rows of blocks are read at a time.

    Yields:
        Rows that together are the window.

    Raises:
        RasterioError: If a file cannot be read.
    """
    height = rows_at_once(scene)
    top, bottom = int(window.row_off), int(window.row_off + window.height)
    # On whole blocks of the file, wherever the window begins.
    borders = [top, *range((top // height + 1) * height, bottom, height), bottom]
    windows = (
        Window(window.col_off, start, window.width, end - start)
        for start, end in pairwise(borders)
    )
    load = partial(_read, scene, _Upload(device))
    yield from ahead(load, windows, AHEAD + threads - 1, threads)


def rows_at_once(scene: Scene) -> int:
    """Height of the blocks of a scene, or of several of them if they are low."""
    sources = [
        handle(path, allow_vrt=any(band.vrt for band in scene.bands))
        for path in {band.path for band in scene.bands}
    ]
    # Rows of a scene that is read at another resolution are made of more, or of fewer.
    finest = scene.grid.height / max(int(source.height) for source in sources)
    low = max(round(LOW * min(finest, 1)), 1)
    height = max(_block_height(source, scene.grid.height) for source in sources)
    return min(-(-low // height) * height, HIGH)


def _block_height(source: DatasetReader, height: int) -> int:
    rows: int = max(rows for rows, _ in source.block_shapes)
    return max(round(rows * (height / int(source.height))), 1)


def _read(scene: Scene, upload: '_Upload', window: Window) -> Rows:
    with rasterio.Env(GDAL_CACHEMAX=CACHE):
        numbers, valid = scene.read_stored(window)
    there = upload(torch.from_numpy(numbers)), upload(torch.from_numpy(valid))
    return Rows(int(window.row_off), there[0], valid, there[1])


class _Upload:
    """Bring rows to a device, while it computes.

    On a GPU every pixel crosses the bus once, as it is stored, from pinned memory and on a
    stream of its own; the reading thread waits for it, and nobody else does.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.on_gpu = device.type == 'cuda'
        if self.on_gpu:
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self.compute = torch.cuda.current_stream(device)

    def __call__(self, values: Tensor) -> Tensor:
        if not self.on_gpu:
            return values  # others than CUDA may not know its type
        with torch.cuda.stream(self.stream):
            there = values.pin_memory().to(self.device, non_blocking=True)
        self.stream.synchronize()
        # Not given to others while the network's stream may still read it.
        there.record_stream(self.compute)
        return there
