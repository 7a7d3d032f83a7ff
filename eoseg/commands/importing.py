"""A checkpoint of the authors of a method as one that maps scenes."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import CheckpointError, OutputExistsError
from ..inputs import CHECKPOINT_FORMAT, CHECKPOINT_KEY, Inputs
from .options import positive_int

#: Mean and standard deviation of ImageNet for red, green and blue from 0 to 255.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class _Data:
    """Data set that the authors of KTDA have trained on."""

    classes: tuple[str, ...]
    colors: tuple[str, ...]
    patch_size: int


_GRASS = _Data(
    ('low', 'middle-low', 'middle', 'middle-high', 'high'),
    ('#b96547', '#f8ca9b', '#d3e89e', '#8abf68', '#5c904d'),
    256,
)
_CLOUDS = _Data(
    ('Clear', 'Cloud Shadow', 'Thin Cloud', 'Cloud'),
    ('#4ffdc7', '#dd35df', '#fbff29', '#4d0273'),
    512,
)

#: The published networks have as many classes as one of them.
_DATA = {len(data.classes): data for data in (_GRASS, _CLOUDS)}


def run(word: str, arguments: Sequence[str]) -> int:
    """Run ``eoseg import``."""
    options = _parser().parse_args(arguments)
    if options.out.exists() and not options.overwrite:
        raise OutputExistsError(
            f'{options.out} exists. Keep it: --out ANOTHER.ckpt; replace it: --overwrite'
        )
    names = options.classes.split(',') if options.classes else None
    import_ktda(options.file, options.out, names, options.patch_size)
    print(options.out)
    return 0


def import_ktda(
    file: Path,
    out: Path,
    classes: Sequence[str] | None = None,
    patch_size: int | None = None,
) -> None:
    """Write a checkpoint of the authors of KTDA as one of eoseg.

    Args:
        file: What they publish: a checkpoint of mmengine, or its weights alone.
        out: Name of the checkpoint.
        classes: Names of the classes. By default those of the data set of the authors
            that has as many.
        patch_size: Side of a training patch in pixels, by default that of the data set.

    Raises:
        FileNotFoundError: If there is no *file*.
        CheckpointError: If it holds no weights of KTDA, or *classes* are not as many as
            it has.
    """
    import torch

    from ..io.atomic import complete
    from ..models.published import convert_ktda
    from ..models.weights import load_state, weights_hash

    published = convert_ktda(load_state(file))
    inputs = _inputs(published.num_classes, published.in_channels, classes, patch_size)
    backbone = {'name': published.network['backbone'], 'weights': None}
    said: dict[str, Any] = {
        'format': CHECKPOINT_FORMAT,
        'version': __version__,
        'architecture': 'KTDA',
        'network': published.network,
        'inputs': inputs.to_dict(),
        'origin': {'backbone': backbone, 'imported': weights_hash(file)},
    }
    content = {
        CHECKPOINT_KEY: said,
        'state_dict': {f'model.{k}': tensor for k, tensor in published.state.items()},
        # Lightning asks for it before it loads weights to score them.
        'pytorch-lightning_version': version('lightning'),
    }
    with complete(out) as part:
        torch.save(content, part)


def _inputs(
    num_classes: int,
    in_channels: int,
    classes: Sequence[str] | None,
    patch_size: int | None,
) -> Inputs:
    from eoseg_datasets.classes import Legend

    if in_channels != len(MEAN):
        raise CheckpointError(
            f'The weights are for {in_channels} bands; those of the authors of KTDA are '
            'for red, green and blue.'
        )
    data = _DATA.get(num_classes)
    names = tuple(classes or (data.classes if data else ()))
    if len(names) != num_classes:
        raise CheckpointError(
            f'The weights tell {num_classes} classes apart, {len(names)} are named'
            f'{": " * bool(names)}{", ".join(names)}. Name them in order with --classes, '
            'such as --classes water,forest,town.'
        )
    colors = data.colors if data and not classes else None
    return Inputs(
        bands=('R', 'G', 'B'),
        mean=MEAN,
        std=STD,
        classes=names,
        colors=Legend.of(names, colors).colors,
        patch_size=patch_size or (data.patch_size if data else _GRASS.patch_size),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('eoseg import', description=__doc__)
    add = parser.add_argument
    add(
        'method',
        metavar='METHOD',
        choices=['ktda'],
        help='ktda, with a ConvNeXt as student',
    )
    add('file', metavar='FILE', type=Path, help='what the authors publish')
    add('--out', metavar='CKPT', type=Path, required=True, help='the checkpoint')
    add(
        '--classes',
        metavar='A,B,…',
        help='names of the classes; default: those of Grass if there are 5, of clouds '
        'on Landsat 8 if there are 4',
    )
    add(
        '--patch-size',
        metavar='PIXELS',
        type=positive_int,
        help='side of a training patch; default: 256, or 512 for clouds',
    )
    add('--overwrite', action='store_true', help='replace CKPT')
    return parser
