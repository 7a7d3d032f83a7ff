"""Any folder of scenes with their labels."""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torchgeo.datasets import DatasetNotFoundError

from eoseg_datasets import (
    GridSceneSampler,
    RandomSceneSampler,
    SceneFolder,
    stack_samples,
)
from eoseg_datasets.classes import Classes
from eoseg_datasets.splits import Split, split_scenes
from eoseg_datasets.statistics import band_statistics

from ..compat import GeoDataModule
from ..inputs import Inputs
from ..transforms import RandomFlips

log = logging.getLogger(__name__)

#: Length of a degree of latitude in metres, to compare pixels in degrees with others.
METRES_PER_DEGREE = 111_320

#: Batches of an epoch at least, so that a small folder is not mostly validation.
LEAST_BATCHES = 16


class SceneFolderDataModule(GeoDataModule):
    """Any folder of scenes with their labels, split so that nothing leaks.

    Bands, statistics and classes are read from the data; :attr:`inputs` has them.
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
        """
        super().__init__(SceneFolder, batch_size, patch_size, length, num_workers)
        self.root = Path(root)
        self.size = patch_size
        self.bands = bands
        self.class_field = class_field
        self.class_names = class_names
        self.shares = split
        self.seed = seed
        # TorchGeo's samplers give bounds; ours give windows of scenes.
        self.train_sampler: Any = None
        self.val_sampler: Any = None
        self.test_sampler: Any = None
        self.collate_fn = stack_samples
        self.train_aug = RandomFlips()
        self.aug = lambda batch: batch

    @cached_property
    def scenes(self) -> SceneFolder:
        """The data set; all splits read from it.

        Raises:
            ValueError: If no scene has labels.
        """
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
        if not any(dataset.label_paths):
            raise ValueError(
                f'{self.root} has {len(dataset)} scenes but no labels. Put them into '
                f'{self.root / "labels"}, a raster or polygons (GPKG, GeoJSON) of the '
                f'same name for each scene, such as {dataset.scenes[0].name}.tif, or one '
                'file of polygons for all'
            )
        return dataset

    @cached_property
    def regions(self) -> Split:
        """Where training, validation and test patches come from."""
        dataset = self.scenes
        labelled = [i for i, path in enumerate(dataset.label_paths) if path]
        return split_scenes(
            dataset.scenes, labelled, self.size, *self.shares, seed=self.seed
        )

    @cached_property
    def inputs(self) -> Inputs:
        """What a model must know to read these scenes and to name its answer."""
        scenes, classes = self.scenes.scenes, self._classes
        mean, std = band_statistics(scenes, self.regions.train, self.size)
        scale = tuple(band.scale or 1.0 for band in scenes[0].bands)
        offset = tuple(band.offset or 0.0 for band in scenes[0].bands)
        return Inputs(
            bands=self.scenes.bands,
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            classes=classes.names,
            colors=classes.legend.colors,
            patch_size=self.size,
            res=_metres(self.scenes),
            values=classes.values,
            scale=scale if any(value != 1 for value in scale) else (),
            offset=offset if any(offset) else (),
        )

    @property
    def _classes(self) -> Classes:
        classes = self.scenes.classes
        assert classes is not None  # `scenes` has checked that there are labels
        return classes

    def setup(self, stage: str) -> None:
        """Set up the samplers.

        Args:
            stage: 'fit', 'validate' or 'test'.
        """
        self.dataset = self.scenes
        regions = self.regions
        log.info(
            'split %s: %d training, %d validation and %d test regions',
            regions.rule,
            len(regions.train),
            len(regions.val),
            len(regions.test),
        )
        if stage == 'fit':
            self.train_sampler = RandomSceneSampler(
                regions.train, self.size, self.length or self._length(), self.seed
            )
        if stage in ('fit', 'validate'):
            self.val_sampler = GridSceneSampler(regions.val, self.size)
        if stage == 'test':
            if not regions.test:
                raise ValueError(
                    'nothing is left to test on; give a test share in split'
                )
            self.test_sampler = GridSceneSampler(regions.test, self.size)

    def _length(self) -> int:
        windows = [region.window for region in self.regions.train]
        pixels = sum(int(window.width) * int(window.height) for window in windows)
        return max(round(pixels / self.size**2), LEAST_BATCHES * self.batch_size)

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Move a batch to a device; where its pixels lie stays behind.

        Geometry is double precision and must not be cast with the images: in half
        precision a scene moves by kilometres.
        """
        pixels = {key: batch[key] for key in ('image', 'mask', 'valid')}
        # TorchGeo's own deletes keys that differ between its versions.
        moved: dict[str, Any] = LightningDataModule.transfer_batch_to_device(
            self, pixels, device, dataloader_idx
        )
        return moved


def _metres(dataset: SceneFolder) -> float | None:
    """Pixel size in metres; None for pictures that lie nowhere."""
    if dataset.crs.is_engineering:
        return None
    unit: float = dataset.crs.axis_info[0].unit_conversion_factor
    factor = METRES_PER_DEGREE if dataset.crs.is_geographic else unit
    return dataset.res[0] * factor
