"""Maps of several scenes onto one grid."""

import argparse
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.windows import Window

from eoseg_datasets.classes import NODATA, Legend
from eoseg_datasets.grid import Grid

from ..errors import OutputExistsError
from ..io.cog import BLOCK, FULL, MapWriter
from ..io.journal import Journal, forget_others
from ..io.lock import locked
from ..io.style import write_confidence_qml, write_qml
from .console import progress, say
from .maps import common_legend, find_maps
from .options import byte_size, positive, positive_int

if TYPE_CHECKING:
    from shapely import MultiPolygon

    from ..inference.area import Area
    from ..inference.map_source import MapSource
    from ..inference.mosaic import Block

#: Value of pixels without a scene, in the band of sources.
NO_SOURCE = 65535

#: Layers of a block as it is kept until the mosaic is there: of a product so many bits on,
#: eight bits. A mosaic may have more than 255 scenes.
_PACKED = (
    ('classes', 0),
    ('confidence', 0),
    ('sources', 0),
    ('sources', 8),
    ('agreement', 0),
    ('count', 0),
    ('count', 8),
)

#: What a user may type for --mode; the newest is the first when the newest come first.
_MODES = ('blend', 'first', 'last', 'best', 'newest')


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
    #: Name of one of :data:`eoseg.inference.modes.MODES`, or ``newest``.
    mode: str = 'blend'
    #: Metres over which a scene fades out towards its edge; by default 64 pixels.
    feather: float | None = None
    #: Table of scenes, as :func:`eoseg.commands.scene_weights.read_facts` has it.
    weights: Path | None = None
    #: Days in which a scene comes to count half.
    half_life: float | None = None
    #: Whether to count the scenes of each pixel and how many of them agree.
    agreement: bool = False
    #: Bytes that the probabilities of all blocks at work may take.
    memory: int = 512 * 10**6
    #: Blocks at work at a time; by default as many as there are cores, up to 8.
    workers: int | None = None
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
    legend = common_legend(paths)
    request = Request(
        crs=parse_crs(options.crs),
        res=options.res,
        bounds=options.bounds and tuple(options.bounds),
        area=options.aoi,
        mode=options.mode,
        feather=options.feather,
        weights=options.weights,
        half_life=options.half_life,
        agreement=options.agreement,
        memory=options.memory,
        workers=options.workers,
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
        'maps', metavar='MAPS', type=Path, nargs='+',
        help='folders of eoseg predict, or maps; the first are those of --mode first',
    )  # fmt: skip
    add('--out', metavar='FILE', type=Path, default=Path('mosaic.tif'))
    add('--overwrite', action='store_true', help='replace FILE')
    _add_grid(parser.add_argument_group('grid'))
    _add_overlaps(parser.add_argument_group('where maps overlap'))
    _add_machine(parser.add_argument_group('machine'))
    return parser


def _add_grid(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add('--crs', help='such as EPSG:3035; default: the one that covers most area')
    add(
        '--res', type=positive,
        help='pixel size in units of the CRS; default: the finest',
    )  # fmt: skip
    add(
        '--bounds', nargs=4, type=float, metavar=('WEST', 'SOUTH', 'EAST', 'NORTH'),
        help='in units of the CRS; default: those of all maps',
    )  # fmt: skip
    add('--aoi', metavar='FILE', type=Path, help='polygons, to map nothing outside of')
    add('--force', action='store_true', help='even if the mosaic is absurdly large')


def _add_overlaps(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        '--mode', choices=_MODES, default='blend',
        help='blend probabilities, or take the first or the last map, the one that is '
        'surest, or the newest',
    )  # fmt: skip
    add(
        '--feather', metavar='M', type=positive,
        help='metres over which a scene fades out towards its edge; default: 64 pixels '
        'of the mosaic',
    )  # fmt: skip
    add(
        '--weights', metavar='FILE', type=Path,
        help='CSV of scenes, with columns scene and any of priority, acquired and '
        'cloud_cover (percent): what they count in a blend',
    )  # fmt: skip
    add(
        '--half-life', metavar='DAYS', type=positive,
        help='a scene counts half for every so many days that it is older than the '
        'newest; default: age is no matter',
    )  # fmt: skip
    add(
        '--agreement', action='store_true',
        help='also write how many maps there are at each pixel, and what share agrees',
    )  # fmt: skip


def _add_machine(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        '--memory', metavar='SIZE', type=byte_size, default='512MB',
        help='what the probabilities at work at once may take; default: 512MB',
    )  # fmt: skip
    add(
        '--workers', metavar='N', type=positive_int,
        help='blocks at work at once; default: one for each core, up to 8',
    )  # fmt: skip
    add('--device', default='cpu', help='cpu, cuda, cuda:1; default: cpu')


def parse_crs(text: str | None) -> CRS | None:
    """A CRS as a user writes it.

    Raises:
        LookupError: If it cannot be understood.
    """
    try:
        return CRS.from_user_input(text) if text else None
    # rasterio raises ValueError for EPSG:nonsense.
    except (CRSError, ValueError) as error:
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
        ValueError: If a map has no CRS, none lies where the mosaic is asked for, it
            would be absurdly large, or a date that matters is not known.
    """
    # Torch takes seconds to import: after what can be refused without it.
    from ..inference.mosaic import block_windows
    from .map_sources import read_sources, weighted

    sources = weighted(
        read_sources(paths, len(legend.classes)),
        request.mode,
        request.weights,
        request.half_life,
    )
    target, area = _placed([source.grid for source in sources], request)
    windows = list(block_windows(target, BLOCK))
    with _journal(out, sources, target, request, area) as journal:
        _compute(journal, windows, sources, target, area, request)
        writers = {'classes': MapWriter(out, target, legend=legend, tags=tags)}
        writers |= _beside(out, target, sources, agreement=request.agreement)
        _write(writers, journal, windows)
    write_qml(out.with_suffix('.qml'), legend)
    write_confidence_qml(out.with_name(f'{out.stem}_confidence.qml'))
    return writers['classes'].counts


def _placed(
    grids: Sequence[Grid], request: Request
) -> tuple[Grid, 'MultiPolygon | None']:
    """The grid of a mosaic, and what of it is asked for; None for all.

    Raises:
        ValueError: If it would be absurdly large, or maps and area have nothing in common.
    """
    from ..inference.area import Area
    from ..inference.target import check_size, target_grid

    target = target_grid(grids, request.crs, request.res, request.bounds)
    area = None
    if request.area is not None:
        area = _clipped(Area.read(request.area), target)
        target = target_grid(grids, target.crs, target.res[0], area.bounds)
    if not request.force:
        check_size(target, grids)
    return target, area


def _compute(
    journal: Journal,
    windows: Sequence[Window],
    sources: 'Sequence[MapSource]',
    target: Grid,
    area: 'MultiPolygon | None',
    request: Request,
) -> None:
    """Keep every block in the journal; what an interrupted run has kept is not made again."""
    from ..inference.modes import MODES, with_agreement
    from ..inference.mosaic import mosaic_blocks
    from ..inference.resources import Resources, usable_cores
    from ..inference.threads import ahead

    missing = [window for window in windows if not journal.is_done(window)]
    if len(missing) < len(windows):
        done = len(windows) - len(missing)
        say(f'kept    {done} of {len(windows)} blocks of an interrupted run')
    mode = MODES[{'newest': 'first'}.get(request.mode, request.mode)]
    blocks = mosaic_blocks(
        sources,
        target,
        with_agreement(mode) if request.agreement else mode,
        request.feather,
        windows=missing,
        area=area,
        resources=Resources(
            memory=request.memory,
            workers=request.workers or usable_cores(),
            device=request.device,
        ),
    )
    units = ((block.window, _packed(block)) for block in blocks)
    with progress() as bar:
        saved = ahead(journal.save, units)
        for _ in bar.track(saved, total=len(missing), description='mosaic'):
            pass


def _clipped(area: 'Area', target: Grid) -> 'MultiPolygon':
    """What of an area lies in a mosaic.

    Raises:
        ValueError: If nothing does.
    """
    clip = area.on(target)
    if clip is None:
        bounds = ' '.join(f'{value:.10g}' for value in target.bounds)
        raise ValueError(
            f'--aoi {area.path} and the maps have no common area: the maps lie within '
            f'{bounds} of {target.crs.to_string()}'
        )
    return clip.shape


@contextmanager
def _journal(
    out: Path,
    sources: Sequence['MapSource'],
    target: Grid,
    request: Request,
    area: 'MultiPolygon | None',
) -> Iterator[Journal]:
    """Finished blocks of a mosaic; they are forgotten when the block ends well.

    Raises:
        OutputExistsError: If another run makes the same mosaic.
    """
    folder = out.with_name(f'.{out.name}.blocks')
    stamps = [(source, *map(_stamp, _files(source))) for source in sources]
    # Not the number of workers, on which no pixel depends.
    asked = replace(request, workers=None, force=False)
    shape = area and area.wkt
    with locked(folder):
        journal = Journal(folder, repr((stamps, target, asked, shape)), len(_PACKED))
        # A run that was killed has made them with other settings.
        forget_others(folder, [journal.key])
        yield journal
    shutil.rmtree(folder)


def _files(source: 'MapSource') -> list[Path]:
    """All files that a mosaic may read of a source."""
    beside = source.finished
    return [source.path, *((beside.classes, beside.confidence) if beside else ())]


def _stamp(path: Path) -> tuple[int, int]:
    """What tells whether a file is still the same."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _write(
    writers: Mapping[str, MapWriter], journal: Journal, windows: Sequence[Window]
) -> None:
    """Write rasters from finished blocks."""
    with ExitStack() as stack:
        # Left in reverse order: classes, which say that all is there, come last.
        for writer in writers.values():
            for left in writer.path.parent.glob(f'.{writer.path.name}.*.part*'):
                # Of a run that was killed: no other is at work here.
                left.unlink()
            stack.enter_context(writer)
        for window in windows:
            values = _unpacked(journal.load(window))
            for product, writer in writers.items():
                writer.write_block(values[product], window)


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


def _packed(block: 'Block') -> NDArray[np.uint8]:
    """What to keep of a block, as bytes: of shape (layers, H, W), as _PACKED says."""
    covered = block.source >= 0
    layers = {
        'classes': block.classes,
        'sources': np.where(covered, block.source, NO_SOURCE),
        'confidence': _stored(block.confidence, covered),
        'agreement': _stored(block.agreement, covered),
        'count': block.count,
    }
    return np.stack(
        [(layers[name] >> shift & 255).astype(np.uint8) for name, shift in _PACKED]
    )


def _unpacked(packed: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """What to write of a block, by what it is."""
    layers: dict[str, NDArray[Any]] = {}
    for (name, shift), values in zip(_PACKED, packed, strict=True):
        if shift:
            layers[name] = layers[name] | values.astype(np.uint16) << shift
        else:
            layers[name] = values
    return layers


def _stored(
    share: NDArray[np.float32], covered: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Shares from 0 to 1 as whole numbers, 255 where there is none."""
    return np.where(covered, np.rint(share * FULL), NODATA).astype(np.uint8)
