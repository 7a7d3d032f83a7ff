"""Two tiny domains in memory, and a run of the adaptation on one process or two.

python pairs_in_memory.py DEVICES OUT
"""

import os
import sys
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from eoseg.inputs import Inputs
from eoseg.models import heads
from eoseg.tasks import DomainAdaptation

INPUTS = Inputs(
    bands=('R', 'G', 'B'),
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    classes=('field', 'house', 'tree'),
    colors=('#009e73', '#d55e00', '#0072b2'),
    patch_size=64,
)
NETWORK: dict[str, Any] = {
    'backbone': 'convnext_atto', 'head_channels': 8, 'dropout': 0.0,
}  # fmt: skip
QUIET: dict[str, Any] = {
    'logger': False, 'enable_checkpointing': False, 'accelerator': 'cpu',
    'enable_progress_bar': False, 'enable_model_summary': False,
}  # fmt: skip


class Pairs(Dataset[dict[str, Any]]):
    """Squares of three values; the target is darker and has the bands in reverse."""

    def __init__(self, length: int, seed: int = 0, labelled: bool = False) -> None:
        self.length, self.seed, self.labelled = length, seed, labelled

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        source = sample(1000 * self.seed + 2 * index)
        target = sample(1000 * self.seed + 2 * index + 1)
        target['image'] = target['image'].flip(0) * 0.7 - 0.2
        mask = target.pop('mask')
        if self.labelled:
            return target | {'mask': mask}
        return {'source': source, 'target': target}


def sample(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(0, 3, (4, 4), generator=generator)
    mask = cells.repeat_interleave(16, 0).repeat_interleave(16, 1)
    colors = torch.tensor([[1.0, -1, 0], [0, 1, -1], [-1, 0, 1]])
    noise = 0.3 * torch.randn(3, 64, 64, generator=generator)
    return {
        'image': colors[mask].movedim(-1, 0) + noise,
        'mask': mask,
        'valid': torch.ones(64, 64, dtype=torch.bool),
    }


def loader(length: int = 4, batch_size: int = 2, seed: int = 0) -> DataLoader[Any]:
    return DataLoader(Pairs(length, seed), batch_size)


def adaptation(
    seed: int = 0, inputs: Inputs = INPUTS, **arguments: Any
) -> DomainAdaptation:
    torch.manual_seed(seed)
    network = NETWORK | arguments.pop('network', {})
    return DomainAdaptation(inputs, network, **arguments)


def run(devices: int, out: str) -> None:
    """Three iterations on batches of four, which the processes share."""
    # The norm of a batch is another one in half of it.
    heads.BatchNorm = nn.Identity  # type: ignore[assignment, misc]
    # Each pixel counts by itself: the share of sure ones is that of a process.
    settings = {'threshold': 0.0, 'rare_threshold': 1.0, 'adversarial': 1.0}
    task = adaptation(lr=1e-3, discriminator_lr=1e-3, settings=settings)
    distributed: dict[str, Any] = {'use_distributed_sampler': False}
    if devices > 1:
        distributed['strategy'] = 'ddp_find_unused_parameters_true'
    trainer = Trainer(max_epochs=1, devices=devices, **QUIET, **distributed)
    # Every other one: together, the processes see the batches of one.
    pairs = Pairs(12)
    rank = int(os.environ.get('LOCAL_RANK', '0'))
    share: DistributedSampler[Any] = DistributedSampler(
        pairs, devices, rank, shuffle=False
    )
    trainer.fit(task, DataLoader(pairs, 4 // devices, sampler=share))
    torch.save(task.state_dict(), f'{out}.{trainer.global_rank}')


if __name__ == '__main__':
    run(int(sys.argv[1]), sys.argv[2])
