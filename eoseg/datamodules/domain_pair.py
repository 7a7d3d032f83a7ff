"""A labelled domain and another one that a model is to work on."""

import logging
from functools import cached_property
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import CombinedLoader

from eoseg_datasets import SceneDataset
from eoseg_datasets.classes import IGNORE_INDEX, Classes

from ..compat import GeoDataModule
from ..inputs import Inputs
from .scenes import Part, SceneDataModule, classes_of, inputs_of

log = logging.getLogger(__name__)


class DomainPairDataModule(GeoDataModule):
    """Patches of a source domain with labels, and of a target domain without.

    A training batch is ``{'source': …, 'target': …}``. The source has ``image``, ``mask``
    and ``valid`` as everywhere, the target ``image`` and ``valid``. Labels of the target
    are never read for training: the data set that its patches come from does not know
    them, and scenes that have none are used, too. An epoch is as long as that of the domain
    with more batches; from the other one, more are drawn.

    Validation and test are on the target, in batches as of any data module; what the
    source would have kept of its training split for validation is learned from, too. If no
    scene of the target has labels, validation is on the source, which a message says, and
    there is no test: see :attr:`val_domain`.

    Both domains have the same classes and as many bands; which bands may differ (near
    infrared, red and green in one, red, green and blue in the other).
    """

    def __init__(self, source: SceneDataModule, target: SceneDataModule) -> None:
        """Initialize a new DomainPairDataModule instance.

        Args:
            source: The domain with labels.
            target: The other one. Its batch size, patch size and augmentation are its
                own, and so are the bands.

        Raises:
            ValueError: If patches of the target are to be drawn by class.
        """
        if target.sampling == 'balanced':
            raise ValueError(
                'sampling of the target must be area or valid, got balanced: its labels '
                'are not read for training'
            )
        super().__init__(SceneDataset, source.batch_size, source.size)
        self.source = source
        self.target = target

    @cached_property
    def inputs(self) -> Inputs:
        """What a model must know to read scenes of the target, which it is made for.

        Statistics are those of the target's training regions and of its scenes without
        labels.

        Raises:
            ValueError: If the domains differ in their classes, or in their number of
                bands.
        """
        return inputs_of(self.target.unlabelled, self._classes, self.target.size)

    @cached_property
    def source_inputs(self) -> Inputs:
        """What a model must know to read scenes of the source."""
        return inputs_of(self._source_part, self._source_classes, self.source.size)

    @property
    def val_domain(self) -> Literal['source', 'target']:
        """Domain that batches for validation come from."""
        return 'target' if self.target.labelled else 'source'

    @property
    def _validated(self) -> SceneDataModule:
        return self.target if self.target.labelled else self.source

    @cached_property
    def _source_part(self) -> Part:
        train, val = self.source.parts['train'], self.source.parts.get('val')
        if (
            self.val_domain == 'source'
            or val is None
            or val.dataset is not train.dataset
        ):
            return train
        # Kept from the training split, for a validation that is elsewhere.
        return Part(train.dataset, (*train.regions, *val.regions))

    @cached_property
    def _source_classes(self) -> Classes:
        return classes_of(self._source_part.dataset)

    @cached_property
    def _classes(self) -> Classes:
        """Classes of the target; those of the source if it has no labels."""
        ours = self._source_part.dataset.bands
        theirs = self.target.unlabelled.dataset.bands
        if len(ours) != len(theirs):
            raise ValueError(
                f'the source has {len(ours)} bands ({", ".join(ours)}), the target has '
                f'{len(theirs)} ({", ".join(theirs)}); name as many in bands of both, '
                'those that resemble each other in the same place'
            )
        if not self.target.labelled:
            return self._source_classes
        classes = classes_of(self.target.parts['train'].dataset)
        if classes.names != self._source_classes.names:
            raise ValueError(
                'source and target have to have the same classes in the same order; '
                f'those of the source are {", ".join(self._source_classes.names)}, those '
                f'of the target {", ".join(classes.names)}. In a folder of scenes, '
                'classes.csv names them'
            )
        return classes

    def setup(self, stage: str) -> None:
        """Set up data sets and samplers of both domains.

        Args:
            stage: 'fit', 'validate', 'test' or 'predict'.

        Raises:
            ValueError: If the domains do not fit together, or if there is nothing to
                test on.
        """
        for domain in (self.source, self.target):
            # By what the trainer does, they know which augmentation is due.
            domain.trainer = self.trainer
        if stage == 'fit':
            self._learn()
        if stage in ('fit', 'validate'):
            if self.val_domain == 'source':
                log.warning(
                    'the target has no labels: validation is on the source, whose '
                    'scores do not tell how good maps of the target will be'
                )
            self._validated.setup('validate')
        if stage == 'test' and not self.target.labelled:
            raise ValueError(
                'the target has no labels to test on; add some, or test with the source '
                'alone as data'
            )
        if stage in ('test', 'predict'):
            self.target.setup(stage)

    def _learn(self) -> None:
        log.info(
            'from bands %s of the source to %s of the target',
            ', '.join(self.source_inputs.bands),
            ', '.join(self.inputs.bands),
        )
        self.source.learn_from(self._source_part, self.source.seed)
        # With the same seed, two domains of one layout would always show the same place.
        self.target.learn_from(self.target.unlabelled, self.target.seed + 1)
        domains = (self.source, self.target)
        batches = max(len(d.train_sampler) // d.batch_size for d in domains)
        for domain in domains:
            # As many of each, as a loader that begins anew within an epoch would draw
            # what it will draw in the next one.
            domain.train_sampler.length = max(batches, 1) * domain.batch_size

    def train_dataloader(self) -> Any:
        """Batches of both domains side by side."""
        loaders = {
            'source': self.source.train_dataloader(),
            'target': self.target.train_dataloader(),
        }
        return CombinedLoader(loaders, 'max_size_cycle')

    def val_dataloader(self) -> Any:
        """Batches for validation."""
        return self._validated.val_dataloader()

    def test_dataloader(self) -> Any:
        """Batches of the target for testing."""
        return self.target.test_dataloader()

    def predict_dataloader(self) -> Any:
        """Batches of the target for prediction, if it has some."""
        return self.target.predict_dataloader()

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Move a batch, or one of each domain, to a device."""
        if 'source' not in batch:
            return self._validated.transfer_batch_to_device(
                batch, device, dataloader_idx
            )
        return {
            'source': self.source.transfer_batch_to_device(
                batch['source'], device, dataloader_idx
            ),
            'target': self.target.transfer_batch_to_device(
                batch['target'], device, dataloader_idx
            ),
        }

    def on_after_batch_transfer(
        self, batch: dict[str, Any], dataloader_idx: int
    ) -> dict[str, Any]:
        """Augment a batch, each domain as its own data module does."""
        if 'source' not in batch:
            alone: dict[str, Any] = self._validated.on_after_batch_transfer(
                batch, dataloader_idx
            )
            return alone
        # Augmentations move masks with their images: one without a label is as good.
        target = batch['target']
        nothing = torch.full_like(target['valid'], IGNORE_INDEX, dtype=torch.int64)
        target = self.target.on_after_batch_transfer(
            target | {'mask': nothing}, dataloader_idx
        )
        return {
            'source': self.source.on_after_batch_transfer(
                batch['source'], dataloader_idx
            ),
            'target': {key: target[key] for key in target if key != 'mask'},
        }
