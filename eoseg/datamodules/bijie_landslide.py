"""Bijie landslides, divided by image."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from eoseg_datasets.bijie_landslide import BijieLandslide

from .scenes import Part, SceneDataModule, Use, divided


class BijieLandslideDataModule(SceneDataModule):
    """Landslides, see :class:`~eoseg_datasets.bijie_landslide.BijieLandslide`."""

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 8,
        patch_size: int = 256,
        length: int | None = None,
        num_workers: int = 0,
        bands: Sequence[str] | None = None,
        non_landslide: bool = False,
        split: tuple[float, float] = (0.3, 0.0),
        seed: int = 42,
    ) -> None:
        """Initialize a new BijieLandslideDataModule instance.

        Args:
            root: Folder of the data set.
            batch_size: Patches per batch.
            patch_size: Side of a patch in pixels. Smaller images are shown whole, with
                pixels that are not valid around them.
            length: Patches per training epoch; by default as many as cover the training
                images once.
            num_workers: Processes that read patches; 0 reads in the main one.
            bands: Names of the bands to use; red, green and blue by default.
            non_landslide: Whether images of places without a landslide are used, too.
            split: Shares of the images for validation and for testing. Those of
                TransLandSeg are 0.3 and none: what it reports was also used to choose
                the model.
            seed: Chooses the split and the patches; 42 as in TransLandSeg, though its
                draw is not the same.
        """
        super().__init__(batch_size, patch_size, length, num_workers, seed)
        self.root = Path(root)
        self.bands = bands
        self.non_landslide = non_landslide
        self.shares = split

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """One data set, divided by image."""
        dataset = BijieLandslide(self.root, self.bands, self.non_landslide)
        return divided(dataset, self.size, *self.shares, seed=self.seed)
