"""Batches of patches from scenes: what the data modules have in common."""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import nn

from eoseg_datasets import (
    GridSceneSampler,
    RandomSceneSampler,
    SceneDataset,
    ScenePatch,
    stack_samples,
)
from eoseg_datasets.census import Density, cached_census
from eoseg_datasets.classes import Classes
from eoseg_datasets.labels import Labels
from eoseg_datasets.scene_dataset import whole_scene
from eoseg_datasets.splits import split_scenes
from eoseg_datasets.statistics import band_statistics

from ..compat import GeoDataModule
from ..inputs import Inputs
from ..transforms import RandomFlips
from .lazy import opened

log = logging.getLogger(__name__)

#: Length of a degree of latitude in metres, to compare pixels in degrees with others.
METRES_PER_DEGREE = 111_320

#: Batches of an epoch at least, so that a small folder is not mostly validation.
LEAST_BATCHES = 16

#: Side in pixels of the cells that classes are counted in.
CENSUS_SIDE = 64

#: How training patches are drawn.
Sampling = Literal['area', 'valid', 'balanced']

#: What a part of the data is for.
Use = Literal['train', 'val', 'test']


@dataclass(frozen=True)
class Part:
    """What one use of the data reads: regions of the scenes of a data set."""

    dataset: SceneDataset
    regions: tuple[ScenePatch, ...]


class SceneDataModule(GeoDataModule):
    """Patches of scenes in batches, for training, validation and testing.

    Bands, statistics and classes are read from the data; ``inputs`` has them. A data
    module of some data set says what ``parts`` it has.
    """

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 8,
        patch_size: int = 256,
        length: int | None = None,
        num_workers: int = 0,
        bands: Sequence[str] | None = None,
        seed: int = 0,
        sampling: Sampling = 'area',
    ) -> None:
        """Initialize a new SceneDataModule instance.

        Args:
            root: Folder of the data set.
            batch_size: Patches per batch.
            patch_size: Side of a patch in pixels.
            length: Patches per training epoch; by default as many as cover the training
                regions once.
            num_workers: Processes that read patches; 0 reads in the main one.
            bands: Names of the bands to use; those of the data set by default.
            seed: Chooses the split, where there is a choice, and the patches.
            sampling: How training patches are drawn: from the ``area`` of the regions,
                so that each of them holds a ``valid`` pixel, or ``balanced``, so that
                each class has the same chance to be why a patch is drawn. The latter two
                read all labels once; the census is kept in the cache.
        """
        super().__init__(SceneDataset, batch_size, patch_size, length, num_workers)
        self.root = Path(root)
        self.size = patch_size
        self.bands = bands
        self.seed = seed
        self.sampling = sampling
        # TorchGeo's samplers give bounds; ours give windows of scenes.
        self.train_sampler: Any = None
        self.val_sampler: Any = None
        self.test_sampler: Any = None
        self.collate_fn = stack_samples
        self.train_aug: nn.Module = RandomFlips()
        self.aug = lambda batch: batch

    @property
    @abstractmethod
    def parts(self) -> Mapping[Use, Part]:
        """What each use of the data reads; without ``test`` there is nothing to test."""

    @property
    def labelled(self) -> bool:
        """Whether there are labels, so that there are ``parts``."""
        return True

    @cached_property
    def unlabelled(self) -> Part:
        """What can be learned from without labels, for a target domain.

        The training regions, and scenes that have no labels. The data set does not know
        where labels are, so that none can be read.
        """
        return without_labels(self.parts['train'])

    @cached_property
    def inputs(self) -> Inputs:
        """What a model must know to read these scenes and to name its answer."""
        train = self.parts['train']
        return inputs_of(train, classes_of(train.dataset), self.size)

    def setup(self, stage: str) -> None:
        """Set up data sets and samplers.

        Args:
            stage: 'fit', 'validate' or 'test'.

        Raises:
            ValueError: If there is nothing to test on.
        """
        parts = self.parts
        if stage == 'fit':
            self.learn_from(parts['train'], self.seed)
        if stage in ('fit', 'validate'):
            self.val_dataset = parts['val'].dataset
            self.val_sampler = GridSceneSampler(parts['val'].regions, self.size)
        if stage == 'test':
            if (test := parts.get('test')) is None:
                raise ValueError(
                    'nothing is left to test on; give a test share in split'
                )
            self.test_dataset = test.dataset
            self.test_sampler = GridSceneSampler(test.regions, self.size)
        there = opened(parts)
        log.info(
            '%s regions',
            ', '.join(f'{len(part.regions)} {use}' for use, part in there.items()),
        )

    def learn_from(self, train: Part, seed: int) -> None:
        """Set up training patches.

        Args:
            train: What they are drawn from.
            seed: Chooses them.
        """
        self.train_dataset = train.dataset
        self.train_sampler = RandomSceneSampler(
            train.regions,
            self.size,
            self.length or self._length(train),
            seed,
            self._density(train),
        )

    def _density(self, train: Part) -> Density | None:
        if self.sampling == 'area':
            return None
        dataset = train.dataset
        labels = (
            dataset.labels_of(i) for i in sorted({r.scene for r in train.regions})
        )
        census = cached_census(
            dataset.scenes,
            train.regions,
            dataset.labels_of,
            0 if dataset.classes is None else len(dataset.classes),
            [*chain.from_iterable(map(_made_from, labels)), dataset.classes],
            side=min(CENSUS_SIDE, self.size),
        )
        return census.balanced() if self.sampling == 'balanced' else census.even()

    def _length(self, train: Part) -> int:
        windows = [region.window for region in train.regions]
        pixels = sum(int(window.width) * int(window.height) for window in windows)
        return max(round(pixels / self.size**2), LEAST_BATCHES * self.batch_size)

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Move a batch to a device; where its pixels lie stays behind.

        Geometry is double precision and must not be cast with the images: in half
        precision a scene moves by kilometres.
        """
        keys = ('image', 'mask', 'valid')
        pixels = {key: batch[key] for key in keys if key in batch}
        # TorchGeo's own deletes keys that differ between its versions.
        moved: dict[str, Any] = LightningDataModule.transfer_batch_to_device(
            self, pixels, device, dataloader_idx
        )
        return moved


def whole(dataset: SceneDataset) -> Part:
    """All scenes of a data set that have labels.

    Args:
        dataset: A data set that holds one split.
    """
    regions = (whole_scene(dataset.scenes, i) for i in dataset.labelled)
    return Part(dataset, tuple(regions))


def divided(
    dataset: SceneDataset, patch_size: int, val: float, test: float, seed: int
) -> dict[Use, Part]:
    """A data set in parts that do not overlap on the ground, by scene where possible.

    Args:
        dataset: A data set that holds all scenes.
        patch_size: Side of a patch in pixels.
        val: Share for validation.
        test: Share for testing; may be 0.
        seed: Chooses which are drawn.

    Raises:
        ValueError: If the scenes cannot be divided.
    """
    split = split_scenes(
        dataset.scenes, dataset.labelled, patch_size, val, test, seed=seed
    )
    log.info('split %s', split.rule)
    regions: dict[Use, tuple[ScenePatch, ...]] = {
        'train': split.train,
        'val': split.val,
        'test': split.test,
    }
    return {use: Part(dataset, part) for use, part in regions.items() if part}


def without_labels(part: Part) -> Part:
    """The same regions, and all scenes without labels, in a data set that has no labels.

    Args:
        part: Regions of a data set, with or without labels.
    """
    dataset = part.dataset
    alone = SceneDataset(
        dataset.scenes,
        [None] * len(dataset.scenes),
        None,
        resampling=dataset.resampling,
        transforms=dataset.transforms,
    )
    never = sorted(set(range(len(alone.scenes))) - set(dataset.labelled))
    rest = (whole_scene(alone.scenes, i) for i in never)
    return Part(alone, (*part.regions, *rest))


def inputs_of(train: Part, classes: Classes, patch_size: int) -> Inputs:
    """What a model must know to read some scenes and to name its answer.

    Args:
        train: What it is trained on; statistics are those of its regions.
        classes: What it answers.
        patch_size: Side of a patch in pixels.
    """
    scenes = train.dataset.scenes
    mean, std = band_statistics(scenes, train.regions, patch_size)
    scale = tuple(band.scale or 1.0 for band in scenes[0].bands)
    offset = tuple(band.offset or 0.0 for band in scenes[0].bands)
    return Inputs(
        bands=train.dataset.bands,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        classes=classes.names,
        colors=classes.legend.colors,
        patch_size=patch_size,
        res=_metres(train.dataset),
        values=classes.values,
        scale=scale if any(value != 1 for value in scale) else (),
        offset=offset if any(offset) else (),
    )


def classes_of(dataset: SceneDataset) -> Classes:
    """Classes of a data set that has labels.

    Raises:
        ValueError: If it has none.
    """
    if dataset.classes is None:
        raise ValueError(
            f'{type(dataset).__name__} has no labels here; training needs some'
        )
    return dataset.classes


def _made_from(labels: Labels | None) -> tuple[object, ...]:
    """What tells labels from others, also from others in the same file."""
    # Labels have some of these: file, column or array in it, what its values mean.
    facts = ('path', 'field', 'key', 'index', '_meaning', '_table')
    return type(labels).__name__, *(getattr(labels, fact, None) for fact in facts)


def _metres(dataset: SceneDataset) -> float | None:
    """Pixel size in metres; None for pictures that lie nowhere."""
    if dataset.crs.is_engineering:
        return None
    unit: float = dataset.crs.axis_info[0].unit_conversion_factor
    factor = METRES_PER_DEGREE if dataset.crs.is_geographic else unit
    return dataset.res[0] * factor
