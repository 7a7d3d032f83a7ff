"""Six urban classes in aerial images of 9 cm."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from eoseg_datasets.vaihingen import Vaihingen

from .published import PublishedSplitDataModule
from .scenes import Use


class VaihingenDataModule(PublishedSplitDataModule):
    """Six urban classes, see :class:`~eoseg_datasets.vaihingen.Vaihingen`.

    A fifth of the training tiles is kept for validation.
    """

    dataset_type = Vaihingen
    splits: ClassVar[Mapping[Use, str]] = {'train': 'train', 'test': 'test'}

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 8,
        patch_size: int = 512,
        length: int | None = None,
        num_workers: int = 0,
        labels: Literal['full', 'eroded'] | None = None,
        division: Literal['isprs', 'adaptation'] = 'isprs',
        seed: int = 0,
    ) -> None:
        """Initialize a new VaihingenDataModule instance.

        Args:
            root: Folder of the data set.
            batch_size: Patches per batch.
            patch_size: Side of a patch in pixels.
            length: Patches per training epoch; by default as many as cover the training
                tiles once.
            num_workers: Processes that read patches; 0 reads in the main one.
            labels: 'full' or 'eroded'; by default those that are there.
            division: 'isprs' (16 tiles for training and 17 for testing) or 'adaptation'
                (25 and 8).
            seed: Chooses the patches, and what is kept for validation.
        """
        super().__init__(
            root,
            batch_size,
            patch_size,
            length,
            num_workers,
            seed=seed,
            labels=labels,
            division=division,
        )
