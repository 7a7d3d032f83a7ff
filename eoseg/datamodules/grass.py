"""Coverage of grassland in five levels."""

from collections.abc import Mapping
from typing import ClassVar

from eoseg_datasets.grass import Grass

from .published import PublishedSplitDataModule
from .scenes import Use


class GrassDataModule(PublishedSplitDataModule):
    """Coverage of grassland in five levels, see :class:`~eoseg_datasets.grass.Grass`.

    Only training and validation are published. The authors report on validation the best
    of a hundred checkpoints chosen on it; here it is for testing, and a fifth of the
    training images chooses the checkpoint.
    """

    dataset_type = Grass
    splits: ClassVar[Mapping[Use, str]] = {'train': 'train', 'test': 'val'}
