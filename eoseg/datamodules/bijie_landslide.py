"""Bijie landslides, divided by image."""

from functools import cached_property
from pathlib import Path
from typing import Any

from eoseg_datasets.bijie_landslide import BijieLandslide

from .divided import DividedDataModule


class BijieLandslideDataModule(DividedDataModule):
    """Landslides, see :class:`~eoseg_datasets.bijie_landslide.BijieLandslide`.

    Images smaller than a patch are shown whole, with pixels that are not valid around
    them.
    """

    def __init__(
        self,
        root: str | Path,
        non_landslide: bool = False,
        split: tuple[float, float] = (0.3, 0.0),
        seed: int = 42,
        **kwargs: Any,
    ) -> None:
        """Initialize a new BijieLandslideDataModule instance.

        Args:
            root: Folder of the data set.
            non_landslide: Whether images of places without a landslide are used, too.
            split: Shares of the images for validation and for testing. Those of
                TransLandSeg are 0.3 and none: what it reports was also used to choose
                the model.
            seed: Chooses the split and the patches; 42 as in TransLandSeg, though its
                draw is not the same.
            **kwargs: More arguments of :class:`~.divided.DividedDataModule`.
        """
        super().__init__(root, split, seed=seed, **kwargs)
        self.non_landslide = non_landslide

    @cached_property
    def all_scenes(self) -> BijieLandslide:
        """The data set; all parts read from it."""
        return BijieLandslide(self.root, self.bands, self.non_landslide)
