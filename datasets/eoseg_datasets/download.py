"""Downloads that can be continued and are checked before they get their name."""

import os
import ssl
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib import request
from urllib.error import HTTPError, URLError

from .archive_file import (
    Archive,
    ArchiveError,
    amount,
    impostor,
    require_space,
    wrong_size,
    wrong_sum,
)

#: A download that stands still for so many seconds has failed.
_TIMEOUT = 60

_NETWORK_ERRORS = (
    URLError,
    HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)


def fetch(archive: Archive, file: Path) -> None:
    """Fetch a file, which gets its name only when it is complete and right."""
    part = file.with_name(f'{file.name}.part')
    try:
        _fetch_rest(archive, part)
    except _NETWORK_ERRORS as error:
        raise ConnectionError(_stopped(archive, part, error)) from error
    fault = wrong_size(part, archive) or wrong_sum(part, archive) or impostor(part)
    if fault:
        part.unlink()
        raise ArchiveError(
            f'{archive.url} gave another file than {archive.name}: {fault}. It was '
            f'removed; try again, and if it stays so, see {archive.source}.'
        )
    with part.open('rb+') as source:
        os.fsync(source.fileno())
    part.replace(file)


def _fetch_rest(archive: Archive, part: Path) -> None:
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
        require_space(part.parent, rest, archive.name)
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
        f'{amount(got)} ({reason}); try again ({how}), or {by_hand}'
    )
