"""Any folder of radar scenes with optical images of the same places."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from torchgeo.datasets import DatasetNotFoundError

from eoseg_datasets.radar import RadarOpticalFolder
from eoseg_datasets.scene_dataset import whole_scene

from ..inputs import Inputs
from ..transforms import RandomFlips
from .scene_folder import SceneFolderDataModule
from .scenes import Part, Use

log = logging.getLogger(__name__)


class RadarOpticalDataModule(SceneFolderDataModule):
    """Radar scenes with labels, and optical images of the same places on any grid.

    See :class:`~eoseg_datasets.radar.RadarOpticalFolder`. In an image the radar bands
    come first; optical bands are on the grid of the radar, NaN where there are none.
    """

    def __init__(
        self,
        root: str | Path,
        sar: Mapping[str, Literal['dB', 'power', 'amplitude']],
        optical: Sequence[str] | None = None,
        unlabelled: bool = False,
        flips: Sequence[Literal['horizontal', 'vertical']] = ('horizontal', 'vertical'),
        **kwargs: Any,
    ) -> None:
        """Initialize a new RadarOpticalDataModule instance.

        Args:
            root: Folder of ``images``, ``optical`` and ``labels``.
            sar: Unit of each radar band by its name, in the order of the files where
                these do not state names.
            optical: Names of the optical bands, in the order of the files; needed where
                these do not state names.
            unlabelled: Whether scenes without labels are trained on, too: a student
                learns from them what the teacher sees. No label of another part is read
                there, but the ground may be that of another part.
            flips: Ways in which training patches are flipped. Radar looks to one side;
                a flip along that side turns shadows round.
            **kwargs: More arguments of :class:`~.scene_folder.SceneFolderDataModule`.
        """
        super().__init__(root, **kwargs)
        self.sar = dict(sar)
        self.optical = optical
        self.with_unlabelled = unlabelled
        self.train_aug = RandomFlips(flips)

    @cached_property
    def all_scenes(self) -> RadarOpticalFolder:
        """The data set; all parts read from it."""
        try:
            dataset = RadarOpticalFolder(
                self.root,
                [*self.sar],
                self.optical,
                self.bands,
                self.class_field,
                self.class_names,
            )
        except DatasetNotFoundError:
            raise FileNotFoundError(
                f'{self.root / "images"} has no scenes. Put radar there, optical images '
                f'of the same names into {self.root / "optical"}, and labels into '
                f'{self.root / "labels"}'
            ) from None
        for item in dataset.rejected:
            if item.status == 'failed' or item.reason != 'not a raster':
                log.info('%s is not used: %s', item.path, item.reason)
        return dataset

    @cached_property
    def parts(self) -> Mapping[Use, Part]:
        """One data set, divided by scene or by blocks.

        Raises:
            ValueError: If no scene has labels.
        """
        parts = dict(super().parts)
        if self.with_unlabelled:
            train, dataset = parts['train'], self.all_scenes
            never = sorted(set(range(len(dataset.scenes))) - set(dataset.labelled))
            more = (whole_scene(dataset.scenes, i) for i in never)
            parts['train'] = Part(dataset, (*train.regions, *more))
        return parts

    @cached_property
    def inputs(self) -> Inputs:
        """What a model must know to read these scenes and to name its answer."""
        inputs: Inputs = super().inputs
        units = [self.sar.get(band, '') for band in inputs.bands]
        return replace(inputs, radar={'units': units})
