"""Files of datasets on the internet: fetched, checked and extracted safely.

TorchGeo's functions for this depend on its version: that of 0.8 writes a download to
its final name and goes on without encryption where https fails, and both extract in
place, so that a killed extraction looks complete. Hence these.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .archive_file import Archive, ArchiveError, amount, is_there, verify
from .download import fetch
from .extraction import extract

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ['Archive', 'ArchiveError', 'not_found', 'obtain']


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
        verify(file, archive)
    if is_there(root / archive.creates):
        return
    if not file.is_file() and not (download and archive.url):
        raise not_found(_missing(archive, root, download=download))
    file.parent.mkdir(parents=True, exist_ok=True)
    with _alone(root):
        # Another process may have done it in the meantime.
        if not file.is_file() and not is_there(root / archive.creates):
            fetch(archive, file)
        if not is_there(root / archive.creates):
            extract(archive, root)


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
    size = f' ({amount(archive.size)})' if archive.size else ''
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
