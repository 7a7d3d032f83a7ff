"""Six urban classes in aerial images of 9 cm."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from eoseg_datasets.vaihingen import Vaihingen

from .published import PublishedSplitDataModule
from .scenes import Use


class VaihingenDataModule(PublishedSplitDataModule):
    """Six urban classes, see :class:`~eoseg_datasets.vaihingen.Vaihingen`.

    A fifth of the training tiles is kept for validation.
    """

    splits: ClassVar[Mapping[Use, str]] = {'train': 'train', 'test': 'test'}

    def __init__(
        self,
        root: str | Path,
        patch_size: int = 512,
        labels: Literal['full', 'eroded'] | None = None,
        division: Literal['isprs', 'adaptation'] = 'isprs',
        **kwargs: Any,
    ) -> None:
        """Initialize a new VaihingenDataModule instance.

        Args:
            root: Folder of the data set.
            patch_size: Side of a patch in pixels.
            labels: 'full' or 'eroded'; by default those that are there.
            division: 'isprs' (16 tiles for training and 17 for testing) or 'adaptation'
                (25 and 8).
            **kwargs: More arguments of :class:`~.scenes.SceneDataModule`.
        """
        super().__init__(root, patch_size=patch_size, **kwargs)
        self.labels = labels
        self.division = division

    def published(self, split: str) -> Vaihingen:
        """Open a published split."""
        return Vaihingen(self.root, split, self.bands, self.labels, self.division)
