"""Frozen vision transformers that a student learns from."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from .frozen import FrozenNetwork
from .weights import load_pretrained

#: Modules of timm whose networks can teach: plain transformers (DINOv2, CLIP, MAE, …),
#: those with rotary embeddings (DINOv3, EVA-02), and the image encoder of SAM.
FAMILIES = ('vision_transformer', 'eva', 'vision_transformer_sam')


class Teacher(FrozenNetwork):
    """Feature maps of a frozen vision transformer.

    It has the same random weights every time if it gets none. The images are padded with
    zeros (the mean colour, once normalised) at the bottom and at the right to whole
    patches. On a GPU it computes in bfloat16.

    Follows the authors' implementation of KTDA in which blocks are read and that the
    final norm is applied to the last block alone. The encoder of SAM has no such norm.

    Attributes:
        dim: Channels of every map.
        patch_size: Pixels of the image per cell of every map.
        blocks: Blocks whose output is read, counted from 0.
    """

    def __init__(
        self,
        name: str = 'vit_small_patch14_dinov2',
        weights: Path | None = None,
        blocks: Sequence[int] | None = None,
        rgb: Sequence[int] = (0, 1, 2),
        norm_all: bool = False,
        **kwargs: Any,
    ) -> None:
        """Initialize a new Teacher instance.

        Args:
            name: Name of a vision transformer of timm: a plain one (DINOv2, CLIP, MAE),
                one with rotary embeddings (DINOv3, EVA-02) or the encoder of SAM.
            weights: File of pretrained weights. None for random ones, always the same.
            blocks: Blocks whose output is read, counted from 0. By default the last
                ones of the four quarters: 2, 5, 8 and 11 of 12.
            rgb: Where the image has red, green and blue, counted from 0.
            norm_all: Whether the final norm is applied to every block that is read.
            **kwargs: Changes to the network for ``timm.create_model``, for example
                ``patch_size``, ``img_size``, ``depth`` or ``embed_dim``.

        Raises:
            ValueError: If *name* is no vision transformer of timm, has no such block, or
                no final norm for *norm_all*.
            FileNotFoundError: If there is no file *weights*.
            CheckpointError: If *weights* are those of another network.
        """
        network = _frozen_transformer(name, kwargs)
        if weights is not None:
            load_pretrained(network, weights, len(rgb))
        chosen = _checked_blocks(name, blocks, len(network.blocks))
        normed = _blocks_with_norm(name, network, chosen, norm_all)
        super().__init__(
            network,
            settings=f'{name} {sorted(kwargs.items())} {chosen} {normed}',
            rgb=rgb,
            dim=network.embed_dim,
            patch_size=network.patch_embed.patch_size[0],
        )
        self.blocks = chosen
        self._normed = normed

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the maps of an image.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        """
        return token_grid(height, width, self.patch_size)

    @torch.no_grad()
    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps.

        Args:
            image: Images of shape (B, C, H, W), normalised.

        Returns:
            One map per block, each of shape (B, dim, ceil(H / patch_size),
            ceil(W / patch_size)), shallowest first.
        """
        height, width = image.shape[-2:]
        step = self.patch_size
        padded = F.pad(image[:, self.rgb], (0, -width % step, 0, -height % step))
        with _precision(image.device):
            maps = self.network.forward_intermediates(
                padded, indices=self.blocks, output_fmt='NCHW', intermediates_only=True
            )
        return [
            self._norm(feature.float()) if block in self._normed else feature.float()
            for block, feature in zip(self.blocks, maps, strict=True)
        ]

    def _norm(self, feature: Tensor) -> Tensor:
        channels_last: Tensor = self.network.norm(feature.permute(0, 2, 3, 1))
        return channels_last.permute(0, 3, 1, 2)


def token_grid(height: int, width: int, patch_size: int) -> tuple[int, int]:
    """Patches that it takes to cover an image, down and across.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        patch_size: Side of a patch in pixels.
    """
    return math.ceil(height / patch_size), math.ceil(width / patch_size)


def _precision(device: torch.device) -> AbstractContextManager[None]:
    """Half precision where it is fast, whatever that of the student is."""
    match device.type:
        case 'cuda':
            return torch.autocast('cuda', torch.bfloat16)
        case 'cpu':
            return torch.autocast('cpu', enabled=False)
        case _:
            return nullcontext()


def _frozen_transformer(name: str, changes: dict[str, Any]) -> Any:
    family = next(
        (f for f in FAMILIES if name.split('.')[0] in timm.list_models(module=f)), None
    )
    if family is None:
        raise ValueError(
            f'timm has no vision transformer {name!r} that can teach. List them with '
            f'timm.list_models(module=M), with M any of {", ".join(FAMILIES)}.'
        )
    # The encoder of SAM takes images of any size by itself.
    known = family != 'vision_transformer_sam'
    sized: dict[str, Any] = {'dynamic_img_size': True} if known else {}
    # Seed the generator of the CPU alone and put it back: with or without a teacher,
    # and on any device, everything after it draws the same numbers.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return timm.create_model(name, num_classes=0, **sized, **changes)


def _checked_blocks(name: str, blocks: Sequence[int] | None, depth: int) -> list[int]:
    quarters = [depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
    chosen = quarters if blocks is None else list(blocks)
    if not chosen or chosen != sorted(set(chosen) & set(range(depth))):
        raise ValueError(
            f'blocks must be increasing numbers from 0 to {depth - 1}, as {name} has '
            f'{depth} blocks; got {chosen}'
        )
    return chosen


def _blocks_with_norm(
    name: str, network: Any, blocks: Sequence[int], norm_all: bool
) -> list[int]:
    if not hasattr(network, 'norm'):
        if norm_all:
            raise ValueError(f'{name} has no final norm; leave out norm_all')
        return []
    last = len(network.blocks) - 1
    return [block for block in blocks if norm_all or block == last]
