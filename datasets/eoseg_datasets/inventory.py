"""What lies in a folder of scenes: every file found is a scene or has a reason."""

import os
import stat
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rasterio.errors import RasterioError

from .landsat import is_landsat_folder, open_landsat
from .scene import Scene, open_scene
from .sentinel2 import is_safe_folder, open_safe

#: Suffixes of the formats a scene may have.
SUFFIXES = ('.tif', '.tiff', '.jp2', '.png', '.jpg', '.jpeg', '.vrt')

#: Files that belong to another one.
SIDECARS = ('.ovr', '.msk', '.aux.xml', '.aux', '.tfw', '.wld', '.prj', '.qml', '.sld')

#: What a download that went wrong begins with.
_IMPOSTORS = (
    (
        b'version https://git-lfs',
        'a git-lfs pointer, not the file itself: run git lfs pull',
    ),
    (b'<!doctype', 'a web page, not a raster: download it again'),
    (b'<html', 'a web page, not a raster: download it again'),
)


#: In nanoseconds.
_SECOND = 10**9


@dataclass(frozen=True)
class Rejected:
    """A file that is not used, and why."""

    path: Path
    status: Literal['skipped', 'failed']
    reason: str


@dataclass(frozen=True)
class Inventory:
    """What lies in a folder of scenes."""

    scenes: tuple[Scene, ...]
    rejected: tuple[Rejected, ...]

    @property
    def failed(self) -> tuple[Rejected, ...]:
        """Files that should have been scenes."""
        return tuple(item for item in self.rejected if item.status == 'failed')


@dataclass(frozen=True)
class FileState:
    """A file as it was when it was looked at."""

    #: Relative to the folder of scenes, with slashes.
    path: str
    #: In bytes.
    size: int
    #: When it was written, in nanoseconds since 1970.
    mtime_ns: int


@dataclass(frozen=True)
class Candidate:
    """A file or folder that may be a scene."""

    path: Path
    #: Why it is not opened; None if it is.
    reason: str | None = None
    #: All files that the scene depends on, sidecars too; none if nobody can say.
    files: tuple[FileState, ...] = ()


def find_scenes(
    root: Path, *, allow_vrt: bool = False, ignore: Sequence[str] = ()
) -> Inventory:
    """Look for scenes in a folder and all folders in it.

    A scene is a raster file with all its bands, a Landsat folder (one file a band, with
    an MTL file) or a Sentinel-2 SAFE folder. Only headers are read. A scene is named by
    its path without suffix; where two would have one name, they keep their suffix.

    Every file is opened; :func:`~eoseg_datasets.index.indexed_scenes` opens only those
    that have changed.

    Args:
        root: A folder, or one scene.
        allow_vrt: Whether VRT files, which may read other files, are accepted.
        ignore: Names of folders in *root* that are not looked into.

    Raises:
        FileNotFoundError: If *root* does not exist.
    """
    found = candidates(root, allow_vrt=allow_vrt, ignore=ignore)
    opened = (open_candidate(item, root, allow_vrt=allow_vrt) for item in found)
    return inventory_of(opened, root)


def is_scene(path: Path) -> bool:
    """Whether a path is one scene to be opened, not a folder to be looked into."""
    return path.is_file() or _is_scene_folder(path)


def candidates(
    root: Path, *, allow_vrt: bool = False, ignore: Sequence[str] = ()
) -> Iterator[Candidate]:
    """All that may be a scene, sorted; nothing is opened.

    A file reached twice is given once. Folders that are not looked into (hidden,
    symbolic links) are given, too.

    Args:
        root: A folder, or one scene.
        allow_vrt: Whether VRT files, which may read other files, are accepted.
        ignore: Names of folders in *root* that are not looked into.

    Raises:
        FileNotFoundError: If *root* does not exist.
    """
    if not root.exists():
        raise FileNotFoundError(f'{root} does not exist; give a folder of scenes')
    if is_scene(root):
        yield Candidate(root, _not_a_scene(root, root, allow_vrt=allow_vrt))
        return
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        inner = sorted(n for n in folders if here != root or n not in ignore)
        folders[:] = [name for name in inner if _is_plain_folder(here / name)]
        for name in sorted({*inner}.difference(folders)):
            reason = _not_a_scene(here / name, root, allow_vrt=allow_vrt)
            below = () if reason else _files_below(here / name, root)
            yield Candidate(here / name, reason, below)
        for name, states in _files_in(here, files, root, seen).items():
            reason = _not_a_scene(here / name, root, allow_vrt=allow_vrt)
            yield Candidate(here / name, reason, states)


def open_candidate(
    candidate: Candidate, root: Path, *, allow_vrt: bool = False
) -> Scene | Rejected:
    """The scene, or why it is none. Only headers are read.

    Args:
        candidate: One of :func:`candidates`.
        root: The folder it was found in.
        allow_vrt: Whether VRT files, which may read other files, are accepted.
    """
    path = candidate.path
    if candidate.reason:
        return Rejected(path, 'skipped', candidate.reason)
    try:
        return _open(path, root, allow_vrt=allow_vrt)
    # GDAL meets broken files with many exceptions, UnicodeDecodeError among them.
    except Exception as error:  # noqa: BLE001
        return Rejected(path, 'failed', explain(path, error))


def inventory_of(outcomes: Iterable[Scene | Rejected], root: Path) -> Inventory:
    """Scenes, with a name for each, and everything else.

    Args:
        outcomes: What has become of each of the :func:`candidates`.
        root: The folder they were found in.
    """
    scenes: list[Scene] = []
    rejected: list[Rejected] = []
    for outcome in outcomes:
        if isinstance(outcome, Rejected):
            rejected.append(outcome)
        else:
            scenes.append(outcome)
            rejected.extend(_unused(outcome))
    return Inventory(tuple(_distinct(scenes, root)), tuple(rejected))


def states_of(paths: Iterable[Path]) -> tuple[FileState, ...]:
    """Files and their sidecars as they are now, by their whole paths.

    Args:
        paths: Files; one that is not there has no state.

    Raises:
        FileNotFoundError: If the folder of one does not exist.
    """
    folders: dict[Path, set[str]] = {}
    for path in paths:
        folders.setdefault(path.parent, set()).add(path.name)
    found = set()
    for folder, names in folders.items():
        order = _in_order(os.listdir(folder))
        found |= {
            folder / other for name in names for other in _with_sidecars(name, order)
        }
    return tuple(
        _state(path, os.fspath(path), status)
        for path in sorted(found)
        if (status := _lstat(path)) is not None
    )


def just_written(mtime_ns: int, now: int) -> bool:
    """Whether a file may be written again without a trace in the time of writing.

    Where time is kept in whole seconds (FAT, some network drives), it may in the same
    one.

    Args:
        mtime_ns: When it was written, in nanoseconds since 1970.
        now: When it was looked at, or before.
    """
    return mtime_ns % _SECOND == 0 and abs(now - mtime_ns) < 2 * _SECOND


def _unused(scene: Scene) -> list[Rejected]:
    """Rasters in the folder of a scene that none of its bands comes from."""
    used = {band.path for band in scene.bands}
    if not scene.path.is_dir():
        return []
    return [
        Rejected(
            path, 'skipped', f'in the folder of scene {scene.name}, but no band of it'
        )
        for path in sorted(scene.path.rglob('*'))
        if path.suffix.lower() in SUFFIXES and path not in used
    ]


def _distinct(scenes: Sequence[Scene], root: Path) -> list[Scene]:
    """Scenes that would have one name get that of their file, with its suffix."""
    result = list(scenes)
    counts = Counter(scene.name for scene in result)
    # Twice at most: a name with suffix may be that of a third, as in a.tif.tif.
    while max(counts.values(), default=1) > 1:
        result = [
            replace(scene, name=scene.path.relative_to(root).as_posix())
            if counts[scene.name] > 1
            else scene
            for scene in result
        ]
        counts = Counter(scene.name for scene in result)
    return result


def _files_in(
    here: Path, names: Sequence[str], root: Path, seen: set[tuple[int, int]]
) -> dict[str, tuple[FileState, ...]]:
    """Files of a folder, sorted, and the states of each and of its sidecars."""
    states, new = {}, []
    prefix = _prefix(here, root)
    for name in sorted(names):
        if (status := _lstat(here / name)) is None:
            continue
        states[name] = _state(here / name, prefix + name, status)
        if (identity := (status.st_dev, status.st_ino)) not in seen:
            seen.add(identity)
            new.append(name)
    order = _in_order(states)
    return {
        name: tuple(states[other] for other in _with_sidecars(name, order))
        for name in new
    }


def _in_order(names: Iterable[str]) -> list[tuple[str, str]]:
    return sorted((name.lower(), name) for name in names)


def _with_sidecars(name: str, order: Sequence[tuple[str, str]]) -> list[str]:
    """A file and its sidecars, of the files of a folder.

    GDAL looks for sidecars whose name begins as that of the raster does, in any case: a
    file that only looks like one costs no more than an opening in vain.
    """
    stem = os.path.splitext(name.lower())[0]
    # All names with this stem and a dot; a slash comes next, and no name has one.
    first = bisect_left(order, (f'{stem}.',))
    last = bisect_left(order, (f'{stem}/',))
    return [other for _, other in order[first:last]]


def _files_below(folder: Path, root: Path) -> tuple[FileState, ...]:
    """All files in a scene folder; none if some of them lie elsewhere."""
    found = []
    for here, folders, files in os.walk(folder):
        if any(os.path.islink(os.path.join(here, name)) for name in folders):
            return ()
        prefix = _prefix(Path(here), root)
        for name in files:
            path = Path(here, name)
            if (status := _lstat(path)) is not None:
                found.append(_state(path, prefix + name, status))
    return tuple(sorted(found, key=lambda state: state.path))


def _prefix(folder: Path, root: Path) -> str:
    return '' if folder == root else f'{folder.relative_to(root).as_posix()}/'


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:  # removed since the folder was listed
        return None


def _state(path: Path, relative: str, status: os.stat_result) -> FileState:
    if stat.S_ISLNK(status.st_mode) and path.exists():
        status = path.stat()
    return FileState(relative, status.st_size, status.st_mtime_ns)


def _is_plain_folder(path: Path) -> bool:
    return not (
        path.name.startswith('.') or path.is_symlink() or _is_scene_folder(path)
    )


def _is_scene_folder(path: Path) -> bool:
    return is_safe_folder(path) or is_landsat_folder(path)


def _open(path: Path, root: Path, *, allow_vrt: bool) -> Scene:
    if is_safe_folder(path):
        return open_safe(path, root)
    if path.is_dir():
        return open_landsat(path, root)
    return open_scene(path, root, allow_vrt=allow_vrt)


def _not_a_scene(path: Path, root: Path, *, allow_vrt: bool) -> str | None:
    name = path.name.lower()
    if path.name.startswith('.') and path != root:
        return 'hidden'
    if path.is_symlink() and path != root:
        return 'a symbolic link; give the folder it points to'
    if path.is_dir():
        return None
    if name.endswith(SIDECARS):
        return 'belongs to another file'
    if not name.endswith(SUFFIXES):
        return 'not a raster'
    if name.endswith('.vrt') and not allow_vrt:
        return 'a VRT may read any file; allow it with --allow-vrt'
    return None


def explain(path: Path, error: Exception) -> str:
    """Why a file cannot be opened, in words that help."""
    if isinstance(error, RasterioError) and path.is_file():
        with path.open('rb') as file:
            head = file.read(64).lstrip().lower()
        if not head:
            return 'the file is empty'
        for start, reason in _IMPOSTORS:
            if head.startswith(start):
                return reason
    return str(error) or type(error).__name__
