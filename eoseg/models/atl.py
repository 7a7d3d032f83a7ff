"""Adaptive transfer learning: small modules beside the blocks of a frozen SAM."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, cast

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

#: What a module computes: one or two layers in the middle, convolutions, or a bottleneck.
Kind = Literal['mlp1', 'mlp2', 'conv3', 'serial']

#: Where it enters a block of the encoder.
Location = Literal['pre_block', 'post_attn']

#: Where the last layer begins: as published, or such that nothing is added.
Init = Literal['reference', 'zero']

KINDS: tuple[str, ...] = ('mlp1', 'mlp2', 'conv3', 'serial')
LOCATIONS: tuple[str, ...] = ('pre_block', 'post_attn')
INITS: tuple[str, ...] = ('reference', 'zero')

#: Channels of the tokens per channel inside of the module.
REDUCTION = {'mlp1': 32, 'mlp2': 32, 'conv3': 32, 'serial': 4}


class HighPass(nn.Module):
    """Remove the coarse structure of an image; edges and texture are left.

    The lowest frequencies, a square in the middle of the spectrum, are set to 0. What is
    left is transformed back; the answer is the absolute value of its real part. Computed
    in single precision, also under autocast: a CPU has no such transform in half.
    """

    def __init__(self, rate: float = 0.25) -> None:
        """Initialize a new HighPass instance.

        Args:
            rate: Share of the spectrum that is removed, as an area; a little less, as
                its side is rounded down to whole frequencies.

        Raises:
            ValueError: If *rate* is not from 0 to 1.
        """
        super().__init__()
        if not 0 <= rate <= 1:
            raise ValueError(f'rate must be a share from 0 to 1, got {rate}')
        self.rate = rate

    def forward(self, image: Tensor) -> Tensor:
        """Filter images.

        Args:
            image: Of shape (B, C, H, W).

        Returns:
            Images of the same shape, in float32, nowhere negative.
        """
        height, width = image.shape[-2:]
        half = int(math.sqrt(height * width * self.rate) // 2)
        with _single_precision(image.device):
            rows = _is_high(height, half, image.device)[:, None]
            columns = _is_high(width, half, image.device)
            spectrum = torch.fft.fft2(image.float()) * (rows | columns)
            filtered: Tensor = torch.fft.ifft2(spectrum).real.abs()
        return filtered


class ATL(nn.Module):
    r"""What TransLandSeg adds to each block of the image encoder of SAM.

    The prompts :math:`P_i` of the kinds ``mlp1`` (the published one), ``mlp2`` and
    ``conv3`` come from the image, once for all blocks :math:`i`: with the tokens
    :math:`t_0` of the patch embedding and the image without its coarse structure
    :math:`x_\mathrm{hf}` (see :class:`HighPass`),

    .. math::

        F &= W_d t_0 + b_d + \mathrm{Conv}(x_\mathrm{hf}) \\
        P_i &= W_u \, \mathrm{GELU}(W_i F + b_i) + b_u

    ``mlp2`` has a second layer :math:`W_i'`; ``conv3`` a 1x1, a depthwise 3x3 and a 1x1
    convolution per block, each with norm and GELU, and no :math:`W_u`. ``serial`` knows
    nothing of the image: its :math:`P_i` is computed from the stream of tokens itself, by
    a bottleneck and then three times one and the same 1x1 convolution, norm and GELU.

    Follows the authors' implementation (https://github.com/JunchuanYu/TransLandSeg,
    877934c), which has these as code or comments under the names ``1_MidLay_m``,
    ``2_MidLay_m``, ``3_MidLay_c`` and, in a second file, the serial adapter. It has each
    kind at one place only; here every kind goes to either place, with a residual or not.

    If you use this module in your research, please cite the following paper:

    * https://doi.org/10.1109/JSTARS.2025.3559884

    Attributes:
        location: Where the module enters a block.
    """

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        patch_size: int = 16,
        in_channels: int = 3,
        *,
        kind: Kind = 'mlp1',
        location: Location = 'pre_block',
        residual: bool = True,
        reduction: int | None = None,
        rate: float = 0.25,
        init: Init = 'reference',
    ) -> None:
        """Initialize a new ATL instance.

        Args:
            embed_dim: Channels of the tokens, D.
            depth: Number of blocks.
            patch_size: Pixels per token.
            in_channels: Channels of the image.
            kind: What is computed, see above.
            location: ``pre_block``: each block begins with tokens + P. ``post_attn``: P
                is added to what attention answers, before the block's own shortcut.
            residual: False puts P in the place of what it would be added to. That is our
                reading of an ablation of the paper, whose code has no such switch.
            reduction: Channels of the tokens per channel inside: D / *reduction*. By
                default 32, and 4 for ``serial``.
            rate: Share of the spectrum that is taken for coarse structure.
            init: ``reference`` as the authors begin, or ``zero``: with a residual the
                encoder then begins as exactly that of SAM.

        Raises:
            ValueError: If an argument is none of the above.
        """
        super().__init__()
        _check_choice('kind', kind, KINDS)
        _check_choice('location', location, LOCATIONS)
        _check_choice('init', init, INITS)
        by = reduction or REDUCTION[kind]
        if embed_dim % by:
            raise ValueError(
                f'reduction must divide the {embed_dim} channels of the tokens, got {by}'
            )
        self.kind, self.location, self.residual = kind, location, residual
        hidden = embed_dim // by
        if kind != 'serial':
            self.embedding = nn.Linear(embed_dim, hidden)
            self.high_pass = HighPass(rate)
            self.texture = nn.Conv2d(in_channels, hidden, patch_size, patch_size)
        self.middle = nn.ModuleList(
            _middle(kind, hidden, embed_dim) for _ in range(depth)
        )
        shared = kind in ('mlp1', 'mlp2')
        self.up = nn.Linear(hidden, embed_dim) if shared else nn.Identity()
        self.apply(_init_as_published)
        if init == 'zero':
            self._add_nothing()

    def _add_nothing(self) -> None:
        # GELU(0) is 0, so a norm that answers 0 is as good as a layer that does.
        last = [self.up] if isinstance(self.up, nn.Linear) else self._last_norms()
        for layer in last:
            nn.init.zeros_(cast(Tensor, layer.weight))
            nn.init.zeros_(cast(Tensor, layer.bias))

    def _last_norms(self) -> list[nn.Module]:
        return [
            [part for part in middle.modules() if isinstance(part, LayerNorm2d)][-1]
            for middle in self.middle
        ]

    def features(self, image: Tensor, tokens: Tensor) -> Tensor:
        """Compute what the prompts of all blocks come from, F.

        Args:
            image: Images of shape (B, C, H, W).
            tokens: Their patch embedding, of shape (B, h, w, D), without positions.

        Returns:
            Features of shape (B, h, w, D / reduction); those of ``serial`` are empty.
        """
        if self.kind == 'serial':
            return tokens.new_empty(0)
        texture: Tensor = self.texture(self.high_pass(image).to(image.dtype))
        embedded: Tensor = self.embedding(tokens)
        return embedded + texture.permute(0, 2, 3, 1)

    def forward(self, block: int, stream: Tensor, features: Tensor) -> Tensor:
        """Adapt the tokens at a block.

        Args:
            block: Which, counted from 0.
            stream: Tokens of shape (B, h, w, D): those that the block gets, or what its
                attention answers, as *location* says.
            features: Answer of :meth:`features`.

        Returns:
            Tokens of the same shape.
        """
        source = stream if self.kind == 'serial' else features
        prompt: Tensor = self.up(self.middle[block](source))
        return stream + prompt if self.residual else prompt


class _Map(nn.Sequential):
    """Layers of maps (B, C, h, w), applied to tokens (B, h, w, C)."""

    def forward(self, tokens: Tensor) -> Tensor:
        maps = tokens.permute(0, 3, 1, 2)
        for layer in self:
            maps = layer(maps)
        return maps.permute(0, 2, 3, 1)


class _Serial(nn.Module):
    """A bottleneck, then one convolution with its norm three times over."""

    def __init__(self, hidden: int, dim: int) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)
        )
        self.convolution = _Map(nn.Conv2d(dim, dim, 1), LayerNorm2d(dim), nn.GELU())

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.bottleneck(tokens)
        for _ in range(3):
            tokens = self.convolution(tokens)
        return tokens


def _middle(kind: Kind, hidden: int, dim: int) -> nn.Module:
    def layer() -> list[nn.Module]:
        return [nn.Linear(hidden, hidden), nn.GELU()]

    match kind:
        case 'mlp1':
            return nn.Sequential(*layer())
        case 'mlp2':
            return nn.Sequential(*layer(), *layer())
        case 'conv3':
            return _Map(
                nn.Conv2d(hidden, hidden, 1),
                LayerNorm2d(hidden),
                nn.GELU(),
                nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
                LayerNorm2d(hidden),
                nn.GELU(),
                nn.Conv2d(hidden, dim, 1),
                LayerNorm2d(dim),
                nn.GELU(),
            )
        case _:
            return _Serial(hidden, dim)


def _is_high(length: int, half: int, device: torch.device) -> Tensor:
    """Which frequencies of a line lie outside of the square, in the order of an FFT."""
    centre = length // 2
    place = torch.arange(length, device=device)
    high = (place < centre - half) | (place >= centre + half)
    shifted: Tensor = torch.fft.ifftshift(high)
    return shifted


def _single_precision(device: torch.device) -> AbstractContextManager[object]:
    # Counting parameters and operations on `meta` needs no precision, and has none.
    if device.type == 'meta':
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def _init_as_published(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        fan_out = height * width * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check_choice(name: str, given: str, accepted: tuple[str, ...]) -> None:
    if given not in accepted:
        *others, last = map(repr, accepted)
        raise ValueError(f'{name} must be {", ".join(others)} or {last}, got {given!r}')
