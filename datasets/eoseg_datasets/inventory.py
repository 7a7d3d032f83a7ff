"""What lies in a folder of scenes: every file found is a scene or has a reason."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
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


def find_scenes(
    root: Path, *, allow_vrt: bool = False, ignore: Sequence[str] = ()
) -> Inventory:
    """Look for scenes in a folder and all folders in it.

    A scene is a raster file with all its bands, a Landsat folder (one file a band, with
    an MTL file) or a Sentinel-2 SAFE folder. Only headers are read. A scene is named by
    its path without suffix; where two would have one name, they keep their suffix.

    Args:
        root: A folder, or one scene.
        allow_vrt: Whether VRT files, which may read other files, are accepted.
        ignore: Names of folders in *root* that are not looked into.

    Raises:
        FileNotFoundError: If *root* does not exist.
    """
    if not root.exists():
        raise FileNotFoundError(f'{root} does not exist; give a folder of scenes')
    scenes: list[Scene] = []
    rejected: list[Rejected] = []
    for path in _candidates(root, ignore):
        if reason := _not_a_scene(path, root, allow_vrt=allow_vrt):
            rejected.append(Rejected(path, 'skipped', reason))
            continue
        try:
            scenes.append(_open(path, root, allow_vrt=allow_vrt))
            rejected.extend(_unused(scenes[-1]))
        # GDAL meets broken files with many exceptions, UnicodeDecodeError among them.
        except Exception as error:  # noqa: BLE001
            rejected.append(Rejected(path, 'failed', _explain(path, error)))
    return Inventory(tuple(_distinct(scenes, root)), tuple(rejected))


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


def _candidates(root: Path, ignore: Sequence[str]) -> Iterator[Path]:
    """Files and scene folders, sorted; a file reached twice is given once.

    Folders that are not looked into (hidden, symbolic links) are given, too.
    """
    if root.is_file() or _is_scene_folder(root):
        yield root
        return
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        inner = sorted(n for n in folders if here != root or n not in ignore)
        folders[:] = [name for name in inner if _is_plain_folder(here / name)]
        yield from (here / name for name in inner if name not in folders)
        for name in sorted(files):
            path = here / name
            status = path.lstat()
            if (identity := (status.st_dev, status.st_ino)) not in seen:
                seen.add(identity)
                yield path


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


def _explain(path: Path, error: Exception) -> str:
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
