"""Landslide4Sense, divided as published as far as there are labels."""

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

from torchgeo.datasets import DatasetNotFoundError

from eoseg_datasets import SceneDataset
from eoseg_datasets.landslide4sense import Landslide4Sense

from .published import VAL_SHARE, PublishedSplitDataModule
from .scenes import Part, Use, divided, whole


class Landslide4SenseDataModule(PublishedSplitDataModule):
    """Landslides, see :class:`~eoseg_datasets.landslide4sense.Landslide4Sense`.

    The competition had labels for its training split only. Where that of validation has
    none, or is not there, a fifth of the training split is kept for it; where that of
    testing has none, there is nothing to test on.
    """

    splits: ClassVar[Mapping[Use, str]] = {
        'train': 'train',
        'val': 'val',
        'test': 'test',
    }

    def published(self, split: str) -> Landslide4Sense:
        """Open a published split."""
        return Landslide4Sense(self.root, split, self.bands)

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """The published splits that have labels."""
        train = self.published(self.splits['train'])
        if not train.labelled:
            raise FileNotFoundError(
                f'{self.root} has no masks of the training split; get them from '
                f'{Landslide4Sense.url}'
            )
        parts: dict[Use, Part] = {'train': whole(train)}
        others: tuple[Use, ...] = ('val', 'test')
        for use in others:
            dataset = self._split_if_there(self.splits[use])
            if dataset is not None and dataset.labelled:
                parts[use] = whole(dataset)
        if 'val' in parts:
            return parts
        return parts | divided(train, self.size, VAL_SHARE, 0, self.seed)

    def _split_if_there(self, split: str) -> SceneDataset | None:
        try:
            return self.published(split)
        except DatasetNotFoundError:
            return None
