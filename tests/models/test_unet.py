from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn import functional as F

from eoseg.errors import CheckpointError
from eoseg.models import UNet

NETWORK = 'mobilenetv3_small_050'
MODEL = UNet(4, 3, backbone=NETWORK).eval()


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_logits_have_the_size_of_the_image(height: int, width: int) -> None:
    with torch.no_grad():
        assert MODEL(torch.randn(1, 4, height, width)).shape == (1, 3, height, width)


def test_image_of_whole_cells_is_not_padded() -> None:
    image = torch.randn(1, 4, 32, 64)
    with torch.no_grad():
        assert torch.equal(MODEL(image), MODEL.network(image))


def test_last_row_and_column_are_repeated() -> None:
    image = torch.randn(1, 4, 30, 61)
    padded = F.pad(image, (0, 3, 0, 2), mode='replicate')
    with torch.no_grad():
        torch.testing.assert_close(MODEL(image), MODEL(padded)[..., :30, :61])


def test_weights_of_the_encoder_are_those_of_the_file(tmp_path: Path) -> None:
    whole: Any = timm.create_model(NETWORK)
    path = tmp_path / 'a.safetensors'
    save_file(whole.state_dict(), path)
    model = UNet(3, 2, backbone=NETWORK, backbone_weights=str(path))
    torch.testing.assert_close(
        model.network.encoder.model.conv_stem.weight, whole.conv_stem.weight
    )
    with pytest.raises(CheckpointError, match='does not fit resnet18'):
        UNet(3, 2, backbone_weights=str(path))
