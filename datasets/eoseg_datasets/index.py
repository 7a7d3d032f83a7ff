"""The table of the scenes in a folder, kept so that it opens at once the next time."""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window
from shapely import to_wkb

from .cache import cache_folder
from .footprint import footprint
from .index_file import Index, Record, Statistics, read_index, to_table, write_index
from .inventory import (
    Candidate,
    FileState,
    Inventory,
    Rejected,
    candidates,
    explain,
    inventory_of,
    is_scene,
    just_written,
    open_candidate,
)
from .scene import Scene

if TYPE_CHECKING:
    import geopandas as gpd

#: Files that are opened at a time. More than there are cores: on a network drive most of
#: the time is spent waiting.
THREADS = 8

#: Side of the window that statistics are taken from. The blocks of most files are a
#: multiple of it, so that it lies in one block and costs little beside the header.
_SIDE = 64


def indexed_scenes(
    root: Path, *, allow_vrt: bool = False, ignore: Sequence[str] = ()
) -> Inventory:
    """What :func:`~eoseg_datasets.inventory.find_scenes` finds, from a table.

    The first time, every file is opened, several at a time, and the table is written to
    the cache of the user (or to ``EOSEG_CACHE``). From then on only files are opened
    that are new or have changed in size or time of writing, or whose sidecars have.
    What could not be opened is tried again each time: it may have been the machine.

    A window of each scene is read for the statistics, so unlike `find_scenes` a
    file whose pixels cannot be read is often refused here.

    Several processes may do this at once. A cache that is damaged, or cannot be
    written, costs time only.

    Args:
        root: A folder, or one scene.
        allow_vrt: Whether VRT files, which may read other files, are accepted.
        ignore: Names of folders in *root* that are not looked into.

    Raises:
        FileNotFoundError: If *root* does not exist.
    """
    return _update(root, allow_vrt, ignore)[1]


def scene_table(
    root: str | Path, *, allow_vrt: bool = False, ignore: Sequence[str] = ()
) -> 'gpd.GeoDataFrame':
    """A table to look at: every scene in a folder, and every other file with a reason.

    Args:
        root: A folder, or one scene.
        allow_vrt: Whether VRT files, which may read other files, are accepted.
        ignore: Names of folders in *root* that are not looked into.

    Returns:
        A row for each scene (its *status* is ``scene``), then one for each file that is
        not used (``skipped`` or ``failed``, with a *reason*):

        * *path*, relative to *root*, and *name*
        * *count*, *width*, *height* in pixels, *acquired*
        * *bands*, *dtype*, *nodata*, *scale* and *offset*: lists, a value for each band
        * *mean*, *std*, *min* and *max* of each band in units of the reader, over
          *pixels* valid pixels of a window in the middle of at most 64 x 64 pixels; not
          a statement on the whole scene
        * *crs* as WKT and *transform*, six numbers
        * *geometry*: the outline in EPSG:4326, cut at the antimeridian; none for
          pictures that lie nowhere

        :func:`index_path` is the same as a file, for QGIS.

    Raises:
        FileNotFoundError: If *root* does not exist.
    """
    # Takes a second to import, and finding scenes does without it.
    import geopandas as gpd
    import pandas as pd
    import pyarrow as pa

    root = Path(root)
    index, inventory = _update(root, allow_vrt, ignore)
    table = to_table(index, _names(inventory), root)
    table = table.select(table.column_names[: table.column_names.index('stem')])
    # Whole numbers stay whole though other files have none.
    whole = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}
    frame = table.to_pandas(types_mapper=whole.get)
    shapes = [record.footprint for record in index.records]
    shapes += [None] * len(index.rejected)
    return gpd.GeoDataFrame(frame, geometry=gpd.GeoSeries.from_wkb(shapes, crs=4326))


def index_path(
    root: str | Path, *, allow_vrt: bool = False, ignore: Sequence[str] = ()
) -> Path:
    """The GeoParquet file that the table of a folder is kept in.

    Args:
        root: A folder of scenes.
        allow_vrt: As it was said when the table was made.
        ignore: As it was said when the table was made.
    """
    real = os.path.realpath(root)
    facts = json.dumps([real, allow_vrt, sorted({*ignore})])
    key = hashlib.sha256(facts.encode()).hexdigest()[:16]
    # The folder's name is for people; file systems allow 255 bytes.
    words = ''.join(c if c.isascii() and c.isalnum() else '_' for c in Path(real).name)
    return cache_folder() / 'scenes' / f'{words[:100]}-{key}.parquet'


def _update(
    root: Path, allow_vrt: bool, ignore: Sequence[str]
) -> tuple[Index, Inventory]:
    """The index as it is now; it is written if it was another one."""
    now = time.time_ns()
    found = list(candidates(root, allow_vrt=allow_vrt, ignore=ignore))
    path = index_path(root, allow_vrt=allow_vrt, ignore=ignore)
    # The name of one scene depends on how its path was written, and it opens at once.
    keep = not is_scene(root)
    old = read_index(root, path) if keep else Index()
    outcomes: dict[Path, Record | Rejected] = {**_still_fresh(found, old.records)}
    stale = [candidate for candidate in found if candidate.path not in outcomes]
    outcomes |= _open_all(stale, root, now, allow_vrt=allow_vrt)
    ordered = [outcomes[candidate.path] for candidate in found]
    inventory = inventory_of(map(_scene_or_not, ordered), root)
    records = tuple(item for item in ordered if isinstance(item, Record))
    index = Index(records, inventory.rejected)
    if keep and index != old:
        write_index(index, _names(inventory), root, path)
    return index, inventory


def _still_fresh(
    found: Iterable[Candidate], records: Iterable[Record]
) -> dict[Path, Record]:
    """Records of scenes all whose files are as they were."""
    known = {record.scene.path: record for record in records}
    return {
        candidate.path: record
        for candidate in found
        if candidate.files
        and candidate.reason is None
        and (record := known.get(candidate.path)) is not None
        and record.files == candidate.files
    }


def _open_all(
    stale: Sequence[Candidate], root: Path, now: int, *, allow_vrt: bool
) -> dict[Path, Record | Rejected]:
    def open_one(candidate: Candidate) -> Record | Rejected:
        outcome = open_candidate(candidate, root, allow_vrt=allow_vrt)
        if isinstance(outcome, Rejected):
            return outcome
        return _record(outcome, _trusted(candidate.files, outcome, now))

    # Each opening silences this warning, too, but threads restore each other's filters.
    with ThreadPoolExecutor(THREADS) as threads, warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        outcomes = list(threads.map(open_one, stale))
    return {item.path: outcome for item, outcome in zip(stale, outcomes, strict=True)}


def _record(scene: Scene, files: tuple[FileState, ...]) -> Record | Rejected:
    try:
        statistics = _statistics(scene)
    # As in open_candidate.
    except Exception as error:  # noqa: BLE001
        reason = f'its pixels cannot be read: {explain(scene.path, error)}'
        return Rejected(scene.path, 'failed', reason)
    shape = footprint(scene.grid)
    return Record(scene, files, statistics, None if shape is None else to_wkb(shape))


def _trusted(
    files: tuple[FileState, ...], scene: Scene, now: int
) -> tuple[FileState, ...]:
    """The files if their states tell whether the scene has changed, else none.

    A VRT reads files that may lie anywhere.
    """
    just_now = any(just_written(file.mtime_ns, now) for file in files)
    return () if just_now or any(band.vrt for band in scene.bands) else files


def _statistics(scene: Scene) -> Statistics:
    """Mean, standard deviation and range of each band in a window in the middle."""
    row, col = (length // 2 // _SIDE * _SIDE for length in scene.grid.shape)
    image, valid = scene.read(Window(col, row, _SIDE, _SIDE))
    values = image[:, valid]
    if not values.size:
        return Statistics(0)
    return Statistics(
        values.shape[1],
        tuple(values.mean(axis=1, dtype=np.float64).tolist()),
        tuple(values.std(axis=1, dtype=np.float64).tolist()),
        tuple(values.min(axis=1).tolist()),
        tuple(values.max(axis=1).tolist()),
    )


def _scene_or_not(outcome: Record | Rejected) -> Scene | Rejected:
    return outcome if isinstance(outcome, Rejected) else outcome.scene


def _names(inventory: Inventory) -> list[str]:
    return [scene.name for scene in inventory.scenes]
