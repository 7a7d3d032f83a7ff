"""SAM, frozen, learns a few classes by a small adapter (TransLandSeg)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from ..errors import CheckpointError
from ..inputs import CHECKPOINT_KEY, Inputs
from ..losses import BCEDiceLoss
from ..models import AdaptedSAM
from ..transforms import ColorJitter
from .base import Task

#: Mean and standard deviation of red, green and blue in ImageNet, as shares of white. SAM
#: was trained with them.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Learning rate at the end, as published.
LAST_LR = 1e-7


class SAMAdapter(Task):
    """Train the adapter and the mask decoder of a SAM; the rest of it stays as it is.

    The loss is 0.5 x cross-entropy + 0.5 x Dice, see :class:`~eoseg.losses.BCEDiceLoss`;
    the learning rate falls as a cosine, once per epoch. A checkpoint holds what was
    trained, and says which SAM belongs under it.

    If you use this task in your research, please cite the following papers:

    * https://arxiv.org/abs/2304.02643
    * https://doi.org/10.1109/JSTARS.2025.3559884
    """

    def __init__(
        self,
        inputs: Inputs,
        network: Mapping[str, Any] | None = None,
        bands: Sequence[str] | None = None,
        white: float | None = None,
        jitter: bool = False,
        loss: Mapping[str, Any] | None = None,
        lr: float = 2e-4,
        weight_decay: float = 0.01,
    ) -> None:
        """Initialize a new SAMAdapter instance.

        Args:
            inputs: Bands, statistics and classes of the data.
            network: Arguments of :class:`~eoseg.models.AdaptedSAM`, beside in_channels
                and num_classes.
            bands: Names of the three bands of *inputs* that SAM sees as red, green and
                blue, in place of *rgb* of the network. By default it sees all.
            white: Value of the data that stands for white. With it, red, green and blue
                are standardized with the statistics of ImageNet, as SAM was trained;
                without, with those of the data.
            jitter: Whether brightness and colour of training images are changed at
                random, see :class:`~eoseg.transforms.ColorJitter`; it needs *white*.
            loss: Arguments of :class:`~eoseg.losses.BCEDiceLoss`.
            lr: Learning rate of AdamW at the beginning.
            weight_decay: Weight decay, of all that is trained.

        Raises:
            ValueError: If *bands* are no three of the data, *white* is given for other
                than three bands, or *jitter* without it.
        """
        chosen = dict(network or {})
        if bands is not None:
            chosen['rgb'] = inputs.channels_of(bands)
        if white is not None:
            inputs = _as_sam_was_trained(inputs, chosen.get('rgb'), white)
        elif jitter:
            raise ValueError(
                'jitter needs to know which value stands for white; give white, such as '
                '255 for pictures of 8 bit'
            )
        if jitter and inputs.in_channels != 3:
            raise ValueError(
                f'jitter is for red, green and blue, the data have {inputs.in_channels} '
                'bands; choose three of them in the data module, or leave it out'
            )
        self.loss_arguments = dict(loss or {})
        super().__init__(inputs, 'AdaptedSAM', chosen, lr, weight_decay, warmup=0.0)
        self.jitter = ColorJitter(white) if jitter and white else None

    model: AdaptedSAM

    def configure_losses(self) -> None:
        """Cross-entropy and Dice."""
        self.criterion = BCEDiceLoss(
            ignore_index=self.inputs.ignore_index, **self.loss_arguments
        )

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Loss of the logits, as :meth:`Task.losses` says."""
        self._check(batch)
        shown = self.jitter(dict(batch)) if self.jitter is not None else batch
        terms = self.criterion(self.model(self.network_input(shown)), batch['mask'])
        told = {'bce': terms.bce.detach(), 'dice': terms.dice.detach()}
        return {'loss': terms.total} | told

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; the learning rate falls as a cosine to 1e-7.

        Once per epoch, as published; with every step where the length of the training is
        given in steps.
        """
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = AdamW(trained, lr=self.lr, weight_decay=self.weight_decay)
        epochs, steps = self.trainer.max_epochs or -1, self.trainer.max_steps
        by_step = steps > 0 or epochs <= 0
        length = int(self.trainer.estimated_stepping_batches) if by_step else epochs
        return {
            'optimizer': optimizer,
            'lr_scheduler': {
                'scheduler': CosineAnnealingLR(optimizer, length, LAST_LR),
                'interval': 'step' if by_step else 'epoch',
            },
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the frozen SAM, and say which one it is."""
        super().on_save_checkpoint(checkpoint)
        base = self.model.base
        checkpoint[CHECKPOINT_KEY]['base'] = base and base._asdict()
        frozen = {f'model.{name}' for name in self.model.frozen()}
        state = checkpoint['state_dict']
        checkpoint['state_dict'] = {k: v for k, v in state.items() if k not in frozen}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put what was trained over the frozen SAM that is here.

        Raises:
            CheckpointError: If it was trained over another one, or the data have other
                bands or classes.
        """
        base = self.model.base
        said = checkpoint.get(CHECKPOINT_KEY, {}).get('base')
        if said is not None and (base is None or said['hash'] != base.hash):
            raise CheckpointError(
                f'the checkpoint is for the base {said["name"]} {said["hash"]}, this '
                f'network has {f"{base.name} {base.hash}" if base else "none"}; give the '
                f'weights that it was trained with ({said["file"] or "null"})'
            )
        super().on_load_checkpoint(checkpoint)
        own = self.state_dict()
        checkpoint['state_dict'] |= {
            f'model.{name}': own[f'model.{name}'] for name in self.model.frozen()
        }

    def origin(self) -> dict[str, Any]:
        """File of the SAM that the training began with."""
        base = self.model.base
        return {
            'backbone': {
                'name': base.name if base else None,
                'weights': base.hash if base and base.file else None,
            }
        }


def _as_sam_was_trained(
    inputs: Inputs, rgb: Sequence[int] | None, white: float
) -> Inputs:
    """Statistics of ImageNet for red, green and blue; others keep their own."""
    places = range(inputs.in_channels) if rgb is None else rgb
    if len(places) != 3:
        raise ValueError(
            f'white is for red, green and blue, the data have {inputs.in_channels} '
            'bands; name three of them as bands, or leave white out'
        )
    mean, std = list(inputs.mean), list(inputs.std)
    for place, m, s in zip(places, MEAN, STD, strict=True):
        mean[place], std[place] = m * white, s * white
    return replace(inputs, mean=tuple(mean), std=tuple(std))
