"""Any folder of scenes with their labels."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torchgeo.datasets import DatasetNotFoundError

from eoseg_datasets import SceneFolder

from .divided import DividedDataModule
from .scenes import Part, Use, without_labels

log = logging.getLogger(__name__)


class SceneFolderDataModule(DividedDataModule):
    """Any folder of scenes with their labels, split so that nothing leaks.

    Bands, statistics and classes are read from the data; ``inputs`` has them.
    """

    def __init__(
        self,
        root: str | Path,
        class_field: str | None = None,
        class_names: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialize a new SceneFolderDataModule instance.

        Args:
            root: Folder of scenes and labels, see
                :class:`~eoseg_datasets.SceneFolder`.
            class_field: Column with the class of polygon labels.
            class_names: Names of the classes in the order of their values, where the
                folder has no ``classes.csv``.
            **kwargs: More arguments of :class:`~.divided.DividedDataModule`.
        """
        super().__init__(root, **kwargs)
        self.class_field = class_field
        self.class_names = class_names

    @cached_property
    def all_scenes(self) -> SceneFolder:
        """The data set; all parts read from it."""
        try:
            dataset = SceneFolder(
                self.root,
                bands=self.bands,
                class_field=self.class_field,
                class_names=self.class_names,
            )
        except DatasetNotFoundError:
            raise FileNotFoundError(
                f'{self.root} has no scenes. Put them into {self.root / "images"}: '
                'GeoTIFF, COG, JPEG 2000, PNG or JPEG files, Landsat folders or SAFE '
                f'folders; and labels of the same names into {self.root / "labels"}'
            ) from None
        for item in dataset.rejected:
            if item.status == 'failed' or item.reason != 'not a raster':
                log.info('%s is not used: %s', item.path, item.reason)
        return dataset

    @property
    def labelled(self) -> bool:
        """Whether some scenes have labels; a target domain does without."""
        return bool(self.all_scenes.labelled)

    @cached_property
    def unlabelled(self) -> Part:
        """Training regions without their labels, and all scenes that have none."""
        if self.labelled:
            return without_labels(self.parts['train'])
        return without_labels(Part(self.all_scenes, ()))

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """One data set, divided by scene or by blocks.

        Raises:
            ValueError: If no scene has labels.
        """
        if not self.labelled:
            raise self._no_labels()
        parts: Mapping[Use, Part] = super().parts
        return parts

    def _no_labels(self) -> ValueError:
        scenes = self.all_scenes.scenes
        return ValueError(
            f'{self.root} has {len(scenes)} scenes but no labels. Put them into '
            f'{self.root / "labels"}, a raster or polygons (GPKG, GeoJSON) of the '
            f'same name for each scene, such as {scenes[0].name}.tif, or one '
            'file of polygons for all'
        )
