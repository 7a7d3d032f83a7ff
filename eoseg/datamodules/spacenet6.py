"""SpaceNet 6, divided on the ground."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from eoseg_datasets.spacenet6 import Optical, SpaceNet6
from eoseg_datasets.strips import split_strips

from ..transforms import RandomFlips
from .scenes import Part, SceneDataModule, Use

log = logging.getLogger(__name__)


class SpaceNet6DataModule(SceneDataModule):
    """Buildings in radar, see :class:`~eoseg_datasets.spacenet6.SpaceNet6`.

    The published test split has no labels, so the training tiles are divided: five
    strips of ground from west to east, of which the last is tested on, as the baseline
    of the authors does, and the one before it validates. Tiles are cut where strips
    meet.
    """

    def __init__(
        self,
        root: str | Path,
        patch_size: int = 512,
        optical: Optical = 'PS-RGB',
        flips: Sequence[Literal['horizontal', 'vertical']] = ('horizontal', 'vertical'),
        download: bool = False,
        **kwargs: Any,
    ) -> None:
        """Initialize a new SpaceNet6DataModule instance.

        Args:
            root: Folder of the data set.
            patch_size: Side of a patch in pixels, at most that of a tile (900).
            optical: Which optical product to pair with radar.
            flips: Ways in which training patches are flipped. The radar looks north or
                south; a ``vertical`` flip turns shadows round.
            download: Whether archives that are not in *root* are downloaded.
            **kwargs: More arguments of :class:`~.scenes.SceneDataModule`.
        """
        super().__init__(root, patch_size=patch_size, **kwargs)
        self.optical = optical
        self.train_aug = RandomFlips(flips)
        self.download = download

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """The training tiles, in strips of ground."""
        dataset = SpaceNet6(
            self.root,
            bands=self.bands,
            optical=self.optical,
            download=self.download,
        )
        split = split_strips(dataset.scenes, dataset.labelled, self.size)
        log.info('split %s', split.rule)
        return {
            'train': Part(dataset, split.train),
            'val': Part(dataset, split.val),
            'test': Part(dataset, split.test),
        }
