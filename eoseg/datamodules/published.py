"""Data sets that come divided into training, validation and test."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from eoseg_datasets import SceneDataset

from ..inputs import Inputs
from ..transforms import PhotometricDistortion, RandomFlips
from .lazy import Lazy
from .scenes import Part, SceneDataModule, Use, divided, whole

#: Share of the training split that is kept for validation where none is published.
VAL_SHARE = 0.2

#: Mean and standard deviation of red, green and blue in ImageNet, of 255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class PublishedSplitDataModule(SceneDataModule):
    """A data set with published splits.

    Where no split is published for validation, a fifth of the training split is kept for
    it, by scene: a model must not be chosen on what it is tested on.
    """

    #: Its published split for each use.
    splits: ClassVar[Mapping[Use, str]]

    def __init__(self, root: str | Path, **kwargs: Any) -> None:
        """Initialize a new data module.

        Args:
            root: Folder of the data set.
            **kwargs: More arguments of :class:`~.scenes.SceneDataModule`.
        """
        super().__init__(root, **kwargs)
        self.train_aug = self.augmentation()

    @abstractmethod
    def published(self, split: str) -> SceneDataset:
        """Open a published split."""

    def augmentation(self) -> nn.Module:
        """What changes batches of training patches at random."""
        return RandomFlips()

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """The published splits, each opened when it is first asked for.

        Who trains need not have what is for testing.
        """
        published = {
            use: partial(self._whole, name) for use, name in self.splits.items()
        }
        if 'val' in published:
            return Lazy(published)
        uses: tuple[Use, ...] = ('train', 'val')
        kept = {use: partial(self._part_of_train, use) for use in uses}
        return Lazy(published | kept)

    @cached_property
    def _parts_of_train(self) -> Mapping[Use, Part]:
        """The published training split, of which some is kept for validation."""
        train = self.published(self.splits['train'])
        return divided(train, self.size, VAL_SHARE, 0, self.seed)

    def _part_of_train(self, use: Use) -> Part:
        return self._parts_of_train[use]

    def _whole(self, split: str) -> Part:
        return whole(self.published(split))


class PublishedPicturesDataModule(PublishedSplitDataModule):
    """A data set of pictures, red, green and blue in 8 bit, with published splits.

    They are treated as the authors of KTDA do. Statistics are those of ImageNet, which
    pretrained networks know, a frozen teacher above all. Training patches are flipped
    left to right only, and changed in brightness and colour if they have three bands.
    """

    @cached_property
    def inputs(self) -> Inputs:
        """What a model must know to read these pictures and to name its answer."""
        inputs: Inputs = super().inputs
        shown = self.parts['train'].dataset.rgb_bands
        places = [shown.index(band) for band in inputs.bands]
        return replace(
            inputs,
            mean=tuple(IMAGENET_MEAN[place] for place in places),
            std=tuple(IMAGENET_STD[place] for place in places),
        )

    def augmentation(self) -> nn.Module:
        """What changes batches of training patches at random."""
        flips = RandomFlips(['horizontal'])
        if self.bands is not None and len(self.bands) != 3:
            return flips
        return nn.Sequential(flips, PhotometricDistortion())
