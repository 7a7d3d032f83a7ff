"""Maps of several scenes onto one grid."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from eoseg_datasets.classes import NODATA, Legend
from eoseg_datasets.handles import handle
from eoseg_datasets.scene import grid_of

from ..errors import OutputExistsError
from ..inference.mosaic import MapSource, mosaic_blocks, target_grid
from ..io.cog import BLOCK, MapWriter, read_legend
from ..io.style import write_confidence_qml, write_qml
from .console import progress
from .options import positive

#: Confidence is stored as whole numbers, 254 for 1.
FULL = 254

#: Width in pixels over which a scene fades out towards its edge, by default.
FEATHER = 64

#: Value of pixels without a scene, in the band of sources.
NO_SOURCE = 65535


def run(word: str, arguments: Sequence[str]) -> int:
    """Run ``eoseg mosaic``."""
    options = _parser().parse_args(arguments)
    if options.out.exists() and not options.overwrite:
        raise OutputExistsError(
            f'{options.out} exists. Keep it: --out ANOTHER.tif; replace it: --overwrite'
        )
    paths = find_maps(options.maps)
    legend = _common_legend(paths)
    crs = parse_crs(options.crs)
    write_mosaic(paths, options.out, legend, crs, options.res, options.feather)
    print(options.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('eoseg mosaic', description=__doc__)
    add = parser.add_argument
    add(
        'maps',
        metavar='MAPS',
        type=Path,
        help='folder of eoseg predict, or of class maps',
    )
    add('--out', metavar='FILE', type=Path, default=Path('mosaic.tif'))
    add('--crs', help='such as EPSG:3035; default: the one that covers most area')
    add(
        '--res',
        type=positive,
        help='pixel size in units of the CRS; default: the finest',
    )
    add(
        '--feather', metavar='PX', type=positive, default=FEATHER,
        help='width over which a scene fades out towards its edge, in its pixels',
    )  # fmt: skip
    add('--overwrite', action='store_true', help='replace FILE')
    return parser


def find_maps(folder: Path) -> list[Path]:
    """Maps in a folder: of each scene its probabilities if they are there, else classes.

    Raises:
        FileNotFoundError: If there is none.
    """
    classes = sorted(folder.rglob('*_classes.tif')) if folder.is_dir() else []
    if not classes:
        raise FileNotFoundError(
            f'{folder} has no *_classes.tif; give the --out folder of eoseg predict'
        )
    siblings = [
        path.with_name(path.name.replace('_classes.tif', '_probabilities.tif'))
        for path in classes
    ]
    return [
        sibling if sibling.is_file() else path
        for path, sibling in zip(classes, siblings, strict=True)
    ]


def parse_crs(text: str | None) -> CRS | None:
    """A CRS as a user writes it.

    Raises:
        LookupError: If it cannot be understood.
    """
    try:
        return CRS.from_user_input(text) if text else None
    except CRSError as error:
        raise LookupError(
            f'--crs {text!r} is no coordinate reference system; write it as EPSG:32633'
        ) from error


def write_mosaic(
    paths: Sequence[Path],
    out: Path,
    legend: Legend,
    crs: CRS | None = None,
    res: float | None = None,
    feather: float = FEATHER,
    tags: Mapping[str, str] | None = None,
) -> NDArray[np.int64]:
    """Mosaic maps into a COG of classes, beside it confidence and source of each pixel.

    Args:
        paths: Maps of probabilities, or of classes.
        out: The mosaic; ``<stem>_confidence.tif``, ``<stem>_sources.tif`` and styles lie
            beside it.
        legend: Classes of all the maps.
        crs: Of the mosaic; by default the one that covers most area.
        res: Pixel size in units of *crs*; by default that of the finest map.
        feather: Width over which a scene fades out towards its edge, in its pixels.
        tags: Of the mosaic.

    Returns:
        Pixels of each value of the mosaic, of shape (256,).
    """
    sources = [_source(path, len(legend.classes)) for path in paths]
    target = target_grid([source.grid for source in sources], crs, res)
    total = -(-target.height // BLOCK) * -(-target.width // BLOCK)
    with (
        MapWriter(out, target, legend=legend, tags=tags) as classes,
        MapWriter(
            out.with_name(f'{out.stem}_sources.tif'),
            target,
            bands=['source'],
            dtype='uint16',
            nodata=NO_SOURCE,
            overviews='nearest',
            tags={str(i): source.name for i, source in enumerate(sources)},
        ) as origin,
        MapWriter(
            out.with_name(f'{out.stem}_confidence.tif'),
            target,
            bands=['confidence'],
            scale=1 / FULL,
            overviews='average',
        ) as confidence,
        progress() as bar,
    ):
        blocks = mosaic_blocks(sources, target, feather, BLOCK)
        for block in bar.track(blocks, total=total, description='mosaic'):
            classes.write_block(block.classes, block.window)
            covered = block.source >= 0
            share = np.where(covered, np.rint(block.confidence * FULL), NODATA)
            confidence.write_block(share.astype(np.uint8), block.window)
            index = np.where(~covered, NO_SOURCE, block.source)
            origin.write_block(index.astype(np.uint16), block.window)
    write_qml(out.with_suffix('.qml'), legend)
    write_confidence_qml(out.with_name(f'{out.stem}_confidence.qml'))
    return classes.counts


def _source(path: Path, num_classes: int) -> MapSource:
    source = handle(path)
    kind = 'probabilities' if source.count == num_classes > 1 else 'classes'
    return MapSource(
        name=source.tags().get('SCENE', path.stem.removesuffix(f'_{kind}')),
        path=path,
        grid=grid_of(source),
        num_classes=num_classes,
        has_probabilities=kind == 'probabilities',
    )


def _common_legend(paths: Sequence[Path]) -> Legend:
    """Classes that all maps have.

    Raises:
        ValueError: If they differ, or one has none.
    """
    classes = [
        path.with_name(path.name.replace('_probabilities.tif', '_classes.tif'))
        for path in paths
    ]
    legends = {path: read_legend(path) for path in classes}
    first = legends[classes[0]]
    for path, legend in legends.items():
        if legend is None or legend != first:
            raise ValueError(
                f'{path} has the classes {legend and ", ".join(legend.classes)}, '
                f'{classes[0]} has {first and ", ".join(first.classes)}; only maps of '
                'the same classes can be mosaicked'
            )
    assert first is not None  # the loop has checked it
    return first
