"""U-Net, the supervised baseline."""

from pathlib import Path

import segmentation_models_pytorch as smp
from torch import Tensor, nn
from torch.nn import functional as F

from .weights import load_pretrained


class UNet(nn.Module):
    """U-Net on a network of timm.

    If you use this model in your research, please cite the following paper:

    * https://arxiv.org/abs/1505.04597
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        backbone: str = 'resnet18',
        backbone_weights: str | None = None,
    ) -> None:
        """Initialize a new UNet instance.

        All arguments are plain values, so that a checkpoint can name them.

        Args:
            in_channels: Channels of the image.
            num_classes: Number of classes, K.
            backbone: Name of a network of timm.
            backbone_weights: File of its pretrained weights. None for random ones.

        Raises:
            CheckpointError: If *backbone_weights* are those of another network.
        """
        super().__init__()
        self.network = smp.Unet(
            f'tu-{backbone}',
            encoder_weights=None,
            in_channels=in_channels,
            classes=num_classes,
        )
        if backbone_weights is not None:
            encoder = self.network.encoder.model
            load_pretrained(encoder, Path(backbone_weights), in_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            image: Images of shape (B, C, H, W), of any size: the last row and column are
                repeated to whole cells of the coarsest map.

        Returns:
            Logits of shape (B, K, H, W).
        """
        height, width = image.shape[-2:]
        stride = self.network.encoder.output_stride
        padding = (0, -width % stride, 0, -height % stride)
        logits: Tensor = self.network(F.pad(image, padding, mode='replicate'))
        return logits[..., :height, :width]
