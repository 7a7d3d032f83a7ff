"""Coverage of grassland in five levels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

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

    splits: ClassVar[Mapping[Use, str]] = {'train': 'train', 'test': 'val'}

    def __init__(self, root: str | Path, download: bool = False, **kwargs: Any) -> None:
        """Initialize a new GrassDataModule instance.

        Args:
            root: Folder of the data set.
            download: Whether the archive is downloaded if it is not in *root*.
            **kwargs: More arguments of :class:`~.scenes.SceneDataModule`.
        """
        super().__init__(root, **kwargs)
        self.download = download

    def published(self, split: str) -> Grass:
        """Open a published split."""
        return Grass(self.root, split, self.bands, download=self.download)
