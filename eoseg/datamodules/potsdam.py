"""Six urban classes in aerial images of 5 cm."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from eoseg_datasets.potsdam import Potsdam

from .published import PublishedSplitDataModule
from .scenes import Use


class PotsdamDataModule(PublishedSplitDataModule):
    """Six urban classes, see :class:`~eoseg_datasets.potsdam.Potsdam`.

    A fifth of the training tiles is kept for validation.
    """

    splits: ClassVar[Mapping[Use, str]] = {'train': 'train', 'test': 'test'}

    def __init__(
        self,
        root: str | Path,
        patch_size: int = 512,
        labels: Literal['full', 'eroded'] | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialize a new PotsdamDataModule instance.

        Args:
            root: Folder of the data set.
            patch_size: Side of a patch in pixels.
            labels: 'full' or 'eroded'; by default those that are there.
            **kwargs: More arguments of :class:`~.scenes.SceneDataModule`.
        """
        super().__init__(root, patch_size=patch_size, **kwargs)
        self.labels = labels

    def published(self, split: str) -> Potsdam:
        """Open a published split."""
        return Potsdam(self.root, split, self.bands, self.labels)
