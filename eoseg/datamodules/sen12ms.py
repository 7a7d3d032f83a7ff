"""SEN12MS, divided as its authors do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from eoseg_datasets.sen12ms import SEN12MS

from .published import PublishedSplitDataModule
from .scenes import Use


class SEN12MSDataModule(PublishedSplitDataModule):
    """Radar, optical images and coarse land cover, all over the world.

    See :class:`~eoseg_datasets.sen12ms.SEN12MS`.

    A fifth of the training split is kept for validation: whole scenes, with all patches
    that share ground with them.
    """

    dataset_type = SEN12MS
    splits: ClassVar[Mapping[Use, str]] = {'train': 'train', 'test': 'test'}

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 8,
        patch_size: int = 256,
        length: int | None = None,
        num_workers: int = 0,
        bands: Sequence[str] | None = None,
        seasons: Sequence[Literal['spring', 'summer', 'fall', 'winter']] | None = None,
        download: bool = False,
        seed: int = 0,
    ) -> None:
        """Initialize a new SEN12MSDataModule instance.

        Args:
            root: Folder of the data set.
            batch_size: Patches per batch.
            patch_size: Side of a patch in pixels.
            length: Patches per training epoch; by default as many as there are.
            num_workers: Processes that read patches; 0 reads in the main one.
            bands: Names of the bands to use; radar and optical by default.
            seasons: Seasons to use; all of them by default.
            download: Whether the lists are downloaded if they are not in *root*.
            seed: Chooses the patches, and what is kept for validation.
        """
        super().__init__(
            root,
            batch_size,
            patch_size,
            length,
            num_workers,
            bands,
            seed,
            seasons=seasons,
            download=download,
        )
