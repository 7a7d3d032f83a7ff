"""Any folder of scenes with their labels."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from torchgeo.datasets import DatasetNotFoundError

from eoseg_datasets import SceneFolder

from .scenes import Part, Sampling, SceneDataModule, Use, divided, without_labels

log = logging.getLogger(__name__)


class SceneFolderDataModule(SceneDataModule):
    """Any folder of scenes with their labels, split so that nothing leaks.

    Bands, statistics and classes are read from the data; ``inputs`` has them.
    """

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 8,
        patch_size: int = 256,
        length: int | None = None,
        num_workers: int = 0,
        bands: Sequence[str] | None = None,
        class_field: str | None = None,
        class_names: Sequence[str] | None = None,
        split: tuple[float, float] = (0.2, 0.2),
        seed: int = 0,
        sampling: Sampling = 'area',
    ) -> None:
        """Initialize a new SceneFolderDataModule instance.

        Args:
            root: Folder of scenes and labels, see
                :class:`~eoseg_datasets.SceneFolder`.
            batch_size: Patches per batch.
            patch_size: Side of a patch in pixels.
            length: Patches per training epoch; by default as many as cover the training
                regions once.
            num_workers: Processes that read patches; 0 reads in the main one.
            bands: Names of the bands to use; all of them by default.
            class_field: Column with the class of polygon labels.
            class_names: Names of the classes in the order of their values, where the
                folder has no ``classes.csv``.
            split: Shares of the scenes for validation and for testing.
            seed: Chooses the split and the patches.
            sampling: How training patches are drawn: from the ``area`` of the scenes, so
                that each holds a ``valid`` pixel, or ``balanced``, so that each class
                has the same chance to be why a patch is drawn.
        """
        super().__init__(batch_size, patch_size, length, num_workers, seed, sampling)
        self.root = Path(root)
        self.bands = bands
        self.class_field = class_field
        self.class_names = class_names
        self.shares = split

    @cached_property
    def scenes(self) -> SceneFolder:
        """The data set; all splits read from it."""
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
        return bool(self.scenes.labelled)

    @cached_property
    def unlabelled(self) -> Part:
        """Training regions without their labels, and all scenes that have none."""
        if self.labelled:
            return without_labels(self.parts['train'])
        return without_labels(Part(self.scenes, ()))

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """One data set, divided by scene or by blocks.

        Raises:
            ValueError: If no scene has labels.
        """
        if not self.labelled:
            raise self._no_labels()
        return divided(self.scenes, self.size, *self.shares, seed=self.seed)

    def _no_labels(self) -> ValueError:
        scenes = self.scenes.scenes
        return ValueError(
            f'{self.root} has {len(scenes)} scenes but no labels. Put them into '
            f'{self.root / "labels"}, a raster or polygons (GPKG, GeoJSON) of the '
            f'same name for each scene, such as {scenes[0].name}.tif, or one '
            'file of polygons for all'
        )
