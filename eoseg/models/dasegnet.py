"""ST-DASegNet: two backbones and two decoders, one of each for either domain."""

from pathlib import Path
from typing import Literal, NamedTuple, Self

from segmentation_models_pytorch.encoders import get_encoder_names
from torch import Tensor, nn

from ..errors import check_choice
from .aspp import ASPPHead
from .backbone import STRIDES, Backbone
from .disentangle import DomainDisentangle, Pyramids
from .heads import SegFormerHead, resize
from .mix_transformer import MixTransformer

#: Which of the two paths answer.
Paths = Literal['both', 'target']


class STDAOutput(NamedTuple):
    """What a training step of ST-DASegNet needs of the images of one domain."""

    #: Logits of the source's and of the target's decoder, of shape (B, K, h, w).
    source: Tensor
    target: Tensor
    #: Maps of both backbones, finest first.
    features: Pyramids
    #: The same, disentangled: what the decoders see.
    maps: Pyramids


class STDASegNet(nn.Module):
    """The students of ST-DASegNet.

    ::

        image ─┬─► source backbone ─┬─► disentangle ─┬─► source head ─┬─► mean of logits
               └─► target backbone ─┘                └─► target head ─┘

    Every image, of whichever domain, goes through both backbones. Follows the authors'
    implementation (https://github.com/cv516Buaa/ST-DASegNet, cbad2f5), except that any
    backbone with maps of strides 4, 8, 16 and 32 will do; the one of their SegFormer
    variant is ``mit_b5``. Discriminators and teachers belong to
    :class:`~eoseg.tasks.DomainAdaptation`.

    If you use this model in your research, please cite the following paper:

    * https://arxiv.org/abs/2301.05526

    Attributes:
        paths: Which of the paths answer, see below.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        backbone: str = 'mit_b5',
        backbone_weights: str | None = None,
        drop_path_rate: float = 0.0,
        norm: bool = True,
        disentangle: Literal['full', 'distinct', 'none'] = 'full',
        universal_dim: int | None = None,
        invert_energy: bool = True,
        head: Literal['segformer', 'aspp'] = 'segformer',
        head_channels: int = 256,
        dropout: float = 0.1,
        paths: Paths = 'both',
    ) -> None:
        """Initialize a new STDASegNet instance.

        All arguments are plain values, so that a checkpoint can name them.

        Args:
            in_channels: Channels of the image.
            num_classes: Number of classes, K.
            backbone: Name of a convolutional network of timm, or ``mit_b0`` to
                ``mit_b5``.
            backbone_weights: File of its pretrained weights, which both backbones begin
                with. None for random ones.
            drop_path_rate: Rate of stochastic depth in the last block; 0.1 in the paper's
                experiments. Not every network has it.
            norm: Whether each map of a network of timm passes a layer norm. Those of
                ``mit_b…`` have their own; the authors have none after ResNet-50.
            disentangle: ``full``, or the ``distinct`` part alone, or ``none``.
            universal_dim: See :class:`~eoseg.models.UniversalAttention`; with some 256
                the module is much smaller after a ResNet-50.
            invert_energy: See :class:`~eoseg.models.UniversalAttention`.
            head: Kind of the two decoders; ``aspp`` is that of DeepLabv3+.
            head_channels: Channels inside of a decoder. The authors have 512 in that of
                DeepLabv3+.
            dropout: Rate at which a decoder drops channels before its last layer.
            paths: Which paths answer: the mean of ``both``, as published, or that of the
                ``target`` alone, whose backbone stands for both in the disentangling.
                That costs half, and such a network has no source path: it cannot be
                trained.

        Raises:
            ValueError: If an argument is none of the above, or *backbone* has no maps of
                strides 4, 8, 16 and 32.
            CheckpointError: If *backbone_weights* are those of another network.
        """
        super().__init__()
        check_choice('head', head, ('segformer', 'aspp'))
        check_choice('paths', paths, ('both', 'target'))
        weights = None if backbone_weights is None else Path(backbone_weights)
        self.paths = paths
        self.target_backbone = _backbone(
            backbone, in_channels, weights, drop_path_rate, norm
        )
        #: Channels and stride of the maps that discriminators see.
        self.feature_channels = self.target_backbone.channels[-1]
        self.stride = STRIDES[-1]
        self.disentangle = DomainDisentangle(
            self.target_backbone.channels, disentangle, universal_dim, invert_energy
        )
        channels = self.disentangle.out_channels
        kind = SegFormerHead if head == 'segformer' else ASPPHead
        self.target_head = kind(channels, num_classes, head_channels, dropout)
        self.source_backbone: nn.Module | None = None
        self.source_head: nn.Module | None = None
        if paths == 'both':
            self.source_backbone = _backbone(
                backbone, in_channels, weights, drop_path_rate, norm
            )
            self.source_head = kind(channels, num_classes, head_channels, dropout)

    def target_alone(self) -> Self:
        """Leave out the source path for good; half the cost and half the memory.

        Returns:
            Itself.
        """
        self.paths = 'target'
        self.source_backbone = self.source_head = None
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            image: Images of shape (B, C, H, W).

        Returns:
            Logits of shape (B, K, H, W).
        """
        if self.paths == 'target':
            own = self.target_backbone(image)
            logits = self.target_head(self.disentangle(own, own).target)
        else:
            output = self.forward_train(image)
            logits = (output.source + output.target) / 2
        return resize(logits, image.shape[-2:])

    def forward_train(self, image: Tensor) -> STDAOutput:
        """Compute what the losses need, in one pass.

        Args:
            image: Images of one domain, of shape (B, C, H, W).

        Returns:
            Logits of both decoders and what they come from.

        Raises:
            RuntimeError: If there is no source path.
        """
        if self.source_backbone is None or self.source_head is None:
            raise RuntimeError(
                "this network has the target's path alone, which maps but cannot be "
                'trained; train one with paths both'
            )
        features = Pyramids(self.source_backbone(image), self.target_backbone(image))
        maps = self.disentangle(*features)
        return STDAOutput(
            self.source_head(maps.source), self.target_head(maps.target), features, maps
        )


def _backbone(
    name: str, in_channels: int, weights: Path | None, drop_path_rate: float, norm: bool
) -> Backbone | MixTransformer:
    if not name.startswith('mit_'):
        return Backbone(name, in_channels, weights, drop_path_rate, norm)
    known = [one for one in get_encoder_names() if one.startswith('mit_')]
    if name not in known:
        raise ValueError(f'backbone must be one of {", ".join(known)}, got {name!r}')
    return MixTransformer(name, in_channels, weights, drop_path_rate)
