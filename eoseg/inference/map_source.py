"""Maps of scenes, as a mosaic reads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window
from torch import Tensor

from eoseg_datasets.classes import NODATA
from eoseg_datasets.grid import Grid
from eoseg_datasets.handles import handle
from eoseg_datasets.warp import aligned_window

from .warp import (
    Footprint,
    coarser,
    mean_footprint,
    nearest,
    nearest_footprint,
    warp,
)


@dataclass(frozen=True)
class Finished:
    """Classes and confidence of a scene, which are its probabilities at a glance."""

    #: Classes in one band of uint8; 255 where there is none.
    classes: Path
    #: Probability of that class in one band, scaled as the file says.
    confidence: Path


@dataclass(frozen=True)
class MapSource:
    """A map of one scene, to be mosaicked."""

    name: str
    #: Probabilities, one band per class, or classes in one band.
    path: Path
    grid: Grid
    num_classes: int
    has_probabilities: bool
    #: Value of pixels without a class; None if every pixel has one.
    nodata: float | None = NODATA
    #: What to multiply stored probabilities by.
    scale: float = 1 / 254
    #: What to multiply the weight of the scene by, above 0.
    priority: float = 1.0
    #: On the same grid as the probabilities, to be copied where the scene is alone; None
    #: if there is none.
    finished: Finished | None = None

    def read(self, window: Window, step: int = 1) -> NDArray[Any]:
        """Stored numbers, from an overview if the map has one that fits.

        Args:
            window: In pixels of an overview whose pixels are *step* pixels wide.
            step: 1 for the map itself.

        Returns:
            Of shape (bands, H, W).
        """
        if step == 1:
            return np.asarray(handle(self.path).read(window=window))
        coarse = coarser(self.grid, step)
        across = self.grid.width / coarse.width
        down = self.grid.height / coarse.height
        resampling = Resampling.average if self.has_probabilities else Resampling.mode
        source = handle(self.path)
        return np.asarray(
            source.read(
                window=Window(
                    window.col_off * across,
                    window.row_off * down,
                    window.width * across,
                    window.height * down,
                ),
                out_shape=(source.count, int(window.height), int(window.width)),
                resampling=resampling,
            )
        )

    def valid(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Where one band of stored numbers is a class or a probability."""
        there = np.isfinite(stored)
        if self.nodata is not None and np.isfinite(self.nodata):
            there &= stored != self.nodata
        if not self.has_probabilities:
            there &= (stored >= 0) & (stored < self.num_classes)
        return np.asarray(there)

    def labels(self, stored: NDArray[Any]) -> NDArray[np.uint8]:
        """Classes from one band of stored numbers, 255 where there is none."""
        return np.where(self.valid(stored), stored, NODATA).astype(np.uint8)

    def footprint(self, target: Grid) -> Footprint:
        """What to read for a block of the mosaic."""
        plan = mean_footprint if self.has_probabilities else nearest_footprint
        return plan(self.grid, target)


def probabilities(
    source: MapSource, footprint: Footprint, grid: Grid, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Class probabilities of a scene on a block.

    Args:
        source: The scene.
        footprint: What to read of it.
        grid: The block.
        device: Where to compute.

    Returns:
        Probabilities of shape (K, H, W), and where the scene has any, of shape (H, W).
    """
    if not source.has_probabilities:
        labels = _labels(source, footprint, grid, device)
        classes = torch.arange(source.num_classes, dtype=labels.dtype, device=device)
        return (labels == classes[:, None, None]).float(), labels != NODATA
    if (window := aligned_window(source.grid, grid)) is not None:
        return _copied(source, window, device)
    stored = source.read(footprint.window, footprint.step)
    there = source.valid(stored[0])
    valid = None if there.all() else torch.from_numpy(there).to(device)
    values = torch.from_numpy(stored).to(device).float()
    total, weight = warp(values, valid, footprint)
    # Half the weight: a pixel counts as valid if most of what it is made of is.
    return total.mul_(source.scale / weight.clamp(min=1e-6)), weight >= 0.5


def shown(
    source: MapSource, footprint: Footprint, grid: Grid, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What is to be seen of a scene on a block where it is alone.

    No probability is read where classes can be copied.

    Args:
        source: The scene.
        footprint: What to read of it.
        grid: The block.
        device: Where to compute.

    Returns:
        Classes in uint8, 255 where there is none, and their probabilities, 0 where there
        is none, each of shape (H, W).
    """
    if not source.has_probabilities:
        labels = _labels(source, footprint, grid, device)
        return labels, (labels != NODATA).float()
    window = aligned_window(source.grid, grid)
    if window is not None and source.finished is not None:
        return _glance(source.finished, source.grid, window, device)
    values, there = probabilities(source, footprint, grid, device)
    confidence, classes = values.max(dim=0)
    labels = torch.where(there, classes, NODATA).to(torch.uint8)
    return labels, torch.where(there, confidence, 0)


def _labels(
    source: MapSource, footprint: Footprint, grid: Grid, device: torch.device
) -> Tensor:
    """Classes of a map of classes, 255 where there is none, of shape (H, W)."""
    if (window := aligned_window(source.grid, grid)) is not None:
        read, place = _overlap(source.grid, window)
        labels = np.full(grid.shape, NODATA, np.uint8)
        labels[place] = source.labels(source.read(read)[0])
        return torch.from_numpy(labels).to(device)
    stored = source.read(footprint.window, footprint.step)[0]
    labels = source.labels(stored)
    return nearest(torch.from_numpy(labels).to(device), NODATA, footprint.positions)


def _copied(
    source: MapSource, window: Window, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What a map has in a window that may reach beyond it."""
    read, (rows, cols) = _overlap(source.grid, window)
    stored = source.read(read)
    shape = int(window.height), int(window.width)
    values = torch.zeros((len(stored), *shape), device=device)
    there = torch.zeros(shape, dtype=torch.bool, device=device)
    values[:, rows, cols] = torch.from_numpy(stored).to(device).float()
    there[rows, cols] = torch.from_numpy(source.valid(stored[0])).to(device)
    return values * source.scale, there


def _glance(
    finished: Finished, grid: Grid, window: Window, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Classes and confidence in a window that may reach beyond the map."""
    read, place = _overlap(grid, window)
    shape = int(window.height), int(window.width)
    labels = np.full(shape, NODATA, np.uint8)
    labels[place] = handle(finished.classes).read(1, window=read)
    confidence = np.zeros(shape, np.float32)
    source = handle(finished.confidence)
    confidence[place] = source.read(1, window=read) * np.float32(source.scales[0])
    confidence[labels == NODATA] = 0
    return torch.from_numpy(labels).to(device), torch.from_numpy(confidence).to(device)


def _overlap(grid: Grid, window: Window) -> tuple[Window, tuple[slice, slice]]:
    """What of a window lies in a map, in pixels of the map and of the window."""
    top, bottom = _common(window.row_off, grid.height, window.height)
    left, right = _common(window.col_off, grid.width, window.width)
    rows, cols = (
        slice(first - int(offset), last - int(offset))
        for first, last, offset in [
            (top, bottom, window.row_off),
            (left, right, window.col_off),
        ]
    )
    return Window(left, top, right - left, bottom - top), (rows, cols)


def _common(offset: float, source: int, target: float) -> tuple[int, int]:
    """First and last but one pixel that two lines of pixels have in common."""
    first, last = max(int(offset), 0), min(int(offset) + int(target), source)
    return first, max(first, last)
