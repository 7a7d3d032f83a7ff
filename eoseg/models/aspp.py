"""Head of DeepLabv3+."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .heads import _classifier, conv_norm_relu, resize

#: Distances between the cells that a convolution sees. The authors' 12, 24 and 36 are for
#: cells a quarter as wide.
DILATIONS = (1, 3, 6, 9)

#: Channels of the finest map beside the context.
_LOW_CHANNELS = 48


class ASPPHead(nn.Module):
    """Logits from the context of the coarsest map and the detail of the finest.

    If you use this module in your research, please cite the following paper:

    * https://arxiv.org/abs/1802.02611
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int = 512,
        dropout: float = 0.1,
        dilations: Sequence[int] = DILATIONS,
    ) -> None:
        """Initialize a new ASPPHead instance.

        Args:
            in_channels: Channels of each map, finest first.
            num_classes: Number of classes, K.
            channels: Channels inside of the head.
            dropout: Rate at which channels are dropped before the last layer.
            dilations: Cells from one to the next that a convolution sees, of each branch.
        """
        super().__init__()
        coarsest = in_channels[-1]
        self.pooling = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), conv_norm_relu(coarsest, channels, 1)
        )
        self.branches = nn.ModuleList(
            conv_norm_relu(coarsest, channels, 1)
            if dilation == 1
            else _separable(coarsest, channels, dilation)
            for dilation in dilations
        )
        self.bottleneck = conv_norm_relu(channels * (len(dilations) + 1), channels, 3)
        self.low = conv_norm_relu(in_channels[0], _LOW_CHANNELS, 1)
        self.fusion = nn.Sequential(
            _separable(channels + _LOW_CHANNELS, channels),
            _separable(channels, channels),
        )
        self.classifier = _classifier(channels, num_classes, dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute the logits.

        Args:
            features: Maps of shapes (B, C_i, h_i, w_i), finest first. Only the first and
                the last are read.

        Returns:
            Logits of shape (B, K, h_0, w_0).
        """
        finest, coarsest = features[0], features[-1]
        pooled = resize(self.pooling(coarsest), coarsest.shape[-2:])
        branches = [branch(coarsest) for branch in self.branches]
        context = self.bottleneck(torch.cat([pooled, *branches], dim=1))
        context = resize(context, finest.shape[-2:])
        logits: Tensor = self.classifier(
            self.fusion(torch.cat([context, self.low(finest)], dim=1))
        )
        return logits


def _separable(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Module:
    """A convolution of each channel by itself, then of each cell by itself."""
    each = nn.Conv2d(
        in_channels, in_channels, 3, padding=dilation, dilation=dilation,
        groups=in_channels, bias=False,
    )  # fmt: skip
    nn.init.kaiming_normal_(each.weight, mode='fan_out', nonlinearity='relu')
    norm = nn.BatchNorm2d(in_channels)
    return nn.Sequential(
        each, norm, nn.ReLU(inplace=True), conv_norm_relu(in_channels, out_channels, 1)
    )
