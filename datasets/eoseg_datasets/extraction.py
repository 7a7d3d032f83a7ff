"""Extraction that leaves nothing half done and nothing outside of its folder."""

import errno
import filecmp
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO

from .archive_file import (
    Archive,
    ArchiveError,
    accept,
    amount,
    head,
    hint,
    inside,
    is_there,
    require_space,
    wrong_size,
)

#: Pixels compress less than this. Archives that hold more, such as uncompressed masks,
#: say so in `extracted_size`.
_LARGEST_RATIO = 100

#: Bytes that may come out of any archive, whatever the ratio.
_HARMLESS = 10**9

#: Names and the like before a member of a tar file are read into memory.
_LARGEST_HEADER = 2**20

_FOREIGN = {b"7z\xbc\xaf'\x1c": '7z', b'Rar!\x1a\x07': 'RAR'}

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


def extract(archive: Archive, root: Path) -> None:
    """Extract beside, then move; what tells that all is there comes last."""
    file = root / archive.name
    accept(file, archive, wrong_size(file, archive))
    if archive.creates == archive.name:
        return
    for start, kind in _FOREIGN.items():
        if head(file).startswith(start):
            raise _foreign(kind, archive, root)
    staging = root / f'.{file.name}.extracting'
    _remove(staging)
    try:
        folder = staging / inside(archive.into)
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
                f'it would take more than the {amount(self.limit)} that are expected',
            )
        require_space(self.folder, size, f'extracting {self.file.name}')


def _unpack(file: Path, folder: Path, archive: Archive) -> None:
    """Write the members of an archive into a folder, whatever its name ends in."""
    limit = max(_LARGEST_RATIO * file.stat().st_size, _HARMLESS)
    room = _Room(file, folder, archive.extracted_size or limit)
    unpack = _unpack_zip if head(file).startswith(b'PK') else _unpack_tar
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
            f'{hint(file)}: {str(error) or type(error).__name__}. Nothing was '
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
        path = inside(name)
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
    if not is_there(last):
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
