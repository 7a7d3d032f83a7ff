"""The table of a folder of scenes as a GeoParquet file."""

import json
import logging
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import rasterio
from affine import Affine
from rasterio.crs import CRS

from .cache import code_version
from .grid import Grid
from .inventory import FileState, Rejected
from .scene import Band, Scene

log = logging.getLogger(__name__)

#: What a table of scenes depends on: where one of these has changed, it is made anew.
_MODULES = (
    'footprint', 'grid', 'handles', 'index', 'index_file', 'inventory', 'landsat',
    'scene', 'sentinel2',
)  # fmt: skip

#: A list has a value for each band, but `transform` (six numbers, as affine.Affine has
#: them) and `files`.
SCHEMA = pa.schema(
    [
        pa.field('path', pa.string(), nullable=False),
        pa.field('status', pa.string(), nullable=False),
        pa.field('reason', pa.string()),
        pa.field('name', pa.string()),
        pa.field('count', pa.int32()),
        pa.field('width', pa.int32()),
        pa.field('height', pa.int32()),
        pa.field('acquired', pa.timestamp('us')),
        pa.field('bands', pa.list_(pa.string())),
        pa.field('dtype', pa.list_(pa.string())),
        pa.field('nodata', pa.list_(pa.float64())),
        pa.field('scale', pa.list_(pa.float64())),
        pa.field('offset', pa.list_(pa.float64())),
        pa.field('pixels', pa.int64()),
        pa.field('mean', pa.list_(pa.float64())),
        pa.field('std', pa.list_(pa.float64())),
        pa.field('min', pa.list_(pa.float64())),
        pa.field('max', pa.list_(pa.float64())),
        pa.field('crs', pa.string()),
        pa.field('transform', pa.list_(pa.float64())),
        # From here on for the program: what makes the scene again, and whether it may.
        pa.field('stem', pa.string()),
        pa.field('band_path', pa.list_(pa.string())),
        pa.field('band_index', pa.list_(pa.int32())),
        pa.field('vrt', pa.list_(pa.bool_())),
        pa.field(
            'files',
            pa.list_(
                pa.struct(
                    {'path': pa.string(), 'size': pa.int64(), 'mtime_ns': pa.int64()}
                )
            ),
        ),
        pa.field('geometry', pa.binary()),
    ]
)


@dataclass(frozen=True)
class Statistics:
    """What the values of a scene are like, in a window of it.

    The numbers of a band are in units of the reader; there are none where no pixel is
    valid.
    """

    #: Valid pixels that were looked at.
    pixels: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    min: tuple[float, ...] = ()
    max: tuple[float, ...] = ()


@dataclass(frozen=True)
class Record:
    """A scene and what is known of it."""

    scene: Scene
    #: The files it was read from, as they were; none if it has to be read again.
    files: tuple[FileState, ...]
    statistics: Statistics
    #: Outline in longitude and latitude as well-known binary; None if it lies nowhere.
    footprint: bytes | None


@dataclass(frozen=True)
class Index:
    """A folder of scenes as it was."""

    #: In order; scenes are named as if they were the only ones.
    records: tuple[Record, ...] = ()
    rejected: tuple[Rejected, ...] = ()


def to_table(index: Index, names: Sequence[str], root: Path) -> pa.Table:
    """A row for each scene, then one for each other file.

    Args:
        index: Scenes and other files.
        names: Name of each scene, different from all others.
        root: The folder; paths in the table are relative to it.
    """
    rows = [
        _scene_row(record, name, root)
        for record, name in zip(index.records, names, strict=True)
    ]
    rows += [
        {
            'path': _relative(item.path, root),
            'status': item.status,
            'reason': _text(item.reason),
        }
        for item in index.rejected
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return table.replace_schema_metadata(_metadata(root))


def write_index(index: Index, names: Sequence[str], root: Path, path: Path) -> None:
    """Write a table of scenes, which appears only when complete.

    Where it cannot be written, nothing happens: it can be made again.

    Args:
        index: Scenes and other files.
        names: Name of each scene, different from all others.
        root: The folder.
        path: Where to write.
    """
    part = None
    try:
        table = _exact_table(index, names, root)
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: other processes may write the same table now.
        number, part = tempfile.mkstemp(dir=path.parent, suffix='.part')
        with os.fdopen(number, 'wb') as file:
            pq.write_table(table, file, write_page_checksum=True)
        os.replace(part, path)
    except (OSError, pa.ArrowException) as error:
        log.debug('the table of %s is not kept: %s', root, error)
    finally:
        if part is not None:
            with suppress(OSError):
                os.unlink(part)


def read_index(root: Path, path: Path) -> Index:
    """Read what :func:`write_index` has written.

    Args:
        root: The folder of scenes.
        path: The table.

    Returns:
        The index; an empty one if there is no table of this folder that can be read.
    """
    try:
        # One thread: a pool of threads would be left behind in every forked worker.
        with pq.ParquetFile(
            path, pre_buffer=False, page_checksum_verification=True
        ) as file:
            if not _is_ours(file.schema_arrow.metadata, root):
                return Index()
            return _from_table(file.read(use_threads=False), root)
    except FileNotFoundError:
        return Index()
    # A damaged table may raise anything, and costs no more than making it again.
    except Exception as error:  # noqa: BLE001
        log.debug('%s cannot be read and is made again: %s', path, error)
        return Index()


def _scene_row(record: Record, name: str, root: Path) -> dict[str, Any]:
    scene, statistics = record.scene, record.statistics
    bands, grid = scene.bands, scene.grid
    return {
        'path': _relative(scene.path, root),
        'status': 'scene',
        'name': _text(name),
        'count': len(bands),
        'width': grid.width,
        'height': grid.height,
        'acquired': scene.acquired,
        'bands': [_text(band.name) for band in bands],
        'dtype': [band.dtype for band in bands],
        'nodata': [band.nodata for band in bands],
        'scale': [band.scale for band in bands],
        'offset': [band.offset for band in bands],
        'pixels': statistics.pixels,
        'mean': statistics.mean,
        'std': statistics.std,
        'min': statistics.min,
        'max': statistics.max,
        'crs': None if grid.crs is None else grid.crs.to_wkt(),
        'transform': grid.transform[:6],
        'stem': _text(scene.name),
        'band_path': [_relative(band.path, root) for band in bands],
        'band_index': [band.index for band in bands],
        'vrt': [band.vrt for band in bands],
        'files': [
            {'path': _text(f.path), 'size': f.size, 'mtime_ns': f.mtime_ns}
            for f in record.files
        ],
        'geometry': record.footprint,
    }


def _from_table(table: pa.Table, root: Path) -> Index:
    rows = table.to_pylist()
    return Index(
        tuple(_record(row, root) for row in rows if row['status'] == 'scene'),
        tuple(
            Rejected(root / row['path'], row['status'], row['reason'])
            for row in rows
            if row['status'] != 'scene'
        ),
    )


def _record(row: dict[str, Any], root: Path) -> Record:
    paths = {relative: root / relative for relative in {*row['band_path'], row['path']}}
    columns = ('bands', 'band_path', 'band_index', 'nodata', 'scale', 'offset', 'vrt')
    bands = (
        Band(name, paths[path], *facts)
        for name, path, *facts in zip(
            *(row[column] for column in columns), row['dtype'], strict=True
        )
    )
    grid = Grid(
        _crs(row['crs']), Affine(*row['transform']), row['width'], row['height']
    )
    numbers = (tuple(row[column]) for column in ('mean', 'std', 'min', 'max'))
    return Record(
        Scene(row['stem'], paths[row['path']], grid, tuple(bands), row['acquired']),
        tuple(FileState(**file) for file in row['files']),
        Statistics(row['pixels'], *numbers),
        row['geometry'],
    )


# Scenes of a folder have few reference systems, and reading one takes long.
@lru_cache
def _crs(wkt: str | None) -> CRS | None:
    return None if wkt is None else CRS.from_wkt(wkt)


def _exact_table(index: Index, names: Sequence[str], root: Path) -> pa.Table:
    """The table, where no scene is trusted that the table does not give back."""
    table = to_table(index, names, root)
    back = _from_table(table, root)
    if back.records == index.records:
        return table
    records = tuple(
        record if record == copy else replace(record, files=())
        for record, copy in zip(index.records, back.records, strict=True)
    )
    return to_table(replace(index, records=records), names, root)


def _metadata(root: Path) -> dict[bytes, bytes]:
    return {b'eoseg': _origin(root), b'geo': _geo()}


def _is_ours(metadata: dict[bytes, bytes] | None, root: Path) -> bool:
    return (metadata or {}).get(b'eoseg') == _origin(root)


def _origin(root: Path) -> bytes:
    """What the table depends on, apart from the files."""
    facts = {
        'version': code_version(*_MODULES),
        # Another one may read more of a header.
        'gdal': rasterio.__gdal_version__,
        'root': _text(os.path.realpath(root)),
    }
    return json.dumps(facts).encode()


def _geo() -> bytes:
    """Metadata of GeoParquet (https://geoparquet.org/releases/v1.1.0/)."""
    geometry = {
        'encoding': 'WKB',
        'geometry_types': ['Polygon', 'MultiPolygon'],
        'crs': pyproj.CRS.from_epsg(4326).to_json_dict(),
    }
    return json.dumps(
        {
            'version': '1.1.0',
            'primary_column': 'geometry',
            'columns': {'geometry': geometry},
        }
    ).encode()


def _relative(path: Path, root: Path) -> str:
    return _text(path.relative_to(root).as_posix())


def _text(name: str) -> str:
    """Names that are no text on this machine get backslashes: Parquet takes UTF-8."""
    return name.encode('utf-8', 'backslashreplace').decode()
