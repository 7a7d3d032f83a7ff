"""Tiles of a web map with polygons as labels."""

from functools import cached_property
from pathlib import Path
from typing import Any

from eoseg_datasets.web_tiles import WebTiles

from .divided import DividedDataModule


class WebTilesDataModule(DividedDataModule):
    """Tiles of a web map, see :class:`~eoseg_datasets.web_tiles.WebTiles`.

    Divided by place: tiles of several zoom levels that share ground stay together.
    """

    def __init__(
        self, root: str | Path, class_field: str | None = None, **kwargs: Any
    ) -> None:
        """Initialize a new WebTilesDataModule instance.

        Args:
            root: Folder of tiles and labels.
            class_field: Column with the class of the polygons.
            **kwargs: More arguments of :class:`~.divided.DividedDataModule`.
        """
        super().__init__(root, **kwargs)
        self.class_field = class_field

    @cached_property
    def all_scenes(self) -> WebTiles:
        """The data set; all parts read from it."""
        return WebTiles(self.root, self.bands, self.class_field)
