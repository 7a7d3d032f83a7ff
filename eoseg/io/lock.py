"""One run at a time in a folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from ..errors import OutputExistsError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made if it is not there.

    The lock ends with the process, however that ends. Where the system has no such
    locks (Windows), nothing is kept out.

    Args:
        folder: The folder.

    Raises:
        OutputExistsError: If another run is at work in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    with (folder / '.lock').open('a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise OutputExistsError(
                f'another run ({file.read().strip() or "nobody knows which"}) is writing '
                f'into {folder}; wait for it, or give --out ANOTHER'
            ) from None
        file.truncate(0)
        file.write(_owner())
        file.flush()
        yield


def _owner() -> str:
    since = datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')
    return f'process {os.getpid()} on {socket.gethostname()}, since {since}'
