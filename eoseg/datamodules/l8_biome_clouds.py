"""Clouds and their shadows in whole Landsat 8 scenes."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from eoseg_datasets.l8_biome_clouds import L8BiomeClouds

from .scenes import Part, SceneDataModule, Use, divided


class L8BiomeCloudsDataModule(SceneDataModule):
    """Clouds and shadows, see :class:`~eoseg_datasets.l8_biome_clouds.L8BiomeClouds`.

    Divided by scene: those that overlap on the ground stay together.
    """

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 8,
        patch_size: int = 512,
        length: int | None = None,
        num_workers: int = 0,
        bands: Sequence[str] | None = None,
        split: tuple[float, float] = (0.2, 0.2),
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """Initialize a new L8BiomeCloudsDataModule instance.

        Args:
            root: Folder of the data set.
            batch_size: Patches per batch.
            patch_size: Side of a patch in pixels.
            length: Patches per training epoch; by default as many as cover the training
                scenes once.
            num_workers: Processes that read patches; 0 reads in the main one.
            bands: Names of the bands to use, such as B4, B3, B2; all 11 by default.
            split: Shares of the scenes for validation and for testing.
            seed: Chooses the split and the patches.
            **kwargs: More arguments of the data set, such as *biomes*, *fill* and
                *download*.
        """
        super().__init__(batch_size, patch_size, length, num_workers, seed)
        self.root = Path(root)
        self.bands = bands
        self.shares = split
        self.arguments = kwargs

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """One data set, divided by scene."""
        return divided(self._scenes(), self.size, *self.shares, seed=self.seed)

    # A method: the command line finds the arguments of the data set through it.
    def _scenes(self) -> L8BiomeClouds:
        return L8BiomeClouds(self.root, bands=self.bands, **self.arguments)
