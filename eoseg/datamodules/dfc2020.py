"""DFC2020, divided as in Copernicus-Bench."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from eoseg_datasets.dfc2020 import DFC2020

from .published import PublishedSplitDataModule
from .scenes import Use


class DFC2020DataModule(PublishedSplitDataModule):
    """Radar, optical images, land cover: :class:`~eoseg_datasets.dfc2020.DFC2020`."""

    splits: ClassVar[Mapping[Use, str]] = {
        'train': 'train',
        'val': 'val',
        'test': 'test',
    }

    def __init__(self, root: str | Path, download: bool = False, **kwargs: Any) -> None:
        """Initialize a new DFC2020DataModule instance.

        Args:
            root: Folder of the data set.
            download: Whether the archive is downloaded if it is not in *root*.
            **kwargs: More arguments of :class:`~.scenes.SceneDataModule`.
        """
        super().__init__(root, **kwargs)
        self.download = download

    def published(self, split: str) -> DFC2020:
        """Open a published split."""
        return DFC2020(self.root, split, self.bands, download=self.download)
