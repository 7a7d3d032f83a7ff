"""An optical teacher, then a radar student of the same architecture (HFD-Net-style)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..inputs import CHECKPOINT_KEY, Inputs
from ..losses import FeatureDistance, SegmentationLoss, logit_distance
from ..models import CachedTeacher, HFDNet, OpticalTeacher, create_model
from ..models.optical_teacher import MAPS
from ..transforms import RandomSpeckle, StandardizeRadar, standardizer
from ..transforms.radar import check_units
from .base import Task, hash_of

#: What *radar* may say of the input; the rest is about the augmentation.
_INPUT, _AUGMENTATION = ('limits', 'filter'), ('looks', 'gain')


class CrossModalDistillation(Task):
    """Train a network on radar, with what another one has learned from optical images.

    In two stages: the ``teacher`` learns from optical bands and labels. Frozen, it shows
    the ``student``, which sees radar alone, what its feature maps should look like where
    both have seen the ground. The loss of the student is

        cross-entropy + *dice* x Dice loss
            + *weight* x distance of the maps + *logits* x divergence of classes

    A checkpoint of the student has radar bands only; nothing optical is needed to test it
    or to map scenes. That of the teacher maps optical scenes.

    This is HFD-Net-style: two stages, one architecture with separate weights, pairs for
    training and radar alone for testing are those of the paper; layers, distances,
    weights and schedule are ours, as the details of the paper are not known to us.

    If you use this task in your research, please cite the following papers:

    * https://arxiv.org/abs/2210.08988
    * https://doi.org/10.1109/LGRS.2023.3293160
    """

    #: Nor is the teacher one: who tests a student need not have it.
    ignore = (*Task.ignore, 'teacher')
    #: Projectors are compared with the teacher.
    training_only = (*Task.training_only, 'distance.')

    def __init__(
        self,
        inputs: Inputs,
        sar: Mapping[str, str] | None = None,
        stage: Literal['teacher', 'student'] = 'student',
        network: Mapping[str, Any] | None = None,
        teacher: str | None = None,
        distillation: Mapping[str, Any] | None = None,
        radar: Mapping[str, Any] | None = None,
        dice: float = 0.0,
        lr: float = 1e-4,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
    ) -> None:
        """Initialize a new CrossModalDistillation instance.

        Args:
            inputs: Bands, statistics and classes of the data.
            sar: Radar bands of *inputs* and their units: dB, power or amplitude. All
                others are optical. By default what the data say of their bands.
            stage: Whether this trains the ``teacher`` or the ``student``.
            network: Arguments of :class:`~eoseg.models.HFDNet`, beside in_channels and
                num_classes; the student's should be those of its teacher.
            teacher: Checkpoint of a teacher, for the student. Without one it learns from
                labels alone.
            distillation: Arguments of :class:`~eoseg.losses.FeatureDistance`, beside
                channels; *weight* of the distance (1) and *logits*, that of the
                divergence of classes (0). With *cache*, a folder, maps of the teacher
                are kept there, see :class:`~eoseg.models.CachedTeacher`.
            radar: What is done to radar: *limits*, lowest and highest decibel by band;
                *filter*, side in pixels and looks of
                :func:`~eoseg.transforms.lee_filter`; *looks* and *gain* of
                :class:`~eoseg.transforms.RandomSpeckle` in training.
            dice: Weight of the Dice loss beside cross-entropy, in both stages, where a
                class is rare.
            lr: Peak learning rate of AdamW.
            weight_decay: Weight decay, not applied to biases and norms.
            warmup: Share of the steps in which the learning rate rises.

        Raises:
            ValueError: If radar bands or units are not declared or unknown, or there are
                no bands for the stage.
            CheckpointError: If *teacher* is no checkpoint of such a teacher, or one for
                other bands or classes.
        """
        said, augmentation = _parted(radar or {})
        units = _declared(inputs, sar)
        #: Bands of the data, in the order of the channels of a batch.
        self.data_inputs = inputs
        self.sar = tuple(units)
        self.optical = tuple(band for band in inputs.bands if band not in units)
        if stage == 'teacher' and not self.optical:
            raise ValueError(
                'a teacher sees optical bands, but all bands of the data are radar: '
                f'{", ".join(inputs.bands)}. Give data with optical bands'
            )
        self.stage, self.dice = stage, dice
        self.teacher_file = teacher if stage == 'student' else None
        named = dict(distillation or {})
        self.weight = float(named.pop('weight', 1.0))
        self.logit_weight = float(named.pop('logits', 0.0))
        self.cache = named.pop('cache', None)
        self.distance_arguments = named
        if stage == 'teacher':
            own = replace(_selected(inputs, self.optical), radar=None)
        else:
            own = replace(_selected(inputs, self.sar), radar=_radar(units, **said))
        super().__init__(own, 'HFDNet', network or {}, lr, weight_decay, warmup)
        self.speckle = RandomSpeckle(**augmentation)

    model: HFDNet

    @property
    def _learns_from_teacher(self) -> bool:
        return self.teacher_file is not None and bool(self.weight or self.logit_weight)

    def configure_models(self) -> None:
        """Build the network; load the teacher of a student."""
        super().configure_models()
        # In a list the teacher is no sub-module: it is not trained, not saved, and not
        # among the parameters.
        self._teacher: list[OpticalTeacher | CachedTeacher] = []
        if not self._learns_from_teacher:
            return
        assert self.teacher_file is not None
        # With or without a teacher, everything after it draws the same numbers.
        with torch.random.fork_rng(devices=[]):
            network, seen = load_teacher(Path(self.teacher_file))
            self._check_teacher(seen)
            teacher = OpticalTeacher(network)
            self._teacher.append(
                CachedTeacher(teacher, Path(self.cache)) if self.cache else teacher
            )
            self.show_teacher = standardizer(seen.mean, seen.std, seen.radar)
            self._teacher_bands = seen.bands
            self.distance = FeatureDistance(
                self.model.channels, **self.distance_arguments
            )
        _check_alike(self.model, network, self.distance, self.logit_weight)

    def _check_teacher(self, seen: Inputs) -> None:
        lacking = [band for band in seen.bands if band not in self.optical]
        if lacking:
            raise CheckpointError(
                f'the teacher {self.teacher_file} sees the bands '
                f'{", ".join(seen.bands)}, the optical bands of the data are '
                f'{", ".join(self.optical) or "none"}; give data with '
                f'{", ".join(lacking)}, or a teacher that was trained on these data'
            )
        if seen.classes != self.inputs.classes:
            raise CheckpointError(
                f'the teacher {self.teacher_file} knows the classes '
                f'{", ".join(seen.classes)}, the data have '
                f'{", ".join(self.inputs.classes)}; train a teacher on these data'
            )

    def configure_losses(self) -> None:
        """Cross-entropy, and Dice if it has a weight."""
        self.criterion = SegmentationLoss(dice=self.dice)

    def on_fit_start(self) -> None:
        """Bring the teacher to where the student is trained."""
        for teacher in self._teacher:
            teacher.to(self.device)

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Loss of the logits and of the maps, as :meth:`Task.losses` says."""
        own = self._own(batch)
        image = self.network_input(own)
        output = self.model.forward_train(image)
        terms = {'segmentation': self.criterion(output.logits, own['mask'])}
        told: dict[str, Tensor] = {}
        for teacher in self._teacher:
            optical, seen = self._shown_to_teacher(batch)
            maps = dict(zip(MAPS, teacher(optical), strict=True))
            distance = self.distance(output.maps, maps, seen)
            terms['distillation'] = self.weight * distance.total
            told = {f'distance_{name}': d for name, d in distance.levels.items()}
            if self.logit_weight:
                terms['logits'] = self.logit_weight * logit_distance(
                    output.maps['logits'], maps['logits'], seen
                )
        return {'loss': torch.stack([*terms.values()]).sum()} | terms | told

    def network_input(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Standardized images of the bands of this stage, 0 where a pixel is not valid.

        Training images of radar get speckle, if that is asked for.

        Raises:
            ValueError: If the images have other bands, or the masks other classes.
        """
        own = self._own(batch)
        augmented = self.training and (self.speckle.looks or self.speckle.gain)
        if not (augmented and isinstance(self.standardize, StandardizeRadar)):
            image: Tensor = super().network_input(own)
            return image
        self._check(own)
        hidden = ~own['valid'][:, None]
        decibel = self.standardize.decibel(own['image'].masked_fill(hidden, torch.nan))
        noisy: Tensor = self.standardize.from_decibel(self.speckle(decibel))
        return noisy

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Add a batch to the confusion matrix; show the first one."""
        super().validation_step(self._own(batch), batch_idx)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Add a batch to the confusion matrix."""
        super().test_step(self._own(batch), batch_idx)

    def _own(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A batch with the bands of this stage, and no label where it sees nothing.

        Images of these bands alone are taken as they are: radar is enough to test.
        """
        self._check_domain(batch)
        known = self.data_inputs.bands
        if batch['image'].shape[1] != len(known):
            return dict(batch)
        image = batch['image'][:, [known.index(band) for band in self.inputs.bands]]
        own = {**batch, 'image': image}
        if self.stage == 'teacher':
            seen = batch['valid'] & image.isfinite().all(dim=1)
            own['valid'] = seen
            if 'mask' in batch:
                own['mask'] = batch['mask'].where(seen, self.inputs.ignore_index)
        return own

    def _check_domain(self, batch: Mapping[str, Tensor]) -> None:
        if 'image' not in batch:
            self._check(batch)  # says what is wrong

    def _shown_to_teacher(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the teacher sees, and where both have seen the ground."""
        known = self.data_inputs.bands
        if batch['image'].shape[1] != len(known):
            raise ValueError(
                f'a student with a teacher learns from the bands {", ".join(known)}, '
                f'the images have {batch["image"].shape[1]}; give pairs, or leave out '
                'teacher'
            )
        optical = batch['image'][:, [known.index(band) for band in self._teacher_bands]]
        seen = batch['valid'] & optical.isfinite().all(dim=1)
        return self.show_teacher(optical.masked_fill(~seen[:, None], torch.nan)), seen

    def origin(self) -> dict[str, Any]:
        """Backbone and teacher that the training began with."""
        if not self._learns_from_teacher:
            return super().origin()
        teacher = {'name': 'HFDNet', 'weights': hash_of(self.teacher_file)}
        return super().origin() | {'teacher': teacher}


def load_teacher(path: Path) -> tuple[HFDNet, Inputs]:
    """A trained network and what it expects to see. No code of the file is run.

    Args:
        path: Checkpoint of a ``teacher`` stage, or of any training of ``HFDNet``.

    Raises:
        FileNotFoundError: If it does not exist.
        CheckpointError: If it is no such checkpoint.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no teacher {path}; train one first: --stage teacher, or leave '
            'out --stage to train both'
        )
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
        said = content[CHECKPOINT_KEY]
        inputs = Inputs.from_dict(said['inputs'])
        architecture = said['architecture']
    # What is no checkpoint meets the unpickler with many kinds of errors.
    except Exception as error:
        raise CheckpointError(
            f'{path} is no checkpoint of `eoseg fit`; give best.ckpt of a teacher'
        ) from error
    network = create_model(
        architecture,
        in_channels=inputs.in_channels,
        num_classes=inputs.num_classes,
        **said['network'],
    )
    if not isinstance(network, HFDNet):
        raise CheckpointError(
            f'{path} is a {architecture}; a teacher has the architecture of its '
            'student, HFDNet. Train one with --stage teacher'
        )
    state = content['state_dict']
    network.load_state_dict(
        {
            key.removeprefix('model.'): value
            for key, value in state.items()
            if key.startswith('model.')
        }
    )
    return network, inputs


def _check_alike(
    student: HFDNet, teacher: HFDNet, distance: FeatureDistance, logits: float
) -> None:
    """Refuse to compare maps of different numbers of channels or cells."""
    if logits and (student.detail is None) != (teacher.detail is None):
        raise CheckpointError(
            'classes can be compared where teacher and student both have a path for '
            'detail, or neither has; give both the same detail in network'
        )
    if distance.distance == 'attention':
        return
    differing = [
        level
        for level in distance.levels
        if student.channels[level] != teacher.channels[level]
    ]
    if differing:
        raise CheckpointError(
            'the teacher has other channels than the student in '
            f'{", ".join(differing)}; give both the same backbone and channels in '
            'network, or compare by attention'
        )


def _declared(inputs: Inputs, sar: Mapping[str, str] | None) -> dict[str, str]:
    """Radar bands and their units, in the order of the channels of the student."""
    if sar is None:
        units = inputs.radar['units'] if inputs.radar is not None else ()
        pairs = zip(inputs.bands, units, strict=False)
        sar = {band: unit for band, unit in pairs if unit}
    if not sar:
        raise ValueError(
            f'which of the bands {", ".join(inputs.bands)} are radar, and in which unit? '
            'Declare each as dB, power or amplitude: --model.sar "{VV: dB, VH: dB}"'
        )
    if lacking := [band for band in sar if band not in inputs.bands]:
        raise ValueError(
            f'the data have no radar band {", ".join(lacking)}; their bands are '
            f'{", ".join(inputs.bands)}. Change sar'
        )
    check_units([*sar.values()])
    return dict(sar)


def _selected(inputs: Inputs, bands: Sequence[str]) -> Inputs:
    """What a network must know that sees some of the bands."""
    places = [inputs.bands.index(band) for band in bands]

    def of(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(values[place] for place in places) if values else ()

    return replace(
        inputs,
        bands=tuple(bands),
        mean=of(inputs.mean),
        std=of(inputs.std),
        scale=of(inputs.scale),
        offset=of(inputs.offset),
    )


def _parted(
    radar: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is done to every radar image, and what in training alone."""
    known = _INPUT + _AUGMENTATION
    if unknown := [name for name in radar if name not in known]:
        raise ValueError(f'radar takes {", ".join(known)}; got {", ".join(unknown)}')
    return (
        {name: radar[name] for name in _INPUT if name in radar},
        {name: radar[name] for name in _AUGMENTATION if name in radar},
    )


def _radar(
    units: Mapping[str, str],
    limits: Mapping[str, Sequence[float]] | None = None,
    filter: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Arguments of StandardizeRadar, as plain values for a checkpoint."""
    given = limits or {}
    if lacking := [band for band in given if band not in units]:
        raise ValueError(
            f'limits are for radar bands ({", ".join(units)}), got {", ".join(lacking)}'
        )
    ends = [given.get(band, (None, None)) for band in units]
    return {
        'units': [*units.values()],
        'low': [low for low, _ in ends],
        'high': [high for _, high in ends],
        'speckle': None if filter is None else list(filter),
    }
