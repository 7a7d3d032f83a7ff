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
            seed: Each epoch draws other patches, each run the same. An epoch depends
                on nothing but its number, so that a resumed run goes on as it would have.
        """
        self.regions = regions
        self.size = size
        self.length = length
        self.seed = seed
        self.epoch = 0
        areas = [region.window.width * region.window.height for region in regions]
        self.areas = torch.tensor(areas, dtype=torch.float64)

    def __len__(self) -> int:
        """Patches per epoch."""
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is drawn next; Lightning does so by itself.

        Args:
            epoch: Its number from the start of the training. Without this call, each
                iteration is followed by the next epoch.
        """
        self.epoch = epoch

    def __iter__(self) -> Iterator[ScenePatch]:
        """Patches of one epoch."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        self.epoch += 1
        return self._draw(generator)

    def _draw(self, generator: torch.Generator) -> Iterator[ScenePatch]:
        chosen = torch.multinomial(
            self.areas, self.length, replacement=True, generator=generator
        )
        for i in chosen.tolist():
            region = self.regions[i]
            window = region.window
            row = _offset(window.row_off, window.height, self.size, generator)
            col = _offset(window.col_off, window.width, self.size, generator)
            yield ScenePatch(region.scene, Window(col, row, self.size, self.size))


class GridSceneSampler(Sampler[ScenePatch]):
    """Patches that cover each region, row by row.

    The last patch of a row or column is moved back to end with the region, so that none
    shows pixels of another split; the pixels it shares with its neighbour are shown twice
    but labelled once (:attr:`ScenePatch.fresh`), so that a score counts each pixel once.
    A region smaller than a patch gets one, which reaches beyond it without labels.
    """

    def __init__(self, regions: Sequence[ScenePatch], size: int) -> None:
        """Initialize a new GridSceneSampler instance.

        Args:
            regions: Windows of scenes to cover.
            size: Side of a patch in pixels.
        """
        self.patches = [
            ScenePatch(
                region.scene,
                Window(col, row, size, size),
                fresh=Window(left, top, right - left, bottom - top),
            )
            for region in regions
            for row, top, bottom in _steps(
                region.window.row_off, region.window.height, size
            )
            for col, left, right in _steps(
                region.window.col_off, region.window.width, size
            )
        ]

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.patches)

    def __iter__(self) -> Iterator[ScenePatch]:
        """All patches."""
        return iter(self.patches)


def _offset(start: int, length: int, size: int, generator: torch.Generator) -> int:
    last = max(int(length) - size, 0)
    return int(start) + int(torch.randint(last + 1, (), generator=generator))


def _steps(first: int, length: int, size: int) -> list[tuple[int, int, int]]:
    """Start of each patch along a line, and from where to where it is fresh."""
    first, length = int(first), int(length)
    last = max(length - size, 0)
    return [
        (first + min(offset, last), first + offset, first + min(offset + size, length))
        for offset in range(0, length, size)
    ]
