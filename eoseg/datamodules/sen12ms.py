"""SEN12MS, divided as its authors do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from eoseg_datasets.sen12ms import SEN12MS

from .published import PublishedSplitDataModule
from .scenes import Use


class SEN12MSDataModule(PublishedSplitDataModule):
    """Radar, optical images and coarse land cover, all over the world.

    See :class:`~eoseg_datasets.sen12ms.SEN12MS`.

    A fifth of the training split is kept for validation: whole scenes, with all patches
    that share ground with them.
    """

    splits: ClassVar[Mapping[Use, str]] = {'train': 'train', 'test': 'test'}

    def __init__(
        self,
        root: str | Path,
        seasons: Sequence[Literal['spring', 'summer', 'fall', 'winter']] | None = None,
        download: bool = False,
        **kwargs: Any,
    ) -> None:
        """Initialize a new SEN12MSDataModule instance.

        Args:
            root: Folder of the data set.
            seasons: Seasons to use; all of them by default.
            download: Whether the lists are downloaded if they are not in *root*.
            **kwargs: More arguments of :class:`~.scenes.SceneDataModule`.
        """
        super().__init__(root, **kwargs)
        self.seasons = seasons
        self.download = download

    def published(self, split: str) -> SEN12MS:
        """Open a published split."""
        return SEN12MS(
            self.root, split, self.bands, self.seasons, download=self.download
        )
