"""Frozen vision transformers that a student learns from."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from .weights import load_pretrained


class Teacher(nn.Module):
    """Feature maps of a frozen vision transformer.

    It stays as it is: no gradient, always in evaluation mode, and the same random
    weights every time if it gets none. The images are padded with zeros (the mean
    colour, once normalised) at the bottom and at the right to whole patches.

    Follows the authors' implementation of KTDA in which blocks are read and that the
    final norm is applied to the last block alone.

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
        **kwargs: Any,
    ) -> None:
        """Initialize a new Teacher instance.

        Args:
            name: Name of a vision transformer of timm.
            weights: File of pretrained weights. None for random ones, always the same.
            blocks: Blocks whose output is read, counted from 0. By default the last
                ones of the four quarters: 2, 5, 8 and 11 of 12.
            rgb: Where the image has red, green and blue, counted from 0.
            **kwargs: Changes to the network for ``timm.create_model``, for example
                ``patch_size``, ``img_size``, ``depth`` or ``embed_dim``.

        Raises:
            ValueError: If *name* is no vision transformer of timm, or has no such block.
            CheckpointError: If *weights* are those of another network.
        """
        super().__init__()
        self.rgb = list(rgb)
        self.network = _frozen_transformer(name, kwargs)
        if weights is not None:
            load_pretrained(self.network, weights, len(self.rgb))
        self.blocks = _checked_blocks(name, blocks, len(self.network.blocks))
        self.dim: int = self.network.embed_dim
        self.patch_size: int = self.network.patch_embed.patch_size[0]
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
        maps = cast(
            list[Tensor],
            self.network.forward_intermediates(
                image[:, self.rgb],
                indices=self.blocks,
                norm=False,
                output_fmt='NCHW',
                intermediates_only=True,
            ),
        )
        if self.blocks[-1] == len(self.network.blocks) - 1:
            channels_last = maps[-1].permute(0, 2, 3, 1)
            maps[-1] = self.network.norm(channels_last).permute(0, 3, 1, 2)
        return maps


def token_grid(height: int, width: int, patch_size: int) -> tuple[int, int]:
    """Patches that it takes to cover an image, down and across.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        patch_size: Side of a patch in pixels.
    """
    return math.ceil(height / patch_size), math.ceil(width / patch_size)


def _frozen_transformer(name: str, changes: dict[str, Any]) -> VisionTransformer:
    if name.split('.')[0] not in timm.list_models(module='vision_transformer'):
        raise ValueError(
            f'timm has no vision transformer {name!r}. List them with '
            "timm.list_models(module='vision_transformer')."
        )
    # Seed the generator of the CPU alone and put it back: with or without a teacher,
    # and on any device, everything after it draws the same numbers.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return cast(
            VisionTransformer,
            timm.create_model(
                name,
                num_classes=0,
                dynamic_img_size=True,
                dynamic_img_pad=True,
                **changes,
            ),
        )


def _checked_blocks(name: str, blocks: Sequence[int] | None, depth: int) -> list[int]:
    quarters = [depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
    chosen = quarters if blocks is None else list(blocks)
    if not chosen or chosen != sorted(set(chosen) & set(range(depth))):
        raise ValueError(
            f'blocks must be increasing numbers from 0 to {depth - 1}, as {name} has '
            f'{depth} blocks; got {chosen}'
        )
    return chosen
