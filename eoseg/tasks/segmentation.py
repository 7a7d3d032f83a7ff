"""Supervised segmentation, the baseline of every other task."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..inputs import Inputs
from ..losses import SegmentationLoss
from .base import Task


class Segmentation(Task):
    """Train a network on labels alone."""

    def __init__(
        self,
        inputs: Inputs,
        architecture: str = 'UNet',
        network: Mapping[str, Any] | None = None,
        dice: float = 0.0,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
    ) -> None:
        """Initialize a new Segmentation instance.

        Args:
            inputs: Bands, statistics and classes of the data.
            architecture: Name of a network of :mod:`eoseg.models`.
            network: Its arguments, beside in_channels and num_classes.
            dice: Weight of the Dice loss beside cross-entropy.
            lr: Peak learning rate of AdamW.
            weight_decay: Weight decay, not applied to biases and norms.
            warmup: Share of the steps in which the learning rate rises.
        """
        self.dice = dice
        super().__init__(inputs, architecture, network or {}, lr, weight_decay, warmup)

    def configure_losses(self) -> None:
        """Cross-entropy, and Dice if it has a weight."""
        self.criterion = SegmentationLoss(dice=self.dice)

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Loss of the logits, as :meth:`Task.losses` says."""
        logits = self.model(self.network_input(batch))
        return {'loss': self.criterion(logits, batch['mask'])}
