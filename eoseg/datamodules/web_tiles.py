"""Tiles of a web map with polygons as labels."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from eoseg_datasets.web_tiles import WebTiles

from .scenes import Part, SceneDataModule, Use, divided


class WebTilesDataModule(SceneDataModule):
    """Tiles of a web map, see :class:`~eoseg_datasets.web_tiles.WebTiles`.

    Divided by place: tiles of several zoom levels that share ground stay together.
    """

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 8,
        patch_size: int = 256,
        length: int | None = None,
        num_workers: int = 0,
        class_field: str | None = None,
        split: tuple[float, float] = (0.2, 0.2),
        seed: int = 0,
    ) -> None:
        """Initialize a new WebTilesDataModule instance.

        Args:
            root: Folder of tiles and labels.
            batch_size: Patches per batch.
            patch_size: Side of a patch in pixels.
            length: Patches per training epoch; by default as many as cover the training
                tiles once.
            num_workers: Processes that read patches; 0 reads in the main one.
            class_field: Column with the class of the polygons.
            split: Shares of the tiles for validation and for testing.
            seed: Chooses the split and the patches.
        """
        super().__init__(batch_size, patch_size, length, num_workers, seed)
        self.root = Path(root)
        self.class_field = class_field
        self.shares: Sequence[float] = split

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """The tiles, divided by place."""
        dataset = WebTiles(self.root, class_field=self.class_field)
        val, test = self.shares
        return divided(dataset, self.size, val, test, seed=self.seed)
