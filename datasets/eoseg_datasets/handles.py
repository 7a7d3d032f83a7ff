"""Open rasters, kept open per process and thread."""

import os
import threading
import warnings
from collections import OrderedDict
from pathlib import Path

from rasterio.env import ensure_env
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader

#: What a scene or a label may be. A VRT can name any file or address, and GDAL would open
#: it whatever its suffix is, so it is read only where the user allows it.
DRIVERS = ('GTiff', 'COG', 'JP2OpenJPEG', 'PNG', 'JPEG')

#: Enough for the bands of two scenes; a file handle is held for each.
MAX_OPEN = 32


@ensure_env  # type: ignore[untyped-decorator]  # rasterio has no types
def open_raster(path: Path, *, allow_vrt: bool = False) -> DatasetReader:
    """Open a raster of an accepted format.

    Args:
        path: A local file.
        allow_vrt: Whether a VRT, which may read other files, is accepted.

    Raises:
        RasterioIOError: If the file is not readable or of another format.
    """
    drivers = [*DRIVERS, 'VRT'] if allow_vrt else list(DRIVERS)
    with warnings.catch_warnings():
        # Pictures may lie nowhere; who needs a place asks for it.
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        # rasterio.open() documents a list of drivers but refuses it; its reader takes one.
        return DatasetReader(path, driver=drivers, sharing=False)


class _Handles(threading.local):
    """Rasters of one thread of one process, least recently used first."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew, without closing what another process still reads."""
        self.pid = os.getpid()
        self.open: OrderedDict[tuple[str, int, int, bool], DatasetReader] = (
            OrderedDict()
        )


_handles = _Handles()


def handle(path: Path, *, allow_vrt: bool = False) -> DatasetReader:
    """An open raster that this thread of this process may read.

    A handle is never shared: GDAL's file position would be, and readers would get each
    other's pixels. A file that has changed on disk is opened anew.

    Args:
        path: A local file.
        allow_vrt: Whether a VRT is accepted, as :func:`open_raster` says.

    Raises:
        RasterioIOError: If the file is not readable or of another format.
    """
    if _handles.pid != os.getpid():
        _handles.forget()
    status = path.stat()
    key = (os.fspath(path), status.st_mtime_ns, status.st_size, allow_vrt)
    if key in _handles.open:
        _handles.open.move_to_end(key)
        return _handles.open[key]
    source = open_raster(path, allow_vrt=allow_vrt)
    _handles.open[key] = source
    if len(_handles.open) > MAX_OPEN:
        _handles.open.popitem(last=False)[1].close()
    return source
