"""Files that appear only when they are complete."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: What GDAL and SQLite put beside a file, as endings of its whole name.
SIDECARS = ('.aux.xml', '.ovr', '-journal', '-wal', '-shm')

#: What the COG driver leaves beside a file when it is killed.
_SCRATCH = ('.ovr.tmp', '.msk.ovr.tmp')

_PART = re.compile(r'\.(?P<pid>\d+)\.part(\W.*)?$', re.DOTALL)

# File systems allow 255 bytes; pid, suffix and the endings above need some of them.
_LONGEST_NAME = 200


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Give a file its name only when it is complete.

    The file is written under a temporary name in the same folder. When the block ends,
    it is flushed to the disk and moved to *path*, with the sidecars that were written
    beside it; sidecars of the file that was there before are removed, because they
    describe other contents. When the block raises, nothing remains and what was at
    *path* before is untouched.

    Args:
        path: Name of the file. Missing folders are made.

    Yields:
        Where to write. The suffix is that of *path*, for drivers that look at it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part_of(path)
    # A killed run with the same process id may have left something there.
    _remove(part)
    try:
        yield part
        _flush(part)
        _move_sidecars(part, path)
        os.replace(part, path)
        _flush_folder(path.parent)
    finally:
        _remove(part)


def write_text(path: Path, text: str) -> None:
    """Write a text file, which appears only when complete.

    What UTF-8 cannot hold (a file name that is no text on this machine) is written as
    a backslash escape.

    Args:
        path: Name of the file.
        text: Its contents.
    """
    with complete(path) as part:
        part.write_bytes(text.encode('utf-8', 'backslashreplace'))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, which appears only when complete.

    Args:
        path: Name of the file.
        value: Lists, dictionaries, strings, finite numbers, booleans and None.

    Raises:
        ValueError: If a number is not finite: JSON has no word for it.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + '\n')


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what killed processes left unfinished.

    Process ids are those of this machine: call it only where no other machine writes
    into the folder at the same time.

    Args:
        folder: Searched with all folders in it.

    Returns:
        The files removed.
    """
    leftovers = [
        path
        for path in sorted(folder.rglob('.*.part*'))
        if (found := _PART.search(path.name)) and not _is_alive(int(found['pid']))
    ]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def _part_of(path: Path) -> Path:
    name = path.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return path.with_name(f'.{name}.{os.getpid()}.part{path.suffix}')


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _remove(part: Path) -> None:
    for ending in ('', *SIDECARS, *_SCRATCH):
        _beside(part, ending).unlink(missing_ok=True)


def _move_sidecars(part: Path, path: Path) -> None:
    for ending in SIDECARS:
        new, old = _beside(part, ending), _beside(path, ending)
        if new.exists():
            _flush(new)
            os.replace(new, old)
        elif os.path.exists(old):  # Path.exists() raises if the name is too long
            old.unlink()


def _flush(path: Path) -> None:
    with path.open('rb+') as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    # The new name is an entry of the folder: it has to reach the disk too.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
