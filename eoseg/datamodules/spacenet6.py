"""SpaceNet 6, divided on the ground."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from eoseg_datasets.spacenet6 import SpaceNet6
from eoseg_datasets.strips import split_strips

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
        batch_size: int = 8,
        patch_size: int = 512,
        length: int | None = None,
        num_workers: int = 0,
        bands: Sequence[str] | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """Initialize a new SpaceNet6DataModule instance.

        Args:
            root: Folder of the data set.
            batch_size: Patches per batch.
            patch_size: Side of a patch in pixels, at most that of a tile (900).
            length: Patches per training epoch; by default as many as cover the training
                tiles once.
            num_workers: Processes that read patches; 0 reads in the main one.
            bands: Names of the bands to use; radar and optical by default.
            seed: Chooses the patches.
            **kwargs: More arguments of the data set, such as *optical* and *download*.
        """
        super().__init__(batch_size, patch_size, length, num_workers, seed)
        self.root = Path(root)
        self.bands = bands
        self.arguments = kwargs

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """The training tiles, in strips of ground."""
        dataset = self._tiles()
        split = split_strips(dataset.scenes, dataset.labelled, self.size)
        log.info('split %s', split.rule)
        return {
            'train': Part(dataset, split.train),
            'val': Part(dataset, split.val),
            'test': Part(dataset, split.test),
        }

    # A method: the command line finds the arguments of the data set through it.
    def _tiles(self) -> SpaceNet6:
        return SpaceNet6(self.root, bands=self.bands, **self.arguments)
