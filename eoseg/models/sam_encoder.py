"""The image encoder of SAM with modules beside its blocks, for images of any size."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import window_partition, window_unpartition
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .atl import ATL


class ATLImageEncoder(nn.Module):
    """Image encoder of segment-anything that a module of :class:`ATL` adapts.

    The encoder is driven part by part and stays as it is; without a module, or with one
    that adds nothing, the answer is its own, bit for bit.

    On a GPU it computes in bfloat16 and keeps the input of each block only, from which
    the backward pass computes the block again: the attention of one global block of
    1024 x 1024 pixels and 16 heads alone takes a gigabyte in single precision.
    """

    def __init__(
        self,
        encoder: ImageEncoderViT,
        atl: ATL | None = None,
        bf16: bool | None = None,
        checkpointing: bool | None = None,
    ) -> None:
        """Initialize a new ATLImageEncoder instance.

        Args:
            encoder: Image encoder of segment-anything.
            atl: What adapts it; None leaves it alone.
            bf16: Whether it computes in bfloat16; by default on a GPU.
            checkpointing: Whether blocks are computed twice in training, to save memory;
                by default on a GPU.
        """
        super().__init__()
        self.encoder = encoder
        self.atl = atl
        self.bf16, self.checkpointing = bf16, checkpointing

    @property
    def patch_size(self) -> int:
        """Pixels per token."""
        size: int = self.encoder.patch_embed.proj.kernel_size[0]
        return size

    def forward(self, image: Tensor) -> Tensor:
        """Compute the image embedding.

        Args:
            image: Images of shape (B, C, H, W), normalised.

        Returns:
            Maps of shape (B, out_chans, H / 16, W / 16), of the type of the images.

        Raises:
            ValueError: If H or W is no multiple of the patch size.
        """
        self._check(image)
        with _precision(image.device, self.bf16):
            tokens = self.encoder.patch_embed(image)  # (B, h, w, D)
            features = self.atl.features(image, tokens) if self.atl else None
            stream = self._with_positions(tokens)
            for index in range(len(self.encoder.blocks)):
                stream = self._block(index, stream, features)
            embedding: Tensor = self.encoder.neck(stream.permute(0, 3, 1, 2))
        return embedding.to(image.dtype)

    def _check(self, image: Tensor) -> None:
        height, width = image.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f'SAM takes images whose sides are multiples of {self.patch_size} '
                f'pixels, got {height} x {width}. Cut or pad them, or give patches of '
                'another size'
            )

    def _with_positions(self, tokens: Tensor) -> Tensor:
        table: Tensor | None = self.encoder.pos_embed
        if table is None:
            return tokens
        # Made for the size of the images at construction; others are the exception.
        height, width = tokens.shape[1:3]
        return tokens + resized_positions(table, height, width)

    def _block(self, index: int, stream: Tensor, features: Tensor | None) -> Tensor:
        run = partial(self._run, index)
        saving = wanted_on(stream.device, self.checkpointing)
        if saving and torch.is_grad_enabled():
            again: Tensor = checkpoint(run, stream, features, use_reentrant=False)
            return again
        return run(stream, features)

    def _run(self, index: int, stream: Tensor, features: Tensor | None) -> Tensor:
        block = self.encoder.blocks[index]
        if self.atl is None or features is None:
            out: Tensor = block(stream)
        elif self.atl.location == 'pre_block':
            out = block(self.atl(index, stream, features))
        else:
            attended = self.atl(index, _attended(block, stream), features)
            stream = stream + attended
            out = stream + block.mlp(block.norm2(stream))
        return out


def resized_positions(table: Tensor, height: int, width: int) -> Tensor:
    """Position embeddings of another grid.

    Args:
        table: Embeddings of shape (1, h, w, D).
        height: Cells down.
        width: Cells across.

    Returns:
        Embeddings of shape (1, height, width, D), the very same where nothing changes.
    """
    if table.shape[1:3] == (height, width):
        return table
    maps = F.interpolate(
        table.permute(0, 3, 1, 2), (height, width), mode='bicubic', align_corners=False
    )
    return maps.permute(0, 2, 3, 1)


def resized_tables(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Bring tables of positions to the lengths of an encoder of another image size.

    Absolute positions are resized as pictures; those of global attention, relative ones,
    along their only direction, as segment-anything itself would in every pass. Windows
    have the same size in all encoders.

    Args:
        state: Tensors by name.
        wanted: Those of the encoder that they are for.

    Returns:
        The tensors, with those tables replaced.
    """
    return {
        name: _resized_table(name, tensor, wanted[name]) if name in wanted else tensor
        for name, tensor in state.items()
    }


def _resized_table(name: str, tensor: Tensor, wanted: Tensor) -> Tensor:
    if tensor.shape == wanted.shape or tensor.ndim != wanted.ndim:
        return tensor
    if name.endswith('pos_embed'):
        return resized_positions(tensor, *wanted.shape[1:3])
    if name.endswith(('rel_pos_h', 'rel_pos_w')):
        lines = F.interpolate(tensor.T[None], wanted.shape[0], mode='linear')
        return lines[0].T
    return tensor


def _attended(block: Any, stream: Tensor) -> Tensor:
    """What the attention of a block answers, without its shortcut."""
    height, width = stream.shape[1:3]
    tokens = block.norm1(stream)
    if block.window_size == 0:
        attended: Tensor = block.attn(tokens)
        return attended
    windows, padded = window_partition(tokens, block.window_size)
    attended = window_unpartition(
        block.attn(windows), block.window_size, padded, (height, width)
    )
    return attended


def wanted_on(device: torch.device, setting: bool | None) -> bool:
    """What a setting says, or None: yes on a GPU.

    Args:
        device: Where it is computed.
        setting: What the user says.
    """
    return device.type == 'cuda' if setting is None else setting


def _precision(
    device: torch.device, bf16: bool | None
) -> AbstractContextManager[object]:
    if wanted_on(device, bf16):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
