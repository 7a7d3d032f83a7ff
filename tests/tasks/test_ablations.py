"""Every row of the page about switches takes a step, at a tiny size."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from eoseg.inputs import Inputs
from eoseg.tasks import Distillation

PAGE = Path(__file__).parents[2] / 'docs' / 'how-to' / 'ktda-switches.md'

INPUTS = Inputs(
    bands=('R', 'G', 'B'),
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    classes=('low', 'middle-low', 'middle', 'middle-high', 'high'),
    colors=('#b96547', '#f8ca9b', '#d3e89e', '#8abf68', '#5c904d'),
    patch_size=32,
)


def rows() -> dict[str, dict[str, Any]]:
    """Changes by what they are for, from the tables of the page."""
    found = re.findall(
        r'^\| (.*?) \| `(\{.*\})` \|$', PAGE.read_text('utf-8'), re.MULTILINE
    )
    return {name: yaml.safe_load(change) for name, change in found}


ROWS = rows()


def tiny(change: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the task: the change, on networks as small as they can be."""
    asked = {'network': {}, 'teacher': {}} | change
    network = {'backbone': 'convnext_atto', 'drop_path_rate': 0.4} | asked['network']
    network |= {'head_channels': 8, 'dim': 16}
    teacher = asked['teacher']
    if teacher is not None:
        blocks = teacher.get('blocks', [0, 1, 2, 3])
        teacher = {
            **teacher, 'name': 'vit_tiny_patch16_224', 'patch_size': 14, 'img_size': 28,
            'depth': max(blocks) + 1, 'embed_dim': 16, 'num_heads': 2,
        }  # fmt: skip
    return asked | {'network': network, 'teacher': teacher}


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        'image': torch.randn(2, 3, 32, 32, generator=generator) * 50 + 100,
        'mask': torch.randint(5, (2, 32, 32), generator=generator),
        'valid': torch.ones(2, 32, 32, dtype=torch.bool),
    }


def test_the_page_has_all_rows() -> None:
    assert len(ROWS) == 44
    named = ' '.join(ROWS)
    letters = [*'acdefghijklmnopstuvwxyz', 'aa', 'ab']
    assert [one for one in letters if f'`experiment_{one}`' not in named] == []


@pytest.mark.parametrize('row', ROWS)
def test_every_row_takes_a_step(row: str) -> None:
    torch.manual_seed(0)
    change = ROWS[row]
    task = Distillation(INPUTS, **tiny(change)).train()
    losses = task.losses(batch())
    torch.autograd.backward(losses['loss'])
    assert losses['loss'].isfinite()
    network = change.get('network', {})
    assert ('distillation' in losses) == (change.get('teacher', {}) is not None)
    assert ('auxiliary' in losses) == (network.get('auxiliary') is not False)
    backbone = task.model.backbone.network
    learns = any(parameter.grad is not None for parameter in backbone.parameters())
    assert learns != change.get('freeze_backbone', False)
