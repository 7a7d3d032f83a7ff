"""Six urban classes in aerial images of 5 cm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from eoseg_datasets.potsdam import Potsdam

from .published import PublishedSplitDataModule
from .scenes import Use


class PotsdamDataModule(PublishedSplitDataModule):
    """Six urban classes, see :class:`~eoseg_datasets.potsdam.Potsdam`.

    A fifth of the training tiles is kept for validation.
    """

    dataset_type = Potsdam
    splits: ClassVar[Mapping[Use, str]] = {'train': 'train', 'test': 'test'}

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 8,
        patch_size: int = 512,
        length: int | None = None,
        num_workers: int = 0,
        bands: Sequence[str] | None = None,
        labels: Literal['full', 'eroded'] | None = None,
        seed: int = 0,
    ) -> None:
        """Initialize a new PotsdamDataModule instance.

        Args:
            root: Folder of the data set.
            batch_size: Patches per batch.
            patch_size: Side of a patch in pixels.
            length: Patches per training epoch; by default as many as cover the training
                tiles once.
            num_workers: Processes that read patches; 0 reads in the main one.
            bands: Some of R, G, B and IR; by default those of the images that are there.
            labels: 'full' or 'eroded'; by default those that are there.
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
            labels=labels,
        )
