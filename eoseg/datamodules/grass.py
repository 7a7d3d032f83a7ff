"""Coverage of grassland in five levels."""

from collections.abc import Mapping
from typing import ClassVar

from eoseg_datasets.grass import Grass

from .published import PublishedPicturesDataModule
from .scenes import Use


class GrassDataModule(PublishedPicturesDataModule):
    """Coverage of grassland in five levels, see :class:`~eoseg_datasets.grass.Grass`.

    Only training and validation are published. The authors report on validation the best
    of a hundred checkpoints chosen on it; here it is for testing, and a fifth of the
    training images chooses the checkpoint.

    As in the paper, statistics are those of ImageNet, and training patches are flipped
    left to right and changed in brightness and colour at random.
    """

    dataset_type = Grass
    splits: ClassVar[Mapping[Use, str]] = {'train': 'train', 'test': 'val'}
