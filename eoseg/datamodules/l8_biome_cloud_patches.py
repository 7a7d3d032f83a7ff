"""Clouds and their shadows in published patches of Landsat 8 scenes."""

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from eoseg_datasets.l8_biome_cloud_patches import L8BiomeCloudPatches

from .published import VAL_SHARE, PublishedPicturesDataModule
from .scenes import Part, Use, divided

#: Share of the scenes for testing, as published for the patches.
TEST_SHARE = 0.2

log = logging.getLogger(__name__)


class L8BiomeCloudPatchesDataModule(PublishedPicturesDataModule):
    """Clouds in the published splits of patches, to compare with published numbers.

    See :class:`~eoseg_datasets.l8_biome_cloud_patches.L8BiomeCloudPatches`. If patches of
    one scene are in several splits, a warning says so: scores are too bright then.

    As in the paper, statistics are those of ImageNet, and training patches are flipped
    left to right and changed in brightness and colour at random.
    """

    splits: ClassVar[Mapping[Use, str]] = {
        'train': 'train',
        'val': 'val',
        'test': 'test',
    }

    def __init__(self, root: str | Path, download: bool = False, **kwargs: Any) -> None:
        """Initialize a new data module.

        Args:
            root: Folder of the data set.
            download: Whether archives that are not in *root* are downloaded.
            **kwargs: More arguments of :class:`~.scenes.SceneDataModule`.
        """
        super().__init__(root, **kwargs)
        self.download = download

    def published(self, split: str) -> L8BiomeCloudPatches:
        """Open a published split."""
        return L8BiomeCloudPatches(self.root, split, self.bands, download=self.download)

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """The published splits."""
        parts: Mapping[Use, Part] = super().parts
        dataset = parts['train'].dataset
        assert isinstance(dataset, L8BiomeCloudPatches)
        if shared := dataset.shared_scenes():
            log.warning(
                'patches of %d scenes (such as %s) are in several of the published '
                'splits, so that scores are too bright; use '
                'L8BiomeCloudPatchesBySceneDataModule for any other claim than a '
                'comparison',
                len(shared),
                next(iter(shared)),
            )
        return parts


class L8BiomeCloudPatchesBySceneDataModule(L8BiomeCloudPatchesDataModule):
    """Clouds in the patches of all published splits, divided anew by scene.

    See :class:`~eoseg_datasets.l8_biome_cloud_patches.L8BiomeCloudPatches`. Of the scenes,
    60 % are for training, 20 % for validation and 20 % for testing; no number that was
    published can be compared. Statistics and augmentation are as with the published
    splits.
    """

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """All patches, divided by the scene they were cut from."""
        patches = self.published('all')
        return divided(patches, self.size, VAL_SHARE, TEST_SHARE, self.seed)
