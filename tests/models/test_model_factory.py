import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from eoseg import models
from eoseg.errors import CheckpointError
from eoseg.models import MODELS, create_model

ARGUMENTS: dict[str, dict[str, Any]] = {
    'AdaptedSAM': {'size': 'tiny', 'img_size': 64},
    'HFDNet': {'backbone': 'mobilenetv3_small_050', 'channels': 8},
    'KTDA': {
        'backbone': 'mobilenetv3_small_050',
        'dim': 8,
        'modulation': 'none',
        'head_channels': 4,
        'auxiliary': False,
    },
    'STDASegNet': {'backbone': 'mobilenetv3_small_050', 'head_channels': 8},
    'UNet': {'backbone': 'mobilenetv3_small_050', 'backbone_weights': None},
}


@pytest.mark.parametrize('name', sorted(MODELS))
def test_name_and_plain_values_rebuild_a_model(name: str) -> None:
    arguments = {'in_channels': 4, 'num_classes': 3, **ARGUMENTS[name]}
    trained = create_model(name, **arguments).eval()
    stored = json.loads(json.dumps(arguments))
    rebuilt = create_model(name, **stored).eval()
    rebuilt.load_state_dict(trained.state_dict())
    image = torch.randn(1, 4, 64, 64)
    assert torch.equal(rebuilt(image), trained(image))


def test_names_are_those_of_the_classes() -> None:
    assert all(getattr(models, name) is network for name, network in MODELS.items())


def test_unknown_name_lists_the_models() -> None:
    with pytest.raises(CheckpointError, match=r"No model named 'SAM'.*KTDA, .*UNet"):
        create_model('SAM')


def test_unknown_argument_lists_the_arguments() -> None:
    with pytest.raises(
        CheckpointError, match=r'UNet has no depth\..*in_channels, num_'
    ):
        create_model('UNet', in_channels=3, num_classes=2, depth=3)


def test_models_do_without_lightning_and_torchgeo() -> None:
    code = (
        'import sys, eoseg.models.factory; '
        "print({'lightning', 'pytorch_lightning', 'torchgeo'} & sys.modules.keys())"
    )
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == 'set()'
