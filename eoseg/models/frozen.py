"""Networks that others learn from and that stay as they are."""

import hashlib
from collections.abc import Sequence
from typing import Any, Self

from torch import nn


class FrozenNetwork(nn.Module):
    """A trained network: no gradient, and always in evaluation mode.

    So the statistics of its batch norms do not follow the batches of its students.

    Attributes:
        rgb: Channels of the image that it looks at.
        dim: Channels of its map, or of the one that sums up the others.
        patch_size: Pixels of the image per cell of its finest map.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: str,
        rgb: Sequence[int],
        dim: int,
        patch_size: int,
    ) -> None:
        """Initialize a new FrozenNetwork instance.

        Args:
            network: With its weights; it is not copied.
            settings: What its maps depend on beside the weights.
            rgb: Channels of the image that it looks at.
            dim: Channels of its map, or of the one that sums up the others.
            patch_size: Pixels of the image per cell of its finest map.
        """
        super().__init__()
        self.network: Any = network
        self.rgb, self.dim, self.patch_size = [*rgb], dim, patch_size
        self._settings = settings
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
        content = hashlib.sha256(self._settings.encode())
        for name, tensor in self.network.state_dict().items():
            content.update(name.encode())
            content.update(tensor.detach().cpu().contiguous().numpy().data)
        return content.hexdigest()[:16]
