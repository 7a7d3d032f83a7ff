"""Land cover of towns and countryside in images of 0.3 m."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from eoseg_datasets.loveda import LoveDA

from .published import PublishedSplitDataModule
from .scenes import Use


class LoveDADataModule(PublishedSplitDataModule):
    """Land cover, see :class:`~eoseg_datasets.loveda.LoveDA`.

    The masks of the test split are not published: there is nothing to test on here.
    """

    splits: ClassVar[Mapping[Use, str]] = {'train': 'train', 'val': 'val'}

    def __init__(
        self,
        root: str | Path,
        patch_size: int = 512,
        scene: Sequence[Literal['urban', 'rural']] = ('urban', 'rural'),
        download: bool = False,
        **kwargs: Any,
    ) -> None:
        """Initialize a new LoveDADataModule instance.

        Args:
            root: Folder of the data set.
            patch_size: Side of a patch in pixels.
            scene: The domains to read, 'urban', 'rural' or both.
            download: Whether archives that are not in *root* are downloaded.
            **kwargs: More arguments of :class:`~.scenes.SceneDataModule`.
        """
        super().__init__(root, patch_size=patch_size, **kwargs)
        self.scene = scene
        self.download = download

    def published(self, split: str) -> LoveDA:
        """Open a published split."""
        return LoveDA(self.root, split, self.scene, self.bands, download=self.download)

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
