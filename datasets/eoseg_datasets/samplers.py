"""Patches of scenes, in whole pixels of each scene's own grid."""

from collections.abc import Iterator, Sequence

import torch
from rasterio.windows import Window
from torch.utils.data import Sampler

from .scene import ScenePatch


class RandomSceneSampler(Sampler[ScenePatch]):
    """Random patches; a region is drawn in proportion to its area.

    A region smaller than a patch is not dropped: its patch reaches beyond it, where
    samples are not valid.
    """

    def __init__(
        self, regions: Sequence[ScenePatch], size: int, length: int, seed: int = 0
    ) -> None:
        """Initialize a new RandomSceneSampler instance.

        Args:
            regions: Windows of scenes that patches are drawn from.
            size: Side of a patch in pixels.
            length: Patches per epoch.
            seed: Each epoch draws other patches, each run the same.
        """
        self.regions = regions
        self.size = size
        self.length = length
        self.generator = torch.Generator().manual_seed(seed)
        areas = [region.window.width * region.window.height for region in regions]
        self.areas = torch.tensor(areas, dtype=torch.float64)

    def __len__(self) -> int:
        """Patches per epoch."""
        return self.length

    def __iter__(self) -> Iterator[ScenePatch]:
        """Patches of one epoch."""
        chosen = torch.multinomial(
            self.areas, self.length, replacement=True, generator=self.generator
        )
        for i in chosen.tolist():
            scene, window = self.regions[i]
            row = self._offset(window.row_off, window.height)
            col = self._offset(window.col_off, window.width)
            yield ScenePatch(scene, Window(col, row, self.size, self.size))

    def _offset(self, start: int, length: int) -> int:
        last = max(int(length) - self.size, 0)
        return int(start) + int(torch.randint(last + 1, (), generator=self.generator))


class GridSceneSampler(Sampler[ScenePatch]):
    """Patches that cover each region, row by row.

    The last patch of a row or column is moved back to end with the region, so that none
    shows pixels of another split; the pixels it shares with its neighbour come twice. A
    region smaller than a patch gets one, which reaches beyond it.
    """

    def __init__(self, regions: Sequence[ScenePatch], size: int) -> None:
        """Initialize a new GridSceneSampler instance.

        Args:
            regions: Windows of scenes to cover.
            size: Side of a patch in pixels.
        """
        self.patches = [
            ScenePatch(scene, Window(col, row, size, size))
            for scene, window in regions
            for row in _starts(window.row_off, window.height, size)
            for col in _starts(window.col_off, window.width, size)
        ]

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.patches)

    def __iter__(self) -> Iterator[ScenePatch]:
        """All patches."""
        return iter(self.patches)


def _starts(first: int, length: int, size: int) -> list[int]:
    last = max(int(length) - size, 0)
    return [int(first) + offset for offset in (*range(0, last, size), last)]
