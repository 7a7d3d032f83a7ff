"""DFC2020, divided as in Copernicus-Bench."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from eoseg_datasets.dfc2020 import DFC2020

from .published import PublishedSplitDataModule
from .scenes import Use


class DFC2020DataModule(PublishedSplitDataModule):
    """Radar, optical images, land cover: :class:`~eoseg_datasets.dfc2020.DFC2020`."""

    dataset_type = DFC2020
    splits: ClassVar[Mapping[Use, str]] = {
        'train': 'train',
        'val': 'val',
        'test': 'test',
    }

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 8,
        patch_size: int = 256,
        length: int | None = None,
        num_workers: int = 0,
        bands: Sequence[str] | None = None,
        download: bool = False,
        seed: int = 0,
    ) -> None:
        """Initialize a new DFC2020DataModule instance.

        Args:
            root: Folder of the data set.
            batch_size: Patches per batch.
            patch_size: Side of a patch in pixels.
            length: Patches per training epoch; by default as many as there are.
            num_workers: Processes that read patches; 0 reads in the main one.
            bands: Names of the bands to use; radar and optical by default.
            download: Whether the archive is downloaded if it is not in *root*.
            seed: Chooses the patches.
        """
        super().__init__(
            root,
            batch_size,
            patch_size,
            length,
            num_workers,
            bands,
            seed,
            download=download,
        )
