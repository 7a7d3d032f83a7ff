"""What a checkpoint must say to be usable on a scene, and loading it."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from .errors import CheckpointError
from .inputs import CHECKPOINT_FORMAT, CHECKPOINT_KEY, Inputs
from .models import create_model
from .transforms import Standardize

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
    def load(cls, path: Path) -> Self:
        """Load a checkpoint that `eoseg fit` wrote. No code of the file is run.

        Args:
            path: A ``.ckpt`` file.

        Raises:
            FileNotFoundError: If it does not exist.
            CheckpointError: If it is no checkpoint, or not one of eoseg.
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
        network = create_model(
            said['architecture'],
            in_channels=inputs.in_channels,
            num_classes=inputs.num_classes,
            **said['network'],
        )
        _load_weights(network, content['state_dict'], path)
        with path.open('rb') as file:
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
        return cls(path, inputs, network.eval(), digest)

    def predictor(
        self, device: torch.device, statistics: Statistics | None = None
    ) -> Callable[[Tensor], Tensor]:
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
        standardize = Standardize(mean, std).to(device)
        # Convolutions on the CPU are about twice as fast with the channels last.
        network = self.network.to(device).to(memory_format=torch.channels_last)

        @torch.inference_mode()
        def predict(image: Tensor) -> Tensor:
            image = image.to(device, memory_format=torch.channels_last)
            probabilities: Tensor = network(standardize(image)).float().softmax(dim=1)
            return probabilities

        return predict


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


def _load_weights(network: nn.Module, state: dict[str, Any], path: Path) -> None:
    prefix = 'model.'
    own = network.state_dict()
    given = {key.removeprefix(prefix): value for key, value in state.items()}
    # Auxiliary heads are for training; checkpoints for mapping come without.
    missing = [
        key for key in own if key not in given and not key.startswith('auxiliary.')
    ]
    unknown = [key for key in given if key not in own]
    if missing or unknown:
        raise CheckpointError(
            f'{path} does not fit its own network: {len(missing)} weights are missing '
            f'({", ".join(missing[:3])}), {len(unknown)} are unknown '
            f'({", ".join(unknown[:3])}). It was changed or cut short; train again'
        )
    network.load_state_dict(given, strict=False)
