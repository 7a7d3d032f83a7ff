"""What a checkpoint must say to be usable on a scene, and loading it."""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from .errors import CheckpointError
from .inference.callables import averaged
from .inference.scene import Predict
from .inputs import CHECKPOINT_FORMAT, CHECKPOINT_KEY, Inputs
from .models import AdaptedSAM, SAMBase, create_model, find_base
from .models.sam_base import where_to_get
from .transforms import standardizer

#: Mean and standard deviation of each band.
Statistics = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with what it expects to see."""

    path: Path
    inputs: Inputs
    network: nn.Module
    #: SHA-256 of the file; maps say it, so that one knows what made them.
    sha256: str

    @classmethod
    def load(cls, path: Path, over: Self | None = None) -> Self:
        """Load a checkpoint that `eoseg fit` wrote. No code of the file is run.

        Args:
            path: A ``.ckpt`` file.
            over: Another adapter of the same SAM, whose frozen weights are used as well.

        Raises:
            FileNotFoundError: If it does not exist, or is an adapter whose base is not
                here.
            CheckpointError: If it is no checkpoint, or not one of eoseg, or an adapter
                for another base.
        """
        content = _read(path)
        said = content.get(CHECKPOINT_KEY)
        if not isinstance(said, dict):
            raise CheckpointError(
                f'{path} is a checkpoint, but not one that can map a scene: it does not '
                'say its bands and classes. Give best.ckpt of a run of `eoseg fit`'
            )
        if said['format'] > CHECKPOINT_FORMAT:
            raise CheckpointError(
                f'{path} was written by eoseg {said["version"]}, a newer version; '
                'upgrade with pip install -U eoseg'
            )
        inputs = Inputs.from_dict(said['inputs'])
        if over is None:
            network = _build(said, inputs, path)
        else:
            network = _build_over(over, said, inputs, path)
        _load_weights(network, content['state_dict'], path)
        with path.open('rb') as file:
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
        return cls(path, inputs, network.eval(), digest)

    def predictor(
        self, device: torch.device, statistics: Statistics | None = None
    ) -> Predict:
        """The function from images to probabilities that maps scenes.

        Args:
            device: Where it computes.
            statistics: Mean and standard deviation of each band to standardize with; by
                default those of the training data.

        Returns:
            A function of images of shape (B, C, H, W) as the reader gives them, NaN where
            a pixel is not valid, to probabilities of shape (B, K, H, W), on *device*.
        """
        mean, std = statistics or (self.inputs.mean, self.inputs.std)
        standardize = standardizer(mean, std, self.inputs.radar).to(device)
        # Convolutions on the CPU are about twice as fast with the channels last.
        network = self.network.to(device).to(memory_format=torch.channels_last)
        dtype = next(network.parameters()).dtype

        @torch.inference_mode()
        def predict(image: Tensor) -> Tensor:
            image = image.to(device, memory_format=torch.channels_last)
            logits: Tensor = network(standardize(image).to(dtype))
            return logits.float().softmax(dim=1)

        return predict


@dataclass(frozen=True)
class Ensemble:
    """Checkpoints whose probabilities are averaged; often it is one alone."""

    members: tuple[Checkpoint, ...]

    @classmethod
    def load(cls, paths: Sequence[Path]) -> Self:
        """Load checkpoints of one task.

        Args:
            paths: At least one; what they were trained on may differ, but not what they
                expect to see and what they answer.

        Raises:
            FileNotFoundError: If one does not exist.
            CheckpointError: If one is no checkpoint of eoseg, or they do not agree.
        """
        members = tuple(Checkpoint.load(path) for path in paths)
        check_agreement(
            members,
            ('bands', 'classes', 'scale', 'offset', 'res'),
            'Give checkpoints of one task',
        )
        return cls(members)

    @property
    def inputs(self) -> Inputs:
        """What all members expect to see and answer."""
        return self.members[0].inputs

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, or of those of all members in their order."""
        hashes = [member.sha256 for member in self.members]
        if len(hashes) == 1:
            return hashes[0]
        return hashlib.sha256(' '.join(hashes).encode()).hexdigest()

    @property
    def name(self) -> str:
        """Paths of the files."""
        return ' + '.join(str(member.path) for member in self.members)

    def in_bfloat16(self) -> Self:
        """The same, computing with numbers of half the length.

        Some classes differ: of a random network about those of one in 300 pixels. Weights
        of that type are faster on a CPU than casting them at every step. Tensors that the
        members share stay shared.
        """
        networks = copy.deepcopy([member.network for member in self.members])
        pairs = zip(self.members, networks, strict=True)
        return replace(
            self,
            members=tuple(
                replace(member, network=network.to(torch.bfloat16))
                for member, network in pairs
            ),
        )

    def compile(self, device: torch.device) -> None:
        """Compile the networks for this machine, each time a size of batch is new.

        Args:
            device: Where they will compute; on a GPU as CUDA graphs, which replay all of
                a batch at once.
        """
        mode = 'reduce-overhead' if device.type == 'cuda' else 'default'
        for member in self.members:
            member.network.compile(mode=mode, dynamic=False)

    def predictor(
        self, device: torch.device, statistics: Statistics | None = None
    ) -> Predict:
        """The mean of the members' predictions, as :meth:`Checkpoint.predictor` says."""
        return averaged(
            [member.predictor(device, statistics) for member in self.members]
        )


def check_agreement(
    checkpoints: Sequence[Checkpoint], names: Sequence[str], advice: str
) -> None:
    """Refuse checkpoints that expect to see different things.

    Args:
        checkpoints: At least one.
        names: What must agree, of :class:`~eoseg.inputs.Inputs`.
        advice: What to do if it does not.

    Raises:
        CheckpointError: If they do not agree.
    """
    first, *others = checkpoints
    for other, name in product(others, names):
        ours, theirs = getattr(first.inputs, name), getattr(other.inputs, name)
        if ours != theirs:
            raise CheckpointError(
                f'{first.path} and {other.path} cannot map together: {name} are '
                f'{ours} and {theirs}. {advice}'
            )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        what = 'is a folder' if path.is_dir() else 'does not exist'
        raise FileNotFoundError(
            f'{path} {what}; give checkpoints/best.ckpt of a run of `eoseg fit`'
        )
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    # What is no checkpoint meets the unpickler with many kinds of errors.
    except Exception as error:
        raise CheckpointError(
            f'{path} is no checkpoint, or one that was cut short '
            f'({path.stat().st_size} bytes). Give checkpoints/best.ckpt of a run of '
            '`eoseg fit`'
        ) from error
    if not isinstance(content, dict) or 'state_dict' not in content:
        raise CheckpointError(
            f'{path} holds no state_dict, so it is no checkpoint of a training; give '
            'checkpoints/best.ckpt of a run of `eoseg fit`'
        )
    return content


def _build(said: dict[str, Any], inputs: Inputs, path: Path) -> nn.Module:
    """The network of a checkpoint, over its base if it is an adapter."""
    base = said.get('base')
    found = {} if base is None else {'weights': _base_file(base, path)}
    network = create_model(
        said['architecture'],
        in_channels=inputs.in_channels,
        num_classes=inputs.num_classes,
        **said['network'] | found,
    )
    if isinstance(network, AdaptedSAM):
        _check_base(base, network.base, path)
    return network


def _base_file(base: dict[str, Any], path: Path) -> str | None:
    if base['file'] is None:  # random weights, always the same
        return None
    file = find_base(base['file'], [path.parent])
    if file is None:
        raise FileNotFoundError(
            f'{path} holds an adapter for {base["name"]} {base["hash"]}, whose weights '
            f'are not on this machine. {where_to_get(base["file"])} It may also lie '
            'beside the checkpoint'
        )
    return str(file)


def _check_base(said: dict[str, Any] | None, base: SAMBase | None, path: Path) -> None:
    if said is not None and base is not None and said['hash'] != base.hash:
        raise CheckpointError(
            f'{path} is an adapter for the base {said["name"]} {said["hash"]}; '
            f'{base.file or "the random one of this version of torch"} is '
            f'{base.name} {base.hash}. Put the weights that it was trained with beside it'
        )


def _build_over(
    over: Checkpoint, said: dict[str, Any], inputs: Inputs, path: Path
) -> nn.Module:
    """The network of an adapter, whose frozen tensors are those of another one."""
    base, below = said.get('base'), over.network
    if base is None or not isinstance(below, AdaptedSAM):
        raise CheckpointError(
            f'{path if base is None else over.path} is no adapter of a frozen SAM, so '
            'that it shares nothing; map with it by itself'
        )
    _check_base(base, below.base, path)
    _check_bands(over, inputs, path)
    with torch.device('meta'):  # without memory: all of its tensors are replaced
        network = create_model(
            said['architecture'],
            in_channels=inputs.in_channels,
            num_classes=inputs.num_classes,
            **said['network'],
        )
    assert isinstance(network, AdaptedSAM)
    network.base = SAMBase(**base)
    network.share(below)
    return network


def _check_bands(first: Checkpoint, inputs: Inputs, path: Path) -> None:
    if inputs.bands != first.inputs.bands:
        raise CheckpointError(
            f'{first.path} sees the bands {", ".join(first.inputs.bands)}, {path} sees '
            f'{", ".join(inputs.bands)}; map with one after the other'
        )


def _load_weights(network: nn.Module, state: dict[str, Any], path: Path) -> None:
    prefix = 'model.'
    own = network.state_dict()
    # What is beside the network is for training: discriminators, teachers, projectors.
    given = {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix)
    }
    below = network.frozen() if isinstance(network, AdaptedSAM) else set()
    # Auxiliary heads are for training; checkpoints for mapping come without.
    missing = [
        key
        for key in own
        if key not in given and key not in below and not key.startswith('auxiliary.')
    ]
    unknown = [key for key in given if key not in own]
    if missing or unknown:
        raise CheckpointError(
            f'{path} does not fit its own network: {len(missing)} weights are missing '
            f'({", ".join(missing[:3])}), {len(unknown)} are unknown '
            f'({", ".join(unknown[:3])}). It was changed or cut short; train again'
        )
    network.load_state_dict(given, strict=False, assign=True)


def load_adapters(paths: Sequence[Path]) -> list[Checkpoint]:
    """Load several adapters of one SAM, which is in memory once.

    Args:
        paths: Checkpoints of :class:`~eoseg.tasks.SAMAdapter`, at least one.

    Raises:
        FileNotFoundError: If one of them, or their base, does not exist.
        CheckpointError: If one is no adapter, they are for different bases, or they see
            different bands.
    """
    first = Checkpoint.load(paths[0])
    return [first, *(Checkpoint.load(path, over=first) for path in paths[1:])]


def joint_predictor(
    checkpoints: Sequence[Checkpoint],
    device: torch.device,
    statistics: Statistics | None = None,
) -> Predict:
    """The function from images to the probabilities of several checkpoints.

    An image is read once, whatever the number of maps that are made of it.

    Args:
        checkpoints: What :func:`load_adapters` gives, or others that see the same bands.
        device: Where it computes.
        statistics: As :meth:`Checkpoint.predictor` takes them.

    Returns:
        A function of images of shape (B, C, H, W) to probabilities of shape
        (B, K1 + K2 + …, H, W): the classes of the first checkpoint, then of the second.

    Raises:
        CheckpointError: If the checkpoints see different bands.
    """
    for checkpoint in checkpoints[1:]:
        _check_bands(checkpoints[0], checkpoint.inputs, checkpoint.path)
    each = [one.predictor(device, statistics) for one in checkpoints]

    def predict(image: Tensor) -> Tensor:
        return torch.cat([one(image) for one in each], dim=1)

    return predict
