"""Data sets that come in one piece."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from eoseg_datasets import SceneDataset

from .scenes import Part, SceneDataModule, Use, divided


class DividedDataModule(SceneDataModule):
    """A data set divided here, by scene where possible.

    What overlaps on the ground stays together.
    """

    def __init__(
        self,
        root: str | Path,
        split: tuple[float, float] = (0.2, 0.2),
        **kwargs: Any,
    ) -> None:
        """Initialize a new DividedDataModule instance.

        Args:
            root: Folder of the data set.
            split: Shares of the scenes for validation and for testing.
            **kwargs: More arguments of :class:`~.scenes.SceneDataModule`.
        """
        super().__init__(root, **kwargs)
        self.shares = split

    @property
    @abstractmethod
    def all_scenes(self) -> SceneDataset:
        """The data set; all parts read from it."""

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """One data set, divided."""
        return divided(self.all_scenes, self.size, *self.shares, seed=self.seed)
