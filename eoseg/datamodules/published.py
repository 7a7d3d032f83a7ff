"""Data sets that come divided into training, validation and test."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from eoseg_datasets import SceneDataset

from .scenes import Part, SceneDataModule, Use, divided, whole

#: Share of the training split that is kept for validation where none is published.
VAL_SHARE = 0.2


class PublishedSplitDataModule(SceneDataModule):
    """A data set with published splits.

    Where no split is published for validation, a fifth of the training split is kept for
    it, by scene: a model must not be chosen on what it is tested on.
    """

    #: The data set; its arguments are *root*, *split*, *bands* and others.
    dataset_type: ClassVar[type[SceneDataset]]

    #: Its published split for each use.
    splits: ClassVar[Mapping[Use, str]]

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 8,
        patch_size: int = 256,
        length: int | None = None,
        num_workers: int = 0,
        bands: Sequence[str] | None = None,
        seed: int = 0,
        download: bool = False,
        **kwargs: Any,
    ) -> None:
        """Initialize a new data module.

        Args:
            root: Folder of the data set.
            batch_size: Patches per batch.
            patch_size: Side of a patch in pixels.
            length: Patches per training epoch; by default as many as cover the training
                scenes once.
            num_workers: Processes that read patches; 0 reads in the main one.
            bands: Names of the bands to use; all of them by default.
            seed: Chooses the patches, and what is kept for validation.
            download: Whether archives that are not in *root* are downloaded.
            **kwargs: More arguments of the data set.
        """
        super().__init__(batch_size, patch_size, length, num_workers, seed)
        self.root = Path(root)
        self.bands = bands
        # Not all data sets can be downloaded.
        self.arguments = kwargs | ({'download': True} if download else {})

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """The published splits."""
        parts = {use: whole(self._split(name)) for use, name in self.splits.items()}
        if 'val' in parts:
            return parts
        return parts | divided(
            parts['train'].dataset, self.size, VAL_SHARE, 0, self.seed
        )

    def _split(self, name: str) -> SceneDataset:
        dataset_type: Any = self.dataset_type
        dataset: SceneDataset = dataset_type(
            self.root, split=name, bands=self.bands, **self.arguments
        )
        return dataset
