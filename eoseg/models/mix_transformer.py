"""Backbone of SegFormer."""

from collections.abc import Sequence
from pathlib import Path

from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from ..errors import CheckpointError
from .backbone import STRIDES
from .weights import load_state


class MixTransformer(nn.Module):
    """Backbone of SegFormer, as segmentation-models-pytorch has it.

    Attributes:
        channels: Channels of each map, finest first.
        strides: Pixels of the image per cell of each map.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        weights: Path | None = None,
        drop_path_rate: float = 0.0,
    ) -> None:
        """Initialize a new MixTransformer instance.

        Args:
            name: ``mit_b0`` to ``mit_b5``.
            in_channels: Channels of the image.
            weights: File of pretrained weights, in the names of the authors of
                SegFormer. None for random ones.
            drop_path_rate: Rate of stochastic depth in the last block.

        Raises:
            FileNotFoundError: If there is no file *weights*.
            CheckpointError: If *weights* are those of another network.
        """
        super().__init__()
        network = get_encoder(name, in_channels=3, weights=None)
        network.reset_drop_path(drop_path_rate)
        if weights is not None:
            _load(network, name, weights)
        network.set_in_channels(in_channels, pretrained=weights is not None)
        self.network = network
        self.strides = STRIDES
        self.channels: list[int] = list(network.out_channels[-4:])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            image: Images of shape (B, C, H, W).

        Returns:
            Four maps of shapes (B, C_i, H_i, W_i), finest first.
        """
        maps: list[Tensor] = self.network.forward_features(image)
        return maps


def _load(network: nn.Module, name: str, path: Path) -> None:
    state = load_state(path)
    # The classifier of ImageNet.
    given = {key: value for key, value in state.items() if not key.startswith('head.')}
    own = network.state_dict()
    wrong = [
        *(key for key in own if key not in given or given[key].shape != own[key].shape),
        *(key for key in given if key not in own),
    ]
    if wrong:
        raise CheckpointError(
            f'{path} does not fit {name}: {_first(wrong)} missing, of another shape or '
            'unknown. Use weights of exactly this network.'
        )
    network.load_state_dict(given)


def _first(names: Sequence[str]) -> str:
    more = ', …' if len(names) > 3 else ''
    return f'{len(names)} weights ({", ".join(names[:3])}{more})'
