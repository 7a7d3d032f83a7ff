"""Write maps as cloud optimised GeoTIFF, strip by strip."""

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from xml.etree import ElementTree

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import ArrayLike, NDArray
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.shutil import copy
from rasterio.windows import Window

from eoseg_datasets.classes import NODATA, Legend
from eoseg_datasets.grid import Grid
from eoseg_datasets.handles import open_raster

from .atomic import complete

#: Side of the blocks of a map in pixels.
BLOCK = 512

#: Shares from 0 to 1 are stored as whole numbers, this for 1.
FULL = 254


class MapWriter:
    """Write a map as cloud optimised GeoTIFF (COG), strip by strip or block by block.

    A context manager. The map appears at its path when the block ends and every pixel
    was written exactly once; the file is read back and compared before that. When the
    block raises, nothing remains. The rows of one block are held in memory.

    The values are collected in a temporary file beside the map, because GDAL can only
    copy whole rasters into a COG.

    Example::

        with MapWriter(path, grid, legend=legend) as writer:
            for row_off, rows in strips:
                writer.write(rows, row_off)
        writer.counts  # pixels of each class
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        *,
        bands: Sequence[str] = ('class',),
        nodata: float | None = NODATA,
        dtype: str = 'uint8',
        legend: Legend | None = None,
        tags: Mapping[str, str] | None = None,
        scale: float = 1.0,
        overviews: Literal['mode', 'average', 'nearest'] = 'mode',
    ) -> None:
        """Initialize a new MapWriter instance.

        Args:
            path: Name of the map.
            grid: Where the map lies. Rotated and south-up grids are kept as they are.
            bands: Names of the bands.
            nodata: Value of pixels without a class; None if every pixel has one.
            dtype: Data type of the values.
            legend: Classes of a map of one uint8 band: written as colour table, as
                category names and as JSON in the tag CLASSES.
            tags: More tags of the file.
            scale: What to multiply the values by to get the quantity they stand for,
                such as 1/254 for probabilities.
            overviews: How overviews are made; 'average' only where values are
                quantities.

        Raises:
            ValueError: If there is a legend and not one uint8 band.
        """
        if legend and (len(bands) != 1 or dtype != 'uint8'):
            raise ValueError(
                'a colour table goes with one uint8 band, got '
                f'{len(bands)} band(s) of {dtype}; leave the legend out, or write the '
                'classes into a file of their own'
            )
        # Absolute, so that rasterio does not read a folder named 'zip:' as a scheme.
        self.path = path.absolute()
        self.grid = grid
        self.bands = tuple(bands)
        self.nodata = nodata
        self.dtype = np.dtype(dtype)
        self.legend = legend
        self.tags = dict(tags or {})
        self.scale = scale
        self.overviews = overviews
        #: Valid pixels written so far, in the first band.
        self.valid = 0
        #: Pixels of each value written so far, in the first band of a uint8 map.
        self.counts = np.zeros(256, np.int64)
        # Checksums of the blocks written, by row and column of the block.
        self._checksums: dict[tuple[int, int], int] = {}
        self._next_row = 0
        self._buffer: NDArray[Any] | None = None
        self._context: AbstractContextManager[object] = self._writing()

    def __enter__(self) -> Self:
        """Start writing."""
        self._context.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Finish the map, or remove every trace of it after an exception."""
        return self._context.__exit__(exc_type, exc, traceback)

    def write(self, rows: ArrayLike, row_off: int) -> None:
        """Write the next rows, from top to bottom.

        Args:
            rows: Values of shape (bands, h, width), or (h, width) for one band, with
                any number of rows h.
            row_off: Row of the map on which they begin.

        Raises:
            ValueError: If they do not follow the rows written before, reach beyond the
                map, or have another width, data type or number of bands.
        """
        values = self._checked(rows)
        _, height, width = values.shape
        if row_off != self._next_row:
            raise ValueError(
                'rows must come from top to bottom without gap or overlap: expected '
                f'row_off={self._next_row}, got {row_off}'
            )
        if width != self.grid.width or row_off + height > self.grid.height:
            raise ValueError(
                f'{height} rows of {width} pixels from row {row_off} on do not fit '
                f'into a map of {self.grid.height} rows of {self.grid.width} pixels'
            )
        while values.shape[1]:
            values = self._fill(values)

    def write_block(self, array: ArrayLike, window: Window) -> None:
        """Write one block, or several that form a rectangle, in any order.

        Args:
            array: Values of shape (bands, h, w), or (h, w) for one band.
            window: Where they belong; it begins and ends on the borders of blocks, or
                ends with the map.

        Raises:
            ValueError: If the window cuts a block, or the values do not fit into it.
        """
        values = self._checked(array)
        row, col = int(window.row_off), int(window.col_off)
        bottom, right = row + int(window.height), col + int(window.width)
        if values.shape[1:] != (bottom - row, right - col):
            raise ValueError(f'values of shape {values.shape} do not fill {window}')
        if not (
            row % BLOCK == col % BLOCK == 0
            and (bottom == self.grid.height or (bottom % BLOCK == 0 and bottom > row))
            and (right == self.grid.width or (right % BLOCK == 0 and right > col))
            and bottom <= self.grid.height
            and right <= self.grid.width
        ):
            raise ValueError(
                f'a window must be made of whole blocks of {BLOCK} x {BLOCK} pixels '
                f'of a map of {self.grid.height} x {self.grid.width}, got {window}'
            )
        self._put(values, row, col)

    def leave_empty(self) -> None:
        """Have nodata in all blocks that have not been written."""
        height, width = self.grid.shape
        for row in range(0, height, BLOCK):
            for col in range(0, width, BLOCK):
                if (row // BLOCK, col // BLOCK) not in self._checksums:
                    sides = min(BLOCK, height - row), min(BLOCK, width - col)
                    shape = len(self.bands), *sides
                    self._put(np.full(shape, self.nodata, self.dtype), row, col)

    def _checked(self, values: ArrayLike) -> NDArray[Any]:
        array = np.asarray(values)
        if array.ndim == 2:
            array = array[None]
        if array.ndim != 3 or len(array) != len(self.bands):
            raise ValueError(
                f'values must be of shape ({len(self.bands)}, h, w), got {array.shape}'
            )
        if array.dtype != self.dtype:
            raise ValueError(f'values must be {self.dtype}, got {array.dtype}')
        return array

    def _fill(self, values: NDArray[Any]) -> NDArray[Any]:
        """Take what fits into the current row of blocks, give back the rest."""
        first = self._next_row // BLOCK * BLOCK
        height = min(BLOCK, self.grid.height - first)
        filled = self._next_row - first
        if self._buffer is None:
            shape = (len(self.bands), min(BLOCK, self.grid.height), self.grid.width)
            self._buffer = np.empty(shape, self.dtype)
        taken = values[:, : height - filled]
        self._buffer[:, filled : filled + taken.shape[1]] = taken
        self._next_row += taken.shape[1]
        if self._next_row == first + height:
            self._put(self._buffer[:, :height], first, 0)
        return values[:, taken.shape[1] :]

    def _put(self, values: NDArray[Any], row: int, col: int) -> None:
        blocks = dict(_blocks(values, row, col))
        if twice := blocks.keys() & self._checksums.keys():
            raise ValueError(
                f'the block in row {min(twice)[0]} and column {min(twice)[1]} of the '
                'blocks was written already; write every block once'
            )
        height, width = values.shape[1:]
        self._dataset.write(values, window=Window(col, row, width, height))
        for key, block in blocks.items():
            self._checksums[key] = zlib.crc32(block.tobytes())
            self._count(block[0])

    def _count(self, block: NDArray[Any]) -> None:
        if self.nodata is None:
            self.valid += block.size
        elif math.isnan(self.nodata):
            self.valid += int(np.count_nonzero(~np.isnan(block)))
        else:
            self.valid += int(np.count_nonzero(block != self.nodata))
        if self.dtype == np.uint8:
            self.counts += np.bincount(block.ravel(), minlength=256)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with complete(self.path) as part, _scratch(part) as tiled:
            # Not `with dataset`: that would keep rasterio's environment, a thing of
            # this thread, entered while others write other maps.
            with closing(rasterio.open(tiled, 'w', **self._profile())) as self._dataset:
                self._describe()
                yield
                self._check_complete()
            self._buffer = None
            copy(tiled, part, **self._cog_options())
            self._check_copy(part)
            if self.legend:
                _write_categories(part, self.legend)

    def _profile(self) -> dict[str, Any]:
        return {
            'driver': 'GTiff',
            'crs': self.grid.crs or None,
            'transform': self.grid.transform,
            'width': self.grid.width,
            'height': self.grid.height,
            'count': len(self.bands),
            'dtype': self.dtype.name,
            'nodata': self.nodata,
            'tiled': True,
            'blockxsize': BLOCK,
            'blockysize': BLOCK,
            # With pixel interleave, a full cache would write a block once per band.
            'interleave': 'band',
            'BIGTIFF': 'IF_SAFER',
            **scratch_compression(),
        }

    def _cog_options(self) -> dict[str, str]:
        return {
            'driver': 'COG',
            # ZSTD would be faster, but some readers of TIFF, among them programs with a
            # lean build of GDAL, do not know it; all of them read DEFLATE.
            'COMPRESS': 'DEFLATE',
            # Differences of neighbours pack quantities better and class numbers worse.
            'PREDICTOR': 'YES' if self.overviews == 'average' else 'NO',
            'BLOCKSIZE': str(BLOCK),
            'OVERVIEW_RESAMPLING': self.overviews.upper(),
            'BIGTIFF': 'IF_SAFER',
            'NUM_THREADS': 'ALL_CPUS',
            'STATISTICS': 'NO',
        }

    def _describe(self) -> None:
        tags = {'AREA_OR_POINT': 'Area', **self.tags}
        if self.legend:
            names = json.dumps(self.legend.classes, ensure_ascii=False)
            tags['CLASSES'] = names
            self._dataset.write_colormap(1, self.legend.colormap())
        self._dataset.update_tags(**tags)
        self._dataset.descriptions = self.bands
        if self.scale != 1:
            self._dataset.scales = (self.scale,) * len(self.bands)

    def _check_complete(self) -> None:
        rows, cols = (math.ceil(side / BLOCK) for side in self.grid.shape)
        missing = rows * cols - len(self._checksums)
        if missing:
            raise ValueError(
                f'{missing} of {rows * cols} blocks of {self.path.name} were not '
                'written; write every row of the map before its writer is left'
            )

    def _check_copy(self, part: Path) -> None:
        """Read everything back: a broken GeoTIFF may open, and read as nodata."""
        with closing(rasterio.open(part, driver='GTiff')) as dataset:
            for row, values in _strips(dataset):
                for key, block in _blocks(values, row, 0):
                    if zlib.crc32(block.tobytes()) != self._checksums[key]:
                        raise OSError(
                            f'{self.path} does not read as it was written (block '
                            f'{key}); check the disk, then write it again'
                        )


def read_legend(path: Path) -> Legend | None:
    """Classes of a map written by :class:`MapWriter`.

    Args:
        path: The map.

    Returns:
        The legend, or None if the map has none.

    Raises:
        ValueError: If the tag CLASSES is no list of names.
    """
    with closing(open_raster(path)) as dataset:
        text = dataset.tags().get('CLASSES')
        if text is None:
            return None
        try:
            names = [str(name) for name in json.loads(text)]
            colormap = dataset.colormap(1)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f'the tag CLASSES of {path} must be a JSON list of names with a colour '
                f'table beside it, got {text[:80]!r} ({error})'
            ) from error
    colors = ('#{:02x}{:02x}{:02x}'.format(*colormap[i]) for i in range(len(names)))
    return Legend(tuple(names), tuple(colors))


@contextmanager
def _scratch(part: Path) -> Iterator[Path]:
    path = part.with_name(part.name + '.tiled')
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@cache
def scratch_compression() -> dict[str, Any]:
    """The fastest compression that this build of GDAL has."""
    zstd = {'compress': 'zstd', 'zstd_level': 1}
    profile = {
        'driver': 'GTiff',
        # Any but the identity, at which rasterio warns.
        'transform': Affine.scale(2),
        'width': 1,
        'height': 1,
        'count': 1,
        'dtype': 'uint8',
    }
    try:
        with MemoryFile() as memory, memory.open(**profile, **zstd):
            return zstd
    except RasterioError:
        return {'compress': 'deflate', 'zlevel': 1}


def _strips(dataset: Any) -> Iterator[tuple[int, NDArray[Any]]]:
    """Rows of blocks of an open raster, each with its first row."""
    for row in range(0, dataset.height, BLOCK):
        height = min(BLOCK, dataset.height - row)
        yield row, dataset.read(window=Window(0, row, dataset.width, height))


def _blocks(
    values: NDArray[Any], row: int, col: int
) -> Iterator[tuple[tuple[int, int], NDArray[Any]]]:
    """Blocks of an array that begins at *row* and *col*, by their row and column."""
    _, height, width = values.shape
    for y, x in product(range(0, height, BLOCK), range(0, width, BLOCK)):
        key = (row + y) // BLOCK, (col + x) // BLOCK
        yield key, values[:, y : y + BLOCK, x : x + BLOCK]


def _write_categories(path: Path, legend: Legend) -> None:
    """Write names of classes where GDAL looks for them; rasterio cannot set them."""
    root = ElementTree.Element('PAMDataset')
    band = ElementTree.SubElement(root, 'PAMRasterBand', band='1')
    categories = ElementTree.SubElement(band, 'CategoryNames')
    for name in legend.classes:
        ElementTree.SubElement(categories, 'Category').text = name
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding='unicode')
    path.with_name(path.name + '.aux.xml').write_text(text + '\n', encoding='utf-8')
