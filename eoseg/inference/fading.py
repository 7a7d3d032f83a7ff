"""Weights of scenes that fall off towards their edges."""

from collections import defaultdict
from functools import lru_cache
from threading import Lock

import numpy as np
import torch
from rasterio.enums import Resampling
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from eoseg_datasets.handles import handle

from .map_source import MapSource
from .target import ground_res
from .warp import Positions, bilinear, coarser

#: Pixels along the longer side of the mask in which distances to the edge are measured.
_DISTANCE_SIDE = 1024

#: Scenes whose distances are kept, of up to 1 MB each.
_KEPT = 64

#: Weight at the very edge, where a scene that is alone counts in full.
_LEAST = 1e-3


class Fading:
    """Weight of a scene, which falls off towards the edge of its valid data.

    Nodata inside the scene (a lake masked out) is an edge too.
    """

    def __init__(self, width: float) -> None:
        """Initialize a new Fading instance.

        Args:
            width: Metres over which a scene fades out.
        """
        self.width = width
        # Neighbouring blocks ask for the same scenes.
        self._kept = lru_cache(_KEPT)(self._measure)
        self._measuring: defaultdict[MapSource, Lock] = defaultdict(Lock)

    def __call__(
        self, source: MapSource, centres: Positions, device: torch.device
    ) -> Tensor:
        """Weight on a block, of shape (H, W), above 0 also at the edge.

        Args:
            source: The scene.
            centres: Where the pixels of the block lie in it.
            device: Where to compute.
        """
        # One thread measures; the others wait for what it finds.
        with self._measuring[source]:
            share = self._kept(source)
        height, width = share.shape
        scale = width / source.grid.width, height / source.grid.height
        at = centres.moved(scale, (0, 0))
        window = at.window((height, width))
        at = at.moved((1, 1), (-window.col_off, -window.row_off))
        part = share[window.toslices()].to(device).float()[None] / 255
        return bilinear(part, at, 'border')[0].clamp(min=_LEAST)

    def _measure(self, source: MapSource) -> Tensor:
        """Distance to the edge on a coarse grid, in 255ths of the width."""
        step = -(-max(source.grid.shape) // _DISTANCE_SIDE)
        coarse = coarser(source.grid, step)
        stored = handle(source.path).read(
            1, out_shape=coarse.shape, resampling=Resampling.nearest
        )
        across, down = ground_res(coarse)
        # A frame of nodata: the border of the raster is an edge.
        inside = np.pad(source.valid(stored), 1)
        distance = distance_transform_edt(inside, sampling=(down, across))[1:-1, 1:-1]
        share = np.rint(255 * np.minimum(distance / self.width, 1))
        return torch.from_numpy(share.astype(np.uint8))
