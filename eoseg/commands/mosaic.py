"""Maps of several scenes onto one grid."""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from eoseg_datasets.classes import NODATA, Legend
from eoseg_datasets.grid import Grid
from eoseg_datasets.handles import handle
from eoseg_datasets.scene import grid_of

from ..errors import OutputExistsError
from ..io.cog import BLOCK, MapWriter, read_legend
from ..io.style import write_confidence_qml, write_qml
from .console import progress
from .options import positive

if TYPE_CHECKING:
    from ..inference.mosaic import Block, MapSource

#: Confidence is stored as whole numbers, 254 for 1.
FULL = 254

#: Value of pixels without a scene, in the band of sources.
NO_SOURCE = 65535

#: Endings of the names of maps that predict writes.
_CLASSES, _PROBABILITIES = '_classes.tif', '_probabilities.tif'


@dataclass(frozen=True)
class Request:
    """What a mosaic should be like."""

    #: By default the CRS that covers most area.
    crs: CRS | None = None
    #: Pixel size in units of the CRS; by default that of the finest map.
    res: float | None = None
    #: Left, bottom, right and top in units of the CRS; by default those of all maps.
    bounds: tuple[float, float, float, float] | None = None
    #: File with polygons, in any CRS, outside of which there is no data.
    area: Path | None = None
    #: Name of one of :data:`eoseg.inference.modes.MODES`.
    mode: str = 'blend'
    #: Metres over which a scene fades out towards its edge; by default 64 pixels.
    feather: float | None = None
    #: Whether to count the scenes of each pixel and how many of them agree.
    agreement: bool = False
    #: Megabytes that the probabilities of a block may take.
    memory: float = 512
    #: Where to compute.
    device: str = 'cpu'
    #: Whether to make a raster that is mostly empty or much finer than its maps.
    force: bool = False


def run(word: str, arguments: Sequence[str]) -> int:
    """Run ``eoseg mosaic``."""
    options = _parser().parse_args(arguments)
    if options.out.exists() and not options.overwrite:
        raise OutputExistsError(
            f'{options.out} exists. Keep it: --out ANOTHER.tif; replace it: --overwrite'
        )
    paths = list(
        dict.fromkeys(path for maps in options.maps for path in find_maps(maps))
    )
    legend = _common_legend(paths)
    request = Request(
        crs=parse_crs(options.crs),
        res=options.res,
        bounds=options.bounds and tuple(options.bounds),
        area=options.aoi,
        mode=options.mode,
        feather=options.feather,
        agreement=options.agreement,
        memory=options.memory,
        device=options.device,
        force=options.force,
    )
    write_mosaic(paths, options.out, legend, request)
    print(options.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('eoseg mosaic', description=__doc__)
    add = parser.add_argument
    add(
        'maps',
        metavar='MAPS',
        type=Path,
        nargs='+',
        help='folders of eoseg predict, or maps; the first are those of --mode first',
    )
    add('--out', metavar='FILE', type=Path, default=Path('mosaic.tif'))
    add('--crs', help='such as EPSG:3035; default: the one that covers most area')
    add(
        '--res',
        type=positive,
        help='pixel size in units of the CRS; default: the finest',
    )
    add(
        '--bounds', nargs=4, type=float, metavar=('WEST', 'SOUTH', 'EAST', 'NORTH'),
        help='in units of the CRS; default: those of all maps',
    )  # fmt: skip
    add('--aoi', metavar='FILE', type=Path, help='polygons, to map nothing outside of')
    add(
        '--mode', choices=('blend', 'first', 'last', 'best'), default='blend',
        help='where maps overlap: blend their probabilities, or take the first or the '
        'last map, or the one that is surest',
    )  # fmt: skip
    add(
        '--feather', metavar='M', type=positive,
        help='metres over which a scene fades out towards its edge; default: 64 pixels '
        'of the mosaic',
    )  # fmt: skip
    add(
        '--agreement', action='store_true',
        help='also write how many maps there are at each pixel, and what share agrees',
    )  # fmt: skip
    add(
        '--memory', metavar='MB', type=positive, default=512,
        help='for the probabilities at work at once; default: 512',
    )  # fmt: skip
    add('--device', default='cpu', help='cpu, cuda, cuda:1; default: cpu')
    add('--force', action='store_true', help='even if the mosaic is absurdly large')
    add('--overwrite', action='store_true', help='replace FILE')
    return parser


def find_maps(place: Path) -> list[Path]:
    """Maps in a folder: of each scene its probabilities if they are there, else classes.

    Args:
        place: The folder, or one map.

    Raises:
        FileNotFoundError: If there is none.
    """
    if place.is_file():
        return [place]
    classes = sorted(place.rglob(f'*{_CLASSES}')) if place.is_dir() else []
    if not classes:
        raise FileNotFoundError(
            f'{place} has no *{_CLASSES}; give the --out folder of eoseg predict'
        )
    siblings = [
        path.with_name(path.name.replace(_CLASSES, _PROBABILITIES)) for path in classes
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
    request: Request,
    tags: Mapping[str, str] | None = None,
) -> NDArray[np.int64]:
    """Mosaic maps into a COG of classes, beside it confidence and source of each pixel.

    Args:
        paths: Maps of probabilities, or of classes.
        out: The mosaic; ``<stem>_confidence.tif``, ``<stem>_sources.tif`` and styles lie
            beside it, and ``<stem>_count.tif`` and ``<stem>_agreement.tif`` if asked for.
        legend: Classes of all the maps.
        request: What it should be like.
        tags: Of the mosaic.

    Returns:
        Pixels of each value of the mosaic, of shape (256,).

    Raises:
        ValueError: If a map has no CRS, none lies where the mosaic is asked for, or it
            would be absurdly large.
    """
    # Torch takes seconds to import: after what can be refused without it.
    from ..inference.area import read_area
    from ..inference.modes import MODES, with_agreement
    from ..inference.mosaic import mosaic_blocks
    from ..inference.target import check_size, target_grid

    sources = [_source(path, len(legend.classes)) for path in paths]
    grids = [source.grid for source in sources]
    target = target_grid(grids, request.crs, request.res, request.bounds)
    area = None
    if request.area is not None:
        area = read_area(request.area, target)
        target = target_grid(grids, target.crs, target.res[0], area.bounds)
    if not request.force:
        check_size(target, grids)
    mode = MODES[request.mode]
    blocks = mosaic_blocks(
        sources,
        target,
        with_agreement(mode) if request.agreement else mode,
        request.feather,
        area=area,
        size=BLOCK,
        memory=round(request.memory * 1e6),
        device=request.device,
    )
    writers = {'classes': MapWriter(out, target, legend=legend, tags=tags)}
    writers |= _beside(out, target, sources, agreement=request.agreement)
    total = -(-target.height // BLOCK) * -(-target.width // BLOCK)
    with ExitStack() as stack, progress() as bar:
        # Left in reverse order: classes, which say that all is there, come last.
        for writer in writers.values():
            stack.enter_context(writer)
        for block in bar.track(blocks, total=total, description='mosaic'):
            values = _values(block)
            for product, writer in writers.items():
                writer.write_block(values[product], block.window)
    write_qml(out.with_suffix('.qml'), legend)
    write_confidence_qml(out.with_name(f'{out.stem}_confidence.qml'))
    return writers['classes'].counts


def _beside(
    out: Path, target: Grid, sources: Sequence['MapSource'], *, agreement: bool
) -> dict[str, MapWriter]:
    """Writers of the rasters beside a mosaic, by what they hold."""
    paths = {
        product: out.with_name(f'{out.stem}_{product}.tif')
        for product in ('sources', 'confidence', 'agreement', 'count')
    }
    names = {str(i): source.name for i, source in enumerate(sources)}
    whole: dict[str, Any] = {'dtype': 'uint16', 'overviews': 'nearest'}
    share: dict[str, Any] = {'scale': 1 / FULL, 'overviews': 'average'}
    writers = {
        'sources': MapWriter(
            paths['sources'],
            target,
            bands=['source'],
            nodata=NO_SOURCE,
            tags=names,
            **whole,
        ),
        'confidence': MapWriter(
            paths['confidence'], target, bands=['confidence'], **share
        ),
    }
    if agreement:
        writers |= {
            'agreement': MapWriter(
                paths['agreement'], target, bands=['agreement'], **share
            ),
            'count': MapWriter(
                paths['count'], target, bands=['count'], nodata=0, **whole
            ),
        }
    return writers


def _values(block: 'Block') -> dict[str, NDArray[Any]]:
    """What to write of a block, by what it is."""
    covered = block.source >= 0
    return {
        'classes': block.classes,
        'sources': np.where(covered, block.source, NO_SOURCE).astype(np.uint16),
        'confidence': _stored(block.confidence, covered),
        'agreement': _stored(block.agreement, covered),
        'count': block.count.astype(np.uint16),
    }


def _stored(
    share: NDArray[np.float32], covered: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Shares from 0 to 1 as whole numbers, 255 where there is none."""
    return np.where(covered, np.rint(share * FULL), NODATA).astype(np.uint8)


def _source(path: Path, num_classes: int) -> 'MapSource':
    """A map as a source of the mosaic.

    Raises:
        ValueError: If it has no CRS.
    """
    from ..inference.mosaic import MapSource

    source = handle(path)
    if not source.crs:
        raise ValueError(
            f'{path} has no CRS, so nobody knows where it lies; assign one first: '
            f'rio edit-info --crs EPSG:32633 {path.name}'
        )
    kind = 'probabilities' if source.count == num_classes > 1 else 'classes'
    return MapSource(
        name=source.tags().get('SCENE', path.stem.removesuffix(f'_{kind}')),
        path=path,
        grid=grid_of(source),
        num_classes=num_classes,
        has_probabilities=kind == 'probabilities',
        nodata=source.nodata,
        scale=source.scales[0],
    )


def _common_legend(paths: Sequence[Path]) -> Legend:
    """Classes that all maps have.

    Raises:
        ValueError: If they differ, or one has none.
    """
    classes = [
        path.with_name(path.name.replace(_PROBABILITIES, _CLASSES)) for path in paths
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
