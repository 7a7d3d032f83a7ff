"""A map of each of several checkpoints, from scenes that are read once."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor

from eoseg_datasets.scene import Scene

from ..checkpoint import (
    Checkpoint,
    Ensemble,
    Statistics,
    check_agreement,
    joint_predictor,
)
from ..inference.layers import Layers
from ..inference.scene import Predict
from ..inputs import Inputs
from ..io.journal import Journal
from .mapper import Mapper
from .products import MapFolder


@dataclass(frozen=True)
class _Together(Ensemble):
    """Checkpoints whose probabilities are put side by side."""

    @property
    def inputs(self) -> Inputs:
        """What the first sees, with the classes of all."""
        classes = [
            f'{number} {name}'
            for number, one in enumerate(self.members)
            for name in one.inputs.classes
        ]
        return replace(self.members[0].inputs, classes=tuple(classes))

    def predictor(
        self, device: torch.device, statistics: Statistics | None = None
    ) -> Predict:
        """Probabilities of all, as :func:`eoseg.checkpoint.joint_predictor` says."""
        return joint_predictor(self.members, device, statistics)


@dataclass(frozen=True)
class _Stacked(Layers):
    """What is stored of several maps, one after the other."""

    parts: tuple[Layers, ...] = ()

    @property
    def count(self) -> int:
        """Number of bands."""
        return sum(part.count for part in self.parts)

    def __call__(
        self, probabilities: Tensor, valid: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """Bands of all maps, of shape (count, H, W)."""
        sizes = [part.num_classes for part in self.parts]
        return np.concatenate(
            [
                part(own, valid)
                for part, own in zip(
                    self.parts, torch.split(probabilities, sizes), strict=True
                )
            ]
        )


class _Journals(Journal):
    """Journals of one scene in several folders, as one."""

    def __init__(self, parts: Sequence[Journal]) -> None:
        self.parts = parts

    def is_done(self, window: Window) -> bool:
        return all(part.is_done(window) for part in self.parts)

    def save(self, unit: tuple[Window, NDArray[np.uint8]]) -> Window:
        window, values = unit
        ends = np.cumsum([part.bands for part in self.parts])[:-1]
        for part, own in zip(self.parts, np.split(values, ends), strict=True):
            part.save((window, own))
        return window


class _Folders(MapFolder):
    """Folders of several maps of the same scenes, as one."""

    def __init__(self, parts: Sequence[MapFolder]) -> None:
        self.parts = parts
        self.area = parts[0].area
        layers = tuple(part.layers for part in parts)
        total = sum(part.num_classes for part in layers)
        self.layers = _Stacked(layers[0].names, total, layers)

    def journal(self, scene: Scene) -> Journal:
        return _Journals([part.journal(scene) for part in self.parts])


class Shared(Mapper):
    """Computes the units of a scene for all folders, when the first one asks for them.

    The units of the others wait in their journals; while the first folder is finished,
    the disk holds them for all scenes.
    """

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        folders: Sequence[MapFolder],
        options: Namespace,
        device: torch.device,
    ) -> None:
        """Initialize a new Shared instance.

        Args:
            checkpoints: What maps.
            folders: Where the maps of each go.
            options: Of the command line.
            device: Where to compute.

        Raises:
            CheckpointError: If the checkpoints see other bands, or their windows or
                pixels have another size.
        """
        check_agreement(
            checkpoints,
            ('bands', 'patch_size', 'res', 'scale', 'offset'),
            'Map with one after the other',
        )
        together = _Together(tuple(checkpoints))
        super().__init__(together, _Folders(folders), options, device)
        self.checkpoints, self.folders = checkpoints, folders
        self._done: dict[str, list[Window]] = {}

    def begin(self, number: int) -> None:
        """From now on a folder asks, and those before it are finished.

        After a run that was killed, nothing is computed for these again.

        Args:
            number: Which folder, counted from 0.
        """
        self.ensemble = _Together(tuple(self.checkpoints[number:]))
        self.folder = _Folders(self.folders[number:])

    def compute(self, scene: Scene) -> list[Window]:
        """Compute what is missing of a scene, once.

        Args:
            scene: What to map.

        Returns:
            All its units, which the journal of each folder has that is not finished.
        """
        if scene.name not in self._done:
            self._done[scene.name] = super().compute(scene)
        return self._done[scene.name]


def folder_names(paths: Sequence[Path]) -> list[str]:
    """Names for the folders of maps, each of its own.

    Args:
        paths: Checkpoints: by their names where these differ, else by those of their
            runs, else numbered.
    """
    runs = [
        path.parent.parent if path.parent.name == 'checkpoints' else path.parent
        for path in (path.resolve() for path in paths)
    ]
    for names in ([path.stem for path in paths], [run.name for run in runs]):
        if len(set(names)) == len(names) and all(names):
            return names
    return [f'{number}-{path.stem}' for number, path in enumerate(paths, 1)]
