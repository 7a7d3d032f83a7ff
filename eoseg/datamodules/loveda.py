"""Land cover of towns and countryside in images of 0.3 m."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from eoseg_datasets.loveda import LoveDA

from .published import PublishedSplitDataModule
from .scenes import Use


class LoveDADataModule(PublishedSplitDataModule):
    """Land cover, see :class:`~eoseg_datasets.loveda.LoveDA`.

    The masks of the test split are not published: there is nothing to test on here.
    """

    dataset_type = LoveDA
    splits: ClassVar[Mapping[Use, str]] = {'train': 'train', 'val': 'val'}

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 8,
        patch_size: int = 512,
        length: int | None = None,
        num_workers: int = 0,
        scene: Sequence[Literal['urban', 'rural']] = ('urban', 'rural'),
        download: bool = False,
        seed: int = 0,
    ) -> None:
        """Initialize a new LoveDADataModule instance.

        Args:
            root: Folder of the data set.
            batch_size: Patches per batch.
            patch_size: Side of a patch in pixels.
            length: Patches per training epoch; by default as many as cover the training
                images once.
            num_workers: Processes that read patches; 0 reads in the main one.
            scene: The domains to read, 'urban', 'rural' or both.
            download: Whether archives that are not in *root* are downloaded.
            seed: Chooses the patches.
        """
        super().__init__(
            root,
            batch_size,
            patch_size,
            length,
            num_workers,
            seed=seed,
            scene=scene,
            download=download,
        )

    def setup(self, stage: str) -> None:
        """Set up data sets and samplers.

        Args:
            stage: 'fit' or 'validate'.

        Raises:
            ValueError: If *stage* is 'test'.
        """
        if stage == 'test':
            raise ValueError(
                'the test masks of LoveDA are not published. Score on the validation '
                'split with eoseg validate, or map the images below Test and send the maps '
                'to the server that the authors name at https://github.com/Junjue-Wang/LoveDA'
            )
        super().setup(stage)
