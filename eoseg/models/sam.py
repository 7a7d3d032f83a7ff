"""SAM as a network from images to classes, most of it frozen."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, cast

import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from ..errors import CheckpointError
from .atl import ATL, KINDS
from .heads import resize
from .sam_base import MASKS, PATCH_SIZE, SAMBase, open_base
from .sam_encoder import ATLImageEncoder


class AdaptedSAM(nn.Module):
    """SAM without prompts, from images to classes, with a small part that is trained.

    ::

        image ─► image encoder, frozen, with an adapter ─► mask decoder ─► logits

    Trained are the adapter, the mask decoder and the embedding that stands for "no
    mask"; the rest is the base. With the adapter ``mlp1`` of :class:`ATL`, a ViT-L and
    1024 pixels, this is TransLandSeg: 4,175,140 of 312,342,832 parameters.

    Of two classes, the logit of the first is 0 and that of the second is SAM's mask, so
    that a softmax over both is a sigmoid of the mask. Of more, each has a mask token of
    its own; those that SAM has not got begin as copies of those that it has.

    Follows the authors' implementation (https://github.com/JunchuanYu/TransLandSeg,
    877934c), except that the positional matrix and the embedding for "no mask" are those
    of SAM and not left random, and that logits have the size of the image.

    If you use this model in your research, please cite the following papers:

    * https://arxiv.org/abs/2304.02643
    * https://doi.org/10.1109/JSTARS.2025.3559884
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        size: str | Mapping[str, Any] = 'vit_l',
        weights: str | None = None,
        img_size: int = 1024,
        resize_image: bool = True,
        rgb: Sequence[int] | None = None,
        adapter: str | Mapping[str, Any] = 'mlp1',
        freeze: bool = True,
        freeze_unused: bool = False,
        bf16: bool | None = None,
        checkpointing: bool | None = None,
    ) -> None:
        """Initialize a new AdaptedSAM instance.

        All arguments are plain values, so that a checkpoint can name them.

        Args:
            in_channels: Channels of the image.
            num_classes: Number of classes, K.
            size: ``vit_b``, ``vit_l``, ``vit_h``, ``tiny``, or the fields of
                :class:`SAMSize`.
            weights: File of a checkpoint of SAM; ``auto`` looks for the one of Meta, see
                :func:`find_base`. None or ``random`` for random weights, always the same
                if frozen.
            img_size: Side of the images that the tables of positions are made for.
            resize_image: Whether images are brought to *img_size*, as published. If not,
                they are taken as they are, and their sides must be multiples of 16.
            rgb: Which three channels SAM sees as red, green and blue, counted from 0. By
                default it sees all; if they are not three, the patch embedding is
                inflated and trained as well.
            adapter: A kind of :class:`ATL` or its arguments, such as ``{kind: conv3,
                residual: false}``; ``lora`` or ``{kind: lora, rank: 8, alpha: 16}``, or
                ``none``.
            freeze: False trains all of it.
            freeze_unused: Whether parts of the decoder that no class needs are frozen,
                too: the head for the quality of masks, and masks beyond the classes.
                They are 0.5 million parameters that get no gradient or none but 0.
            bf16: See :class:`ATLImageEncoder`.
            checkpointing: See :class:`ATLImageEncoder`.

        Raises:
            ValueError: If an argument is none of the above.
            FileNotFoundError: If there is no file *weights*; it says where to get it.
            CheckpointError: If *weights* are no SAM, or one of another size.
        """
        super().__init__()
        self.num_classes, self.img_size = num_classes, img_size
        self.resize_image = resize_image
        self.rgb = None if rgb is None else _checked_rgb(rgb, in_channels)
        channels = in_channels if rgb is None else 3
        sam, base = open_base(
            size,
            weights,
            img_size=img_size,
            in_channels=channels,
            tokens=_tokens(num_classes),
            frozen=freeze,
        )
        #: The frozen SAM under this network; None if nothing is frozen.
        self.base: SAMBase | None = base
        encoder, atl = _adapted(sam.image_encoder, channels, adapter)
        self.image_encoder = ATLImageEncoder(encoder, atl, bf16, checkpointing)
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder
        if freeze:
            self._freeze(inflated=channels != 3)
        if freeze_unused:
            self._freeze_unused()

    def _freeze(self, *, inflated: bool) -> None:
        adapters = {
            name
            for name, _ in self.image_encoder.named_parameters()
            if name.startswith('atl.') or 'lora_' in name
        }
        for name, parameter in self.image_encoder.named_parameters():
            parameter.requires_grad_(name in adapters)
        # SAM has never seen the other bands.
        self.image_encoder.encoder.patch_embed.requires_grad_(inflated)
        self.prompt_encoder.requires_grad_(False)
        self.prompt_encoder.no_mask_embed.requires_grad_(True)

    def _freeze_unused(self) -> None:
        self.mask_decoder.iou_prediction_head.requires_grad_(False)
        used = 1 if self.num_classes == 2 else self.num_classes
        for mlp in self.mask_decoder.output_hypernetworks_mlps[used:]:
            mlp.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            image: Images of shape (B, C, H, W), normalised.

        Returns:
            Logits of shape (B, K, H, W).

        Raises:
            ValueError: If the images are not resized and their sides no multiples of 16.
        """
        height, width = image.shape[-2:]
        shown = image if self.rgb is None else image[:, self.rgb]
        if self.resize_image:
            shown = resize(shown, (self.img_size, self.img_size))
        masks = resize(self._masks(self._embed(shown)), (height, width))
        if self.num_classes == 2:
            mask = masks[:, :1]
            return torch.cat([torch.zeros_like(mask), mask], dim=1)
        return masks[:, : self.num_classes]

    def _embed(self, image: Tensor) -> Tensor:
        taught = any(p.requires_grad for p in self.image_encoder.parameters())
        with torch.set_grad_enabled(taught and torch.is_grad_enabled()):
            embedding: Tensor = self.image_encoder(image)
        return embedding

    def _masks(self, embedding: Tensor) -> Tensor:
        """Logits of all mask tokens, of shape (B, T, 4 h, 4 w)."""
        grid = (embedding.shape[-2], embedding.shape[-1])
        prompts = self.prompt_encoder
        dense = prompts.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(-1, -1, *grid)
        # Prompts for one image serve a batch: the decoder would repeat the images once
        # per prompt.
        masks, _ = self.mask_decoder.predict_masks(
            image_embeddings=embedding,
            image_pe=_positions(prompts.pe_layer, *grid).to(dense.dtype)[None],
            sparse_prompt_embeddings=dense.new_empty(1, 0, dense.shape[1]),
            dense_prompt_embeddings=dense,
        )
        return cast(Tensor, masks)

    def frozen(self) -> set[str]:
        """Names of the tensors that come from the base; the others are the adapter."""
        if self.base is None:
            return set()
        taught = {name for name, p in self.named_parameters() if p.requires_grad}
        return set(self.state_dict()) - taught

    def share(self, other: Self) -> None:
        """Take the frozen tensors of another network in place of its own.

        Args:
            other: A network over the same base. The two hold them in memory once.

        Raises:
            CheckpointError: If it has another base, or one for images of another size.
        """
        if self.base is None or other.base is None or self.base.hash != other.base.hash:
            raise CheckpointError(
                f'The adapters are for different bases: {_described(self.base)}, and '
                f'{_described(other.base)}. Map with one after the other.'
            )
        theirs = dict(other.named_parameters()) | dict(other.named_buffers())
        ours = self.state_dict()
        apart = [n for n in self.frozen() if theirs[n].shape != ours[n].shape]
        if apart:
            raise CheckpointError(
                f'The adapters are for images of {self.img_size} and {other.img_size} '
                'pixels, so that tables of positions differ. Map with one after the '
                'other.'
            )
        shared = {name: theirs[name] for name in self.frozen()}
        self.load_state_dict(shared, strict=False, assign=True)

    def to_sam(self) -> dict[str, Tensor]:
        """Weights under the names of segment-anything, to be the base of adapters.

        Returns:
            Tensors by name, to be saved with ``torch.save`` or as safetensors.

        Raises:
            ValueError: If there is an adapter, which a SAM has no place for.
        """
        names = list(self.state_dict())
        if any('.atl.' in name or 'lora_' in name for name in names):
            raise ValueError(
                'a SAM has no place for an adapter; only a network with adapter none, '
                'and freeze false to have learned, can be written as a SAM'
            )
        return {
            name.replace('image_encoder.encoder.', 'image_encoder.'): tensor
            for name, tensor in self.state_dict().items()
        }


def _tokens(num_classes: int) -> int:
    if num_classes < 2:
        raise ValueError(
            f'num_classes must be at least 2, got {num_classes}; of landslides and '
            'nothing else, the background is the first'
        )
    return max(MASKS, num_classes)


def _checked_rgb(rgb: Sequence[int], in_channels: int) -> list[int]:
    if len(rgb) != 3 or not all(0 <= band < in_channels for band in rgb):
        raise ValueError(
            f'rgb must be three channels of 0 to {in_channels - 1}, red, green and blue; '
            f'got {list(rgb)}'
        )
    return list(rgb)


def _positions(layer: Any, height: int, width: int) -> Tensor:
    """Positional encoding of a grid, of shape (C, height, width), in float32.

    That of segment-anything, which fails where the weights are in half precision.
    """
    matrix: Tensor = layer.positional_encoding_gaussian_matrix
    rows = (torch.arange(height, device=matrix.device) + 0.5) / height
    columns = (torch.arange(width, device=matrix.device) + 0.5) / width
    y, x = torch.meshgrid(rows, columns, indexing='ij')
    angles = 2 * torch.pi * ((2 * torch.stack([x, y], -1) - 1) @ matrix.float())
    return torch.cat([angles.sin(), angles.cos()], -1).permute(2, 0, 1)


def _described(base: SAMBase | None) -> str:
    if base is None:
        return 'none'
    file = f', {base.file}' if base.file else ', random'
    return f'{base.name} {base.hash}{file}'


def _adapted(
    encoder: ImageEncoderViT, in_channels: int, adapter: str | Mapping[str, Any]
) -> tuple[ImageEncoderViT, ATL | None]:
    named: dict[str, Any]
    named = {'kind': adapter} if isinstance(adapter, str) else dict(adapter)
    kind = named.get('kind', 'mlp1')
    if kind == 'none':
        return encoder, None
    if kind not in (*KINDS, 'lora'):
        accepted = ', '.join((*KINDS, 'lora', 'none'))
        raise ValueError(f'kind of the adapter must be one of {accepted}; got {kind!r}')
    _check_arguments(kind, named, _with_lora if kind == 'lora' else ATL)
    if kind == 'lora':
        return _with_lora(encoder, **named), None
    dim, depth = encoder.patch_embed.proj.out_channels, len(encoder.blocks)
    return encoder, ATL(dim, depth, PATCH_SIZE, in_channels, **named)


def _check_arguments(
    kind: str, named: Mapping[str, Any], made_by: Callable[..., object]
) -> None:
    parameters = inspect.signature(made_by).parameters.values()
    accepted = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(named.keys() - set(accepted))
    if unknown:
        raise ValueError(
            f'the adapter {kind} has no {", ".join(unknown)}; it has '
            f'{", ".join(accepted)}'
        )


def _with_lora(
    encoder: ImageEncoderViT,
    *,
    kind: str = 'lora',
    rank: int = 8,
    alpha: int = 16,
    dropout: float = 0.0,
) -> ImageEncoderViT:
    """The encoder with low-rank additions to query, key and value of each block."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ImportError(
            "the adapter lora needs peft: pip install 'eoseg[lora]'"
        ) from None
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=['qkv']
    )
    return inject_adapter_in_model(config, encoder)
