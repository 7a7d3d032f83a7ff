"""A trained network as it is, for a student of another sensor to learn from."""

import hashlib
from typing import Self

import torch
from torch import Tensor, nn

from .hfdnet import LEVELS, HFDNet

#: Maps that it gives, in this order.
MAPS = (*LEVELS, 'logits')


class OpticalTeacher(nn.Module):
    """Feature maps and logits of a frozen :class:`HFDNet`.

    It stays as it is: no gradient, always in evaluation mode, so that the statistics of
    its batch norms do not follow the batches of the student.

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
        super().__init__()
        self.network = network
        first = next(iter(network.parameters()))
        self.rgb = list(range(first.shape[1]))
        self.dim = network.channels['z']
        self.patch_size = network.backbone.strides[0]
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever *mode* says.

        Args:
            mode: Ignored: a teacher does not learn.

        Returns:
            Itself.
        """
        return super().train(False)

    def fingerprint(self) -> str:
        """16 hex digits that tell teachers apart which give different maps."""
        content = hashlib.sha256(type(self.network).__name__.encode())
        for name, tensor in self.network.state_dict().items():
            content.update(name.encode())
            content.update(tensor.detach().cpu().contiguous().numpy().data)
        return content.hexdigest()[:16]

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
