"""A trained network as it is, for a student of another sensor to learn from."""

import torch
from torch import Tensor

from .frozen import FrozenNetwork
from .hfdnet import LEVELS, HFDNet

#: Maps that it gives, in this order.
MAPS = (*LEVELS, 'logits')


class OpticalTeacher(FrozenNetwork):
    """Feature maps and logits of a frozen :class:`HFDNet`.

    Attributes:
        rgb: Channels that it looks at: all of them.
        dim: Channels of the aggregated map.
        patch_size: Pixels of the image per cell of its finest map.
    """

    def __init__(self, network: HFDNet) -> None:
        """Initialize a new OpticalTeacher instance.

        Args:
            network: With its trained weights; it is not copied.
        """
        first = next(iter(network.parameters()))
        super().__init__(
            network,
            settings=type(network).__name__,
            rgb=range(first.shape[1]),
            dim=network.channels['z'],
            patch_size=network.backbone.strides[0],
        )

    @torch.no_grad()
    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the maps.

        Args:
            image: Optical images of shape (B, C, H, W), standardized.

        Returns:
            ``f1`` to ``f4``, ``z`` and logits, each of shape (B, C_i, h_i, w_i).
        """
        maps = self.network.forward_train(image).maps
        return [maps[name] for name in MAPS]
