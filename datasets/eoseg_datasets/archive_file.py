"""An archive of a data set, and whether a file is that archive."""

import errno
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

#: What a file is when it is not the archive, by its first bytes.
_IMPOSTORS = {
    b'version https://git-lfs': 'it is a git-lfs pointer, not the file',
    b'<!doctype': 'it is a web page, not the file',
    b'<html': 'it is a web page, not the file',
}


class ArchiveError(RuntimeError):
    """An archive is broken, or not what it should be.

    A RuntimeError, as TorchGeo raises for corrupt files.
    """


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A file of a dataset on the internet.

    Raises:
        ValueError: If neither *url* nor *page* is given, if *url* is not one of http or
            https, if *name*, *creates* or *into* lead out of the root, or if one of the
            first two is empty.
    """

    #: File below the root of the dataset. It may come out of another archive.
    name: str
    #: File or folder below the root that is there when the archive is extracted. The
    #: name itself if the file is used as it is.
    creates: str
    #: Where it can be downloaded, by http or https; None if only a person can get it.
    url: str | None = None
    #: Bytes of the file.
    size: int | None = None
    #: Checksums in hexadecimal digits. If both are given, SHA-256 is compared.
    md5: str | None = None
    sha256: str | None = None
    #: Where a person gets it, if that takes a licence or a login.
    page: str | None = None
    #: Folder below the root that the members are extracted into; '' is the root.
    into: str = ''
    #: Bytes of all members; more are refused. By default a hundred times those of the
    #: file, and at least 1 GB.
    extracted_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse what can never be obtained."""
        if self.url is None and self.page is None:
            raise ValueError(f'{self.name} needs a url or a page where it can be had')
        if self.url and urlsplit(self.url).scheme not in ('http', 'https'):
            raise ValueError(f'url must be one of http or https, got {self.url!r}')
        for path in (self.name, self.creates, self.into):
            inside(path)
        if not (inside(self.name).parts and inside(self.creates).parts):
            raise ValueError(f'name and creates must not be empty, got {self}')

    @property
    def source(self) -> str:
        """Where it can be had: the page for a person, else the address."""
        return self.page or self.url or ''

    @property
    def checksum(self) -> tuple[str, str] | None:
        """Name of the best checksum and its digits, None if there is none."""
        if self.sha256:
            return 'sha256', self.sha256.lower()
        return ('md5', self.md5.lower()) if self.md5 else None


def is_there(path: Path) -> bool:
    """Whether a path is a file, or a folder with something in it."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def amount(size: int) -> str:
    """A number of bytes for a message."""
    return f'{size / 1e9:.2f} GB' if size >= 10**7 else f'{size} bytes'


def verify(file: Path, archive: Archive) -> None:
    """Refuse a file that has not the archive's size and checksum."""
    accept(file, archive, wrong_size(file, archive) or wrong_sum(file, archive))


def accept(file: Path, archive: Archive, fault: str | None) -> None:
    """Refuse a file that has a fault."""
    if fault:
        raise ArchiveError(
            f'{file} is corrupt or another version: {fault}; delete it and download it '
            f'again from {archive.source}'
        )


def wrong_size(file: Path, archive: Archive) -> str | None:
    """How the size of a file differs, None if it does not."""
    size = file.stat().st_size
    if archive.size is None or size == archive.size:
        return None
    return f'it has {size} bytes, expected are {archive.size}{hint(file)}'


def wrong_sum(file: Path, archive: Archive) -> str | None:
    """How the checksum of a file differs, None if it does not."""
    if archive.checksum is None:
        return None
    kind, expected = archive.checksum
    with file.open('rb') as source:
        found = hashlib.file_digest(source, lambda: _hash(kind)).hexdigest()
    if found == expected:
        return None
    return f'its {kind} is {found}, expected is {expected}{hint(file)}'


def _hash(kind: str) -> Any:
    # Without the flag, machines in FIPS mode refuse MD5.
    return hashlib.new(kind, usedforsecurity=False)


def impostor(file: Path) -> str | None:
    """What a file is, if it is known not to be data."""
    start = head(file).lstrip().lower()
    found = (what for magic, what in _IMPOSTORS.items() if start.startswith(magic))
    return next(found, None)


def hint(file: Path) -> str:
    """What a file is instead of an archive, for the end of a message."""
    what = impostor(file)
    return f' ({what})' if what else ''


def head(file: Path) -> bytes:
    """The first bytes of a file."""
    with file.open('rb') as source:
        return source.read(64)


def require_space(folder: Path, size: int, what: str) -> None:
    """Refuse what the disk has no room for."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(
            errno.ENOSPC,
            f'{what} needs {amount(size)} and {folder} has {amount(free)} free; make '
            'room, or give a root on another disk',
        )


def inside(name: str) -> PurePosixPath:
    """A relative path that stays inside its folder, on every system."""
    path = PurePosixPath(name.replace('\\', '/'))
    # Windows drops dots and spaces at the end of a name: '.. ' is '..' there.
    climbs = any(not part.strip(' .') for part in path.parts)
    if path.is_absolute() or climbs or PureWindowsPath(path).drive:
        raise ValueError(f'{name!r} leads out of its folder')
    return path
