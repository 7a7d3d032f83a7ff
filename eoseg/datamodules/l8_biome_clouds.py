"""Clouds and their shadows in whole Landsat 8 scenes."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from eoseg_datasets.l8_biome_clouds import L8BiomeClouds

from .divided import DividedDataModule


class L8BiomeCloudsDataModule(DividedDataModule):
    """Clouds and shadows, see :class:`~eoseg_datasets.l8_biome_clouds.L8BiomeClouds`.

    Divided by scene: those that overlap on the ground stay together.
    """

    def __init__(
        self,
        root: str | Path,
        patch_size: int = 512,
        biomes: Sequence[str] | None = None,
        fill: Literal['ignore', 'clear'] = 'ignore',
        download: bool = False,
        **kwargs: Any,
    ) -> None:
        """Initialize a new L8BiomeCloudsDataModule instance.

        Args:
            root: Folder of the data set.
            patch_size: Side of a patch in pixels.
            biomes: Which to read. By default those that are there; with *download*, all.
            fill: What pixels outside of the scene are: without a label, or 'clear' as in
                the published patches.
            download: Whether archives that are not in *root* are downloaded.
            **kwargs: More arguments of :class:`~.divided.DividedDataModule`.
        """
        super().__init__(root, patch_size=patch_size, **kwargs)
        self.biomes = biomes
        self.fill: Literal['ignore', 'clear'] = fill
        self.download = download

    @cached_property
    def all_scenes(self) -> L8BiomeClouds:
        """The data set; all parts read from it."""
        return L8BiomeClouds(
            self.root, self.bands, self.biomes, self.fill, download=self.download
        )
