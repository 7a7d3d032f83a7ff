"""KTDA: knowledge transfer and domain adaptation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ..errors import check_choice
from .backbone import Backbone
from .heads import AuxiliaryHeads, MultiLevelNeck, SegFormerHead, UPerHead, resize
from .modulation import FeatureModulation
from .teacher import token_grid

_T = TypeVar('_T')

# The neck makes a pyramid of four maps of one size.
_PYRAMID = (4, 2, 1, 0.5)


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


class KTDAOutput(NamedTuple):
    """What a training step of KTDA compares with the mask and with the teacher."""

    #: Logits of shape (B, K, H, W).
    logits: Tensor
    #: Logits of the A auxiliary heads, of shape (A B, K, H, W), one head after the
    #: other; None without one.
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
        levels: Literal['all', 'last', 'sum'] = 'all',
        align: Literal['teacher', 'student'] = 'teacher',
        neck: bool = True,
        decoder_channels: int | None = None,
        modulation: str | Mapping[str, Any] = 'vit',
        head: Literal['uper', 'segformer'] = 'uper',
        head_channels: int = 512,
        dropout: float = 0.1,
        auxiliary: bool | Mapping[str, Any] = True,
    ) -> None:
        """Initialize a new KTDA instance.

        All arguments are plain values, so that a checkpoint can name them. They follow
        the path of an image through the network.

        Args:
            in_channels: Channels of the image.
            num_classes: Number of classes, K.
            backbone: Name of a convolutional network of timm.
            backbone_weights: File of its pretrained weights. None for random ones.
            drop_path_rate: Rate of stochastic depth; 0.4 in the paper's experiments.
            dim: Channels of the teacher's maps.
            patch_size: Pixels per cell of the teacher's maps.
            levels: Which maps of the backbone go on: ``all`` four, the ``last``, or the
                ``sum`` of all, once they are aligned.
            align: Grid of the maps that go on to the decoder. ``teacher`` is as
                published: all of them pass through the coarse grid of the teacher.
                ``student`` keeps the grid of each level, so that fine detail survives.
                The maps that are compared with the teacher are the same.
            neck: False leaves out the neck.
            decoder_channels: Channels of the maps after the neck; *dim* as published.
                Fewer make the decoder cheaper, about in proportion to their square.
            modulation: Kind of the blocks of the modulation, or arguments of
                :class:`FeatureModulation`, such as ``{kind: mlp, depth: 1}``; ``none``
                leaves it out.
            head: Head that the logits come from.
            head_channels: Channels inside of the head; half as many in the auxiliary one.
            dropout: Rate at which the heads drop channels before their last layer.
            auxiliary: Arguments of :class:`AuxiliaryHeads`, which only training needs:
                *source* and *levels*. True for the published one, False for none. Their
                parameters are those whose names begin with ``auxiliary.``.

        Raises:
            ValueError: If an argument is none of the above, or *backbone* is no network
                of timm with maps of strides 4, 8, 16 and 32.
            CheckpointError: If *backbone_weights* are those of another network.
        """
        super().__init__()
        check_choice('levels', levels, ('all', 'last', 'sum'))
        check_choice('align', align, ('teacher', 'student'))
        if (levels, align) == ('sum', 'student'):
            raise ValueError(
                "levels='sum' adds up maps of one grid; it needs align='teacher'"
            )
        weights = None if backbone_weights is None else Path(backbone_weights)
        self.align, self.levels, self.patch_size = align, levels, patch_size
        self.backbone = Backbone(backbone, in_channels, weights, drop_path_rate)
        self.alignment = FeatureAlignment(self._chosen(self.backbone.channels), dim)

        count = 4 if levels == 'all' else 1
        channels = (decoder_channels or dim) if neck else dim
        scales = _PYRAMID if (levels, align) == ('all', 'teacher') else (1,) * count
        self.neck = MultiLevelNeck(dim, channels, scales) if neck else nn.Identity()
        self.modulation = _modulation(channels, count, modulation)
        self.head = _head(head, [channels] * count, num_classes, head_channels, dropout)
        self.auxiliary = None
        if auxiliary is not False:
            named = {} if auxiliary is True else dict(auxiliary)
            width = dim if named.get('source') == 'alignment' else channels
            self.auxiliary = AuxiliaryHeads(
                [width] * count, num_classes, head_channels // 2, dropout, **named
            )

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            image: Images of shape (B, C, H, W).

        Returns:
            Logits of shape (B, K, H, W).
        """
        maps = self._project(image)
        if self.align == 'teacher':
            maps = self._on_teacher_grid(maps, image)
        return resize(self.head(self.modulation(self.neck(maps))), image.shape[-2:])

    def forward_train(self, image: Tensor) -> KTDAOutput:
        """Compute what the losses need, in one pass.

        Args:
            image: Images of shape (B, C, H, W).

        Returns:
            Logits, those of the auxiliary heads, and the aligned maps.
        """
        projected = self._project(image)
        aligned = self._on_teacher_grid(projected, image)
        maps = aligned if self.align == 'teacher' else projected
        necked = self.neck(maps)
        modulated = self.modulation(necked)
        logits = resize(self.head(modulated), image.shape[-2:])
        if self.auxiliary is None:
            return KTDAOutput(logits, None, aligned)
        sources = {'alignment': maps, 'neck': necked, 'modulation': modulated}
        auxiliary = self.auxiliary(sources[self.auxiliary.source], image.shape[-2:])
        return KTDAOutput(logits, auxiliary, aligned)

    def aligned(self, image: Tensor) -> list[Tensor]:
        """Compute the maps that are compared with the teacher, and nothing else.

        Args:
            image: Images of shape (B, C, H, W).

        Returns:
            Maps of shape (B, dim, h, w) on the grid of the teacher.
        """
        return self._on_teacher_grid(self._project(image), image)

    def teacher_maps(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """What the aligned maps are compared with.

        Args:
            maps: Maps of the teacher, shallowest first.

        Returns:
            All of them, the last or their sum, as *levels* says.
        """
        return _merged(self._chosen(maps), self.levels)

    def _project(self, image: Tensor) -> list[Tensor]:
        projected: list[Tensor] = self.alignment(self._chosen(self.backbone(image)))
        return projected

    def _chosen(self, levels: Sequence[_T]) -> Sequence[_T]:
        return levels[-1:] if self.levels == 'last' else levels

    def _on_teacher_grid(self, maps: Sequence[Tensor], image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        grid = token_grid(height, width, self.patch_size)
        return _merged([resize(feature, grid) for feature in maps], self.levels)


def _merged(maps: Sequence[Tensor], levels: str) -> list[Tensor]:
    return [torch.stack([*maps]).sum(dim=0)] if levels == 'sum' else [*maps]


def _modulation(
    channels: int, levels: int, arguments: str | Mapping[str, Any]
) -> nn.Module:
    named = {'kind': arguments} if isinstance(arguments, str) else dict(arguments)
    # On the command line, one argument of a mapping replaces all of it.
    if 'kind' not in named:
        raise ValueError(
            f'modulation must name its kind, such as {{kind: vit, depth: 2}}; got {named}'
        )
    if named['kind'] == 'none':
        return nn.Identity()
    return FeatureModulation(channels, levels, **named)


def _head(
    kind: str,
    in_channels: Sequence[int],
    num_classes: int,
    channels: int,
    dropout: float,
) -> nn.Module:
    check_choice('head', kind, ('uper', 'segformer'))
    head = UPerHead if kind == 'uper' else SegFormerHead
    return head(in_channels, num_classes, channels, dropout)


def _init_truncated_normal(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # there is a bias
