"""KTDA: knowledge transfer and domain adaptation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from timm.models.vision_transformer import Block
from torch import Tensor, nn

from .backbone import Backbone
from .heads import FCNHead, MultiLevelNeck, UPerHead, resize
from .teacher import token_grid

# The neck makes a pyramid of four maps of one size.
_PYRAMID = (4, 2, 1, 0.5)

# The map that the auxiliary head reads.
_AUXILIARY_LEVEL = 2


class FeatureAlignment(nn.Module):
    """Bring feature maps to one number of channels.

    Called FAM in the paper, where a bilinear resize to the grid of the teacher follows.
    A 1x1 convolution and a bilinear resize commute, so the resize is left to the caller,
    who may also want the maps at the resolution that they have.

    If you use this module in your research, please cite the following paper:

    * https://arxiv.org/abs/2412.06664
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        """Initialize a new FeatureAlignment instance.

        Args:
            in_channels: Channels of each feature map, finest first.
            out_channels: Channels of every aligned map.
        """
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Conv2d(channels, out_channels, 1) for channels in in_channels
        )
        self.apply(_init_truncated_normal)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Align feature maps.

        Args:
            features: Feature maps of shapes (B, C_i, h_i, w_i), finest first.

        Returns:
            As many maps, of shapes (B, out_channels, h_i, w_i).

        Raises:
            ValueError: If there are not as many maps as *in_channels* says.
        """
        return [
            projection(feature)
            for projection, feature in zip(self.projections, features, strict=True)
        ]


class FeatureModulation(nn.Module):
    """Adapt feature maps to the task, each by a stack of blocks of its own.

    Called FMM in the paper. The blocks are those of a vision transformer, with attention
    over all cells of a map and no position embedding, or pairs of linear layers through
    a bottleneck, cell by cell and without a residual.

    If you use this module in your research, please cite the following paper:

    * https://arxiv.org/abs/2412.06664
    """

    def __init__(
        self,
        dim: int,
        levels: int = 4,
        kind: Literal['vit', 'mlp'] = 'vit',
        depth: int = 4,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        rank: int = 4,
    ) -> None:
        """Initialize a new FeatureModulation instance.

        Args:
            dim: Channels of every map.
            levels: Number of maps.
            kind: Kind of the blocks.
            depth: Blocks per map.
            heads: Heads of the attention (``vit``).
            mlp_ratio: Hidden channels per channel (``vit``).
            rank: Channels per hidden channel (``mlp``).

        Raises:
            ValueError: If *kind* is none of the two, or *dim* cannot be divided.
        """
        super().__init__()
        divisor = {'vit': heads, 'mlp': rank}.get(kind)
        if divisor is None:
            raise ValueError(f"kind must be 'vit' or 'mlp', got {kind!r}")
        if dim % divisor:
            raise ValueError(f'dim must be a multiple of {divisor}, got {dim}')

        def block() -> nn.Module:
            if kind == 'vit':
                return Block(dim, heads, mlp_ratio, qkv_bias=True)
            hidden = dim // rank
            return nn.Sequential(
                nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)
            )

        self.levels = nn.ModuleList(
            nn.Sequential(*(block() for _ in range(depth))) for _ in range(levels)
        )
        self.apply(_init_truncated_normal)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Modulate feature maps.

        Args:
            features: One map per level, of shapes (B, dim, h_i, w_i).

        Returns:
            As many maps, of the same shapes.
        """
        return [
            _over_cells(level, feature)
            for level, feature in zip(self.levels, features, strict=True)
        ]


class KTDAOutput(NamedTuple):
    """What a training step of KTDA compares with the mask and with the teacher."""

    #: Logits of shape (B, K, H, W).
    logits: Tensor
    #: Logits of the auxiliary head, of shape (B, K, H, W); None without that head.
    auxiliary: Tensor | None
    #: Aligned feature maps, each of shape (B, dim, h, w) on the grid of the teacher.
    aligned: list[Tensor]


class KTDA(nn.Module):
    """The student of KTDA: a convolutional network, taught by a vision transformer.

    ::

        image ─► backbone ─► alignment ─┬─► neck ─► modulation ─┬─► head ─► logits
                                        │                       └─► auxiliary head
                                        └─► compared with the teacher

    Follows the authors' implementation (https://github.com/XavierJiezou/KTDA, c4fd705)
    except that the student runs once per step, not twice; that the grid of the teacher
    comes from the image, which may have any size; and that the decoder can have the
    maps at the resolution of the student (*align*).

    If you use this model in your research, please cite the following paper:

    * https://arxiv.org/abs/2412.06664
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        backbone: str = 'convnext_base',
        backbone_weights: str | None = None,
        drop_path_rate: float = 0.0,
        dim: int = 768,
        patch_size: int = 14,
        align: Literal['teacher', 'student'] = 'teacher',
        neck: bool = True,
        decoder_channels: int | None = None,
        modulation: Literal['vit', 'mlp', 'none'] = 'vit',
        modulation_depth: int = 4,
        head_channels: int = 512,
        dropout: float = 0.1,
        auxiliary: bool = True,
    ) -> None:
        """Initialize a new KTDA instance.

        All arguments are plain values, so that a checkpoint can name them.

        Args:
            in_channels: Channels of the image.
            num_classes: Number of classes, K.
            backbone: Name of a convolutional network of timm.
            backbone_weights: File of its pretrained weights. None for random ones.
            drop_path_rate: Rate of stochastic depth; 0.4 in the paper's experiments.
            dim: Channels of the teacher's maps.
            patch_size: Pixels per cell of the teacher's maps.
            align: Grid of the maps that go on to the decoder. ``teacher`` is as
                published: all of them pass through the coarse grid of the teacher.
                ``student`` keeps the grid of each level, so that fine detail survives.
                The maps that are compared with the teacher are the same.
            neck: False leaves out the neck.
            decoder_channels: Channels of the maps after the neck; *dim* as published.
                Fewer make the decoder cheaper, about in proportion to their square.
            modulation: Kind of the blocks of the modulation; ``none`` leaves it out.
            modulation_depth: Blocks per map.
            head_channels: Channels inside of the head; half as many in the auxiliary one.
            dropout: Rate at which both heads drop channels before their last layer.
            auxiliary: False leaves out the auxiliary head, which only training needs.
                Its parameters are those whose names begin with ``auxiliary.``.

        Raises:
            ValueError: If *align* or *modulation* is none of the above, or *backbone* is
                no network of timm with maps of strides 4, 8, 16 and 32.
            CheckpointError: If *backbone_weights* are those of another network.
        """
        super().__init__()
        if align not in ('teacher', 'student'):
            raise ValueError(f"align must be 'teacher' or 'student', got {align!r}")
        if modulation not in ('vit', 'mlp', 'none'):
            raise ValueError(
                f"modulation must be 'vit', 'mlp' or 'none', got {modulation!r}"
            )
        weights = None if backbone_weights is None else Path(backbone_weights)
        self.align = align
        self.patch_size = patch_size
        self.backbone = Backbone(backbone, in_channels, weights, drop_path_rate)
        levels = len(self.backbone.channels)
        self.alignment = FeatureAlignment(self.backbone.channels, dim)
        scales = _PYRAMID if align == 'teacher' else (1,) * levels
        channels = (decoder_channels or dim) if neck else dim
        self.neck = MultiLevelNeck(dim, channels, scales) if neck else nn.Identity()
        self.modulation = (
            nn.Identity()
            if modulation == 'none'
            else FeatureModulation(channels, levels, modulation, modulation_depth)
        )
        self.head = UPerHead([channels] * levels, num_classes, head_channels, dropout)
        self.auxiliary = (
            FCNHead(channels, num_classes, head_channels // 2, dropout)
            if auxiliary
            else None
        )

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            image: Images of shape (B, C, H, W).

        Returns:
            Logits of shape (B, K, H, W).
        """
        projected = self.alignment(self.backbone(image))
        if self.align == 'teacher':
            projected = self._on_teacher_grid(projected, image)
        return resize(self.head(self._decode(projected)), image.shape[-2:])

    def forward_train(self, image: Tensor) -> KTDAOutput:
        """Compute what the losses need, in one pass.

        Args:
            image: Images of shape (B, C, H, W).

        Returns:
            Logits, those of the auxiliary head, and the aligned maps.
        """
        projected = self.alignment(self.backbone(image))
        aligned = self._on_teacher_grid(projected, image)
        features = self._decode(aligned if self.align == 'teacher' else projected)
        size = image.shape[-2:]
        auxiliary = (
            None
            if self.auxiliary is None
            else resize(self.auxiliary(features[_AUXILIARY_LEVEL]), size)
        )
        return KTDAOutput(resize(self.head(features), size), auxiliary, aligned)

    def _on_teacher_grid(self, features: list[Tensor], image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        grid = token_grid(height, width, self.patch_size)
        return [resize(feature, grid) for feature in features]

    def _decode(self, features: list[Tensor]) -> list[Tensor]:
        modulated: list[Tensor] = self.modulation(self.neck(features))
        return modulated


def _over_cells(blocks: nn.Module, feature: Tensor) -> Tensor:
    cells = feature.flatten(2).transpose(1, 2)  # (B, h * w, C)
    modulated: Tensor = blocks(cells)
    return modulated.transpose(1, 2).reshape(feature.shape)


def _init_truncated_normal(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # there is a bias
