"""Files of datasets on the internet: fetched, checked and extracted safely.

TorchGeo's functions for this depend on its version: that of 0.8 writes a download to
its final name and goes on without encryption where https fails, and both extract in
place, so that a killed extraction looks complete. Hence these.
"""

import errno
import filecmp
import hashlib
import lzma
import os
import shutil
import ssl
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: A download that stands still for so many seconds has failed.
_TIMEOUT = 60

#: Pixels compress less than this. Archives that hold more, such as uncompressed masks,
#: say so in `extracted_size`.
_LARGEST_RATIO = 100

#: Bytes that may come out of any archive, whatever the ratio.
_HARMLESS = 10**9

#: Names and the like before a member of a tar file are read into memory.
_LARGEST_HEADER = 2**20

#: What a file is when it is not the archive, by its first bytes.
_IMPOSTORS = {
    b'version https://git-lfs': 'it is a git-lfs pointer, not the file',
    b'<!doctype': 'it is a web page, not the file',
    b'<html': 'it is a web page, not the file',
}

_FOREIGN = {b"7z\xbc\xaf'\x1c": '7z', b'Rar!\x1a\x07': 'RAR'}

_NETWORK_ERRORS = (
    URLError,
    HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)

#: What readers of broken archives raise, besides OSError without a number (gzip, bz2).
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


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
            _inside(path)
        if not (_inside(self.name).parts and _inside(self.creates).parts):
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


def obtain(
    archive: Archive, root: Path, *, download: bool = False, checksum: bool = False
) -> None:
    """Make sure that the contents of an archive are there.

    If they are not, they are extracted from the archive in *root*, which is downloaded
    first if it may be. What an archive creates appears only when it is complete; after
    a kill, the next call starts the extraction anew and, if there is a checksum to tell
    whether the pieces fit, continues the download. Of several processes, one does the
    work and the others wait.

    Args:
        archive: The archive.
        root: Folder of the dataset.
        download: Whether the archive is downloaded if it is not in *root*.
        checksum: Whether an archive found in *root* is compared with its checksum. One
            that is downloaded always is.

    Raises:
        DatasetNotFoundError: If neither contents nor archive are there (a
            FileNotFoundError), and *download* is false or cannot help.
        ArchiveError: If the archive is broken, not the one that is meant, of a format
            that is not read (7z, RAR), or holds what does not belong into the folder.
        ConnectionError: If the download fails.
        FileExistsError: If other files are in the place of those in the archive.
        OSError: If the disk is too small.
    """
    file = root / archive.name
    if checksum and file.is_file():
        _verify(file, archive)
    if _is_there(root / archive.creates):
        return
    if not file.is_file() and not (download and archive.url):
        raise not_found(_missing(archive, root, download=download))
    file.parent.mkdir(parents=True, exist_ok=True)
    with _alone(root):
        # Another process may have done it in the meantime.
        if not file.is_file() and not _is_there(root / archive.creates):
            _download(archive, file)
        if not _is_there(root / archive.creates):
            _extract(archive, root)


def _is_there(path: Path) -> bool:
    """Whether a path is a file, or a folder with something in it."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Wait until no other process is at work in a folder."""
    if fcntl is None:
        yield
        return
    with (root / '.archives.lock').open('a') as file:
        # Some file systems of clusters have no locks: then nothing is kept out.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def not_found(message: str) -> FileNotFoundError:
    """TorchGeo's error, which its users catch, with a message that says what to do.

    Args:
        message: What is missing, and what to do.
    """
    # Not above: TorchGeo takes ten seconds to import.
    from torchgeo.datasets import DatasetNotFoundError

    class DatasetMissing(DatasetNotFoundError):
        def __init__(self) -> None:
            FileNotFoundError.__init__(self, message)

        def __reduce__(self) -> tuple[Callable[[str], FileNotFoundError], tuple[str]]:
            return not_found, (message,)

    return DatasetMissing()


def _missing(archive: Archive, root: Path, *, download: bool) -> str:
    size = f' ({_amount(archive.size)})' if archive.size else ''
    lacking = f'{root} has neither {archive.creates} nor the file {archive.name}{size}'
    elsewhere = 'or give the root where it is'
    if archive.url and not download:
        return (
            f'{lacking}. Give download=True to fetch it from {archive.url}, put it '
            f'there yourself, {elsewhere}.'
        )
    return (
        f'{lacking}, which cannot be downloaded automatically. Get it from '
        f'{archive.source} and put it there, {elsewhere}.'
    )


def _amount(size: int) -> str:
    return f'{size / 1e9:.2f} GB' if size >= 10**7 else f'{size} bytes'


def _verify(file: Path, archive: Archive) -> None:
    _accept(file, archive, _wrong_size(file, archive) or _wrong_sum(file, archive))


def _accept(file: Path, archive: Archive, fault: str | None) -> None:
    if fault:
        raise ArchiveError(
            f'{file} is corrupt or another version: {fault}; delete it and download it '
            f'again from {archive.source}'
        )


def _wrong_size(file: Path, archive: Archive) -> str | None:
    size = file.stat().st_size
    if archive.size is None or size == archive.size:
        return None
    return f'it has {size} bytes, expected are {archive.size}{_hint(file)}'


def _wrong_sum(file: Path, archive: Archive) -> str | None:
    if archive.checksum is None:
        return None
    kind, expected = archive.checksum
    with file.open('rb') as source:
        found = hashlib.file_digest(source, lambda: _hash(kind)).hexdigest()
    if found == expected:
        return None
    return f'its {kind} is {found}, expected is {expected}{_hint(file)}'


def _hash(kind: str) -> Any:
    # Without the flag, machines in FIPS mode refuse MD5.
    return hashlib.new(kind, usedforsecurity=False)


def _impostor(file: Path) -> str | None:
    """What a file is, if it is known not to be data."""
    head = _head(file).lstrip().lower()
    found = (what for start, what in _IMPOSTORS.items() if head.startswith(start))
    return next(found, None)


def _hint(file: Path) -> str:
    what = _impostor(file)
    return f' ({what})' if what else ''


def _head(file: Path) -> bytes:
    with file.open('rb') as source:
        return source.read(64)


def _require_space(folder: Path, size: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(
            errno.ENOSPC,
            f'{what} needs {_amount(size)} and {folder} has {_amount(free)} free; make '
            'room, or give a root on another disk',
        )


def _download(archive: Archive, file: Path) -> None:
    """Fetch a file, which gets its name only when it is complete and right."""
    part = file.with_name(f'{file.name}.part')
    try:
        _fetch(archive, part)
    except _NETWORK_ERRORS as error:
        raise ConnectionError(_stopped(archive, part, error)) from error
    fault = _wrong_size(part, archive) or _wrong_sum(part, archive) or _impostor(part)
    if fault:
        part.unlink()
        raise ArchiveError(
            f'{archive.url} gave another file than {archive.name}: {fault}. It was '
            f'removed; try again, and if it stays so, see {archive.source}.'
        )
    with part.open('rb+') as source:
        os.fsync(source.fileno())
    part.replace(file)


def _fetch(archive: Archive, part: Path) -> None:
    """Fetch what is not there yet."""
    # Without a checksum, nobody would notice that the pieces are of two versions.
    start = part.stat().st_size if archive.checksum and part.is_file() else 0
    if start and start == archive.size:
        return
    try:
        response = _open(archive, start)
    except HTTPError as error:
        error.close()
        if error.code != 416 or not start:
            raise
        # Nothing to continue: the part is no beginning of what is there now.
        part.unlink()
        response = _open(archive, start := 0)
    with response:
        # A server that cannot continue sends all.
        start = start if response.status == 206 else 0
        length = response.headers.get('Content-Length')
        total = start + int(length) if length else archive.size
        _expect(archive, total)
        rest = (total or 0) - start + (archive.extracted_size or 0)
        _require_space(part.parent, rest, archive.name)
        with part.open('ab' if start else 'wb') as target:
            _copy(response, target, archive, start, total)
    if total is not None and part.stat().st_size < total:
        raise ConnectionError('the connection was closed')


def _open(archive: Archive, start: int) -> Any:
    headers = {'User-Agent': 'eoseg', 'Accept-Encoding': 'identity'}
    if start:
        headers['Range'] = f'bytes={start}-'
    opener = request.OpenerDirector()
    # The default opener would follow a redirection to FTP.
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
        request.HTTPDefaultErrorHandler,
        request.UnknownHandler,
    ):
        opener.add_handler(handler())
    asked = request.Request(archive.url or '', headers=headers)
    return opener.open(asked, timeout=_TIMEOUT)


def _expect(archive: Archive, total: int | None) -> None:
    """Refuse a file of another size before it is fetched."""
    if archive.size is not None and total is not None and total != archive.size:
        raise ArchiveError(
            f'{archive.url} has {total} bytes, expected are {archive.size}: it has '
            f'changed or is not {archive.name}; see {archive.source}'
        )


def _copy(
    response: Any, target: IO[bytes], archive: Archive, start: int, total: int | None
) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn('{task.description}', markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(archive.name, total=total, completed=start)
        while block := response.read(2**20):
            target.write(block)
            progress.advance(task, len(block))
            if total is not None and target.tell() > total:
                raise ArchiveError(f'{archive.url} sends more than {total} bytes')


def _stopped(archive: Archive, part: Path, error: Exception) -> str:
    got = part.stat().st_size if part.is_file() else 0
    reason = str(error) or type(error).__name__
    by_hand = f'get it from {archive.source} and put it into {part.parent}'
    if not got:
        return (
            f'{archive.name} could not be downloaded from {archive.url} ({reason}); '
            f'try again, or {by_hand}'
        )
    how = 'it goes on from there' if archive.checksum else 'it starts anew'
    return (
        f'the download of {archive.name} from {archive.url} stopped after '
        f'{_amount(got)} ({reason}); try again ({how}), or {by_hand}'
    )


def _extract(archive: Archive, root: Path) -> None:
    """Extract beside, then move; what tells that all is there comes last."""
    file = root / archive.name
    _accept(file, archive, _wrong_size(file, archive))
    if archive.creates == archive.name:
        return
    for start, kind in _FOREIGN.items():
        if _head(file).startswith(start):
            raise _foreign(kind, archive, root)
    staging = root / f'.{file.name}.extracting'
    _remove(staging)
    try:
        folder = staging / _inside(archive.into)
        folder.mkdir(parents=True)
        _unpack(file, folder, archive)
        _publish(staging, root, archive)
    finally:
        _remove(staging)


def _remove(folder: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


class _Room:
    """Bytes that an archive may take."""

    def __init__(self, file: Path, folder: Path, limit: int) -> None:
        self.file, self.folder, self.limit, self.taken = file, folder, limit, 0

    def take(self, size: int) -> None:
        """Take some, or say that they are not there."""
        self.taken += size
        if size < 0 or self.taken > self.limit:
            raise _refused(
                self.file,
                f'it would take more than the {_amount(self.limit)} that are expected',
            )
        _require_space(self.folder, size, f'extracting {self.file.name}')


def _unpack(file: Path, folder: Path, archive: Archive) -> None:
    """Write the members of an archive into a folder, whatever its name ends in."""
    limit = max(_LARGEST_RATIO * file.stat().st_size, _HARMLESS)
    room = _Room(file, folder, archive.extracted_size or limit)
    unpack = _unpack_zip if _head(file).startswith(b'PK') else _unpack_tar
    try:
        unpack(file, folder, room)
    except ArchiveError:
        raise
    except (*_BROKEN, OSError) as error:
        # An offset before the start of a file is an invalid argument.
        in_file = (None, errno.EINVAL)
        if isinstance(error, OSError) and error.errno not in in_file:
            raise
        raise ArchiveError(
            f'{file} is broken, or no zip or tar file that can be read'
            f'{_hint(file)}: {str(error) or type(error).__name__}. Nothing was '
            f'extracted; delete it and download it again from {archive.source}.'
        ) from error


def _unpack_zip(file: Path, folder: Path, room: _Room) -> None:
    with zipfile.ZipFile(file) as source:
        members = source.infolist()
        # No member gives more bytes than it declares, or its reader stops.
        room.take(sum(member.file_size for member in members))
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _special(file, member.filename)
            # ZipInfo.is_dir() fails without a name and knows one kind of slash.
            if member.filename.endswith(('/', '\\')):
                _write(file, member.filename, folder, None)
            else:
                with source.open(member) as content:
                    _write(file, member.filename, folder, content)


class _StrictTarInfo(tarfile.TarInfo):
    """Header of a member; a broken one is an error, not the end of the archive."""

    @classmethod
    def frombuf(
        cls, buf: bytes | bytearray, encoding: str, errors: str
    ) -> '_StrictTarInfo':
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf and not any(buf):  # the end of the archive
                raise
            raise tarfile.ReadError(f'a header is broken ({error})') from error
        in_memory = not (member.isreg() or member.isdir())
        if member.size < 0 or (in_memory and member.size > _LARGEST_HEADER):
            raise tarfile.ReadError(f'a header has {member.size} bytes')
        return member


def _unpack_tar(file: Path, folder: Path, room: _Room) -> None:
    # Contents only: no links, owners or modes. The filter 'data' would let links
    # through, by which archives have left the folder (CVE-2025-4517 and others, in
    # Python before 3.11.13 and 3.13.4).
    with tarfile.open(file, tarinfo=_StrictTarInfo) as source:
        for member in source:
            if not (member.isreg() or member.isdir()):
                raise _special(file, member.name)
            room.take(member.size)
            _write(file, member.name, folder, source.extractfile(member))
        # To the end, where gzip and its like have their own checksum.
        while source.fileobj and source.fileobj.read(2**20):
            pass


def _write(file: Path, name: str, folder: Path, content: IO[bytes] | None) -> None:
    """Write a member; one without content is a folder."""
    try:
        path = _inside(name)
    except ValueError as error:
        raise _refused(file, str(error)) from None
    # A Mac's notes about the other members, under their names.
    if path.parts[:1] == ('__MACOSX',):
        return
    place = folder / path
    try:
        if content is None:
            place.mkdir(parents=True, exist_ok=True)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open('wb') as target:
            shutil.copyfileobj(content, target)
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        raise _refused(file, f'its member {name!r} is a file and a folder') from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise _refused(
            file, f'the name of its member {name!r} is too long for {folder}'
        ) from None


def _inside(name: str) -> PurePosixPath:
    """A relative path that stays inside its folder, on every system."""
    path = PurePosixPath(name.replace('\\', '/'))
    # Windows drops dots and spaces at the end of a name: '.. ' is '..' there.
    climbs = any(not part.strip(' .') for part in path.parts)
    if path.is_absolute() or climbs or PureWindowsPath(path).drive:
        raise ValueError(f'{name!r} leads out of its folder')
    return path


def _refused(file: Path, reason: str) -> ArchiveError:
    return ArchiveError(
        f'{file} was not extracted, because {reason}. If you trust its source, extract '
        'it by hand.'
    )


def _special(file: Path, name: str) -> ArchiveError:
    return _refused(file, f'its member {name!r} is neither a file nor a folder')


def _foreign(kind: str, archive: Archive, root: Path) -> ArchiveError:
    file, folder = root / archive.name, root / archive.into
    return ArchiveError(
        f'{file} is a {kind} archive, which is not read here. Extract it by hand so '
        f'that {root / archive.creates} is there, such as by `7z x {file} -o{folder}`.'
    )


def _publish(staging: Path, root: Path, archive: Archive) -> None:
    """Move what was extracted to its place, first what lies beside *creates*."""
    last = staging / archive.creates
    if not _is_there(last):
        found = sorted(path.name for path in (staging / archive.into).iterdir())
        raise ArchiveError(
            f'{root / archive.name} has no {archive.creates}, but '
            f'{", ".join(found[:5]) or "nothing"}; it is not the archive that is '
            f'expected, which is at {archive.source}'
        )
    beside = [
        path.relative_to(staging)
        for path in sorted(staging.rglob('*'))
        if path.is_file() and not path.is_relative_to(last)
    ]
    others = [path for path in beside if _differs(staging / path, root / path)]
    if others:
        raise FileExistsError(
            f'{root / others[0]} is in the place of a file of {archive.name} (and '
            f'{len(others) - 1} more); move it away, or give another root'
        )
    for path in (*beside, last.relative_to(staging)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (staging / path).replace(root / path)


def _differs(new: Path, old: Path) -> bool:
    """Whether something else is there already."""
    return old.exists() and not (old.is_file() and filecmp.cmp(new, old, shallow=False))
