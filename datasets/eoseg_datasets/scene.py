"""A scene: one acquisition as delivered, read by window."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from .grid import Grid
from .handles import handle, open_raster


@dataclass(frozen=True)
class Band:
    """One spectral band in a file."""

    #: As the agency names it: B4, B8A.
    name: str
    path: Path
    #: Counted from 1, as GDAL does.
    index: int
    nodata: float | None = None
    #: Value = stored number x scale + offset; None if the file does not say.
    scale: float | None = None
    offset: float | None = None
    #: Whether the file is a VRT that the user has allowed.
    vrt: bool = False
    #: Type of the stored numbers, as numpy names it; None if nobody has looked.
    dtype: str | None = None

    def __eq__(self, other: object) -> bool:
        """Whether all that is said of two bands is the same; NaN is the same as NaN."""
        return isinstance(other, Band) and self._key == other._key

    def __hash__(self) -> int:
        """A hash that agrees with :meth:`__eq__`."""
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        # NaN equals nothing, but two files with this nodata value say the same.
        nodata = (
            'nan' if self.nodata is not None and isnan(self.nodata) else self.nodata
        )
        numbers = self.scale, self.offset, self.vrt, self.dtype
        return self.name, self.path, self.index, nodata, *numbers


@dataclass(frozen=True)
class Scene:
    """One acquisition as delivered: its bands on one grid.

    Holds no open file, so that it can be pickled, compared and sent to a worker.
    """

    #: Path relative to the folder it was found in, without suffix, with slashes.
    name: str
    #: The file or folder.
    path: Path
    #: Where the pixels lie; its crs is None as long as nobody has said.
    grid: Grid
    bands: tuple[Band, ...]
    acquired: datetime | None = None

    @property
    def crs(self) -> CRS | None:
        """Coordinate reference system; None for a picture that lies nowhere."""
        return self.grid.crs

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands in order."""
        return tuple(band.name for band in self.bands)

    def select(self, names: Sequence[str]) -> Self:
        """The same scene with these bands in this order.

        Args:
            names: Names of bands; ``'1'`` is the first band, whatever its name.

        Raises:
            ValueError: If the scene has no band of that name.
        """
        by_name = {str(i): band for i, band in enumerate(self.bands, 1)}
        by_name |= {band.name: band for band in self.bands}
        missing = [name for name in names if name not in by_name]
        if missing:
            raise ValueError(
                f'{self.name} has no band {", ".join(missing)}; '
                f'its bands are {", ".join(self.band_names)}'
            )
        return replace(self, bands=tuple(by_name[name] for name in names))

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read a window, which may reach beyond the scene.

        Args:
            window: Whole pixels of the grid.

        Returns:
            Values of the bands, of shape (C, H, W), 0 where there are none, and
            whether a pixel is valid, of shape (H, W).

        Raises:
            RasterioError: If a file cannot be read.
        """
        height, width = int(window.height), int(window.width)
        inside, rows, cols = _clip(window, self.grid)
        if inside == window:
            return self._read_inside(inside)
        image = np.zeros((len(self.bands), height, width), np.float32)
        valid = np.zeros((height, width), np.bool_)
        if inside is not None:
            image[:, rows, cols], valid[rows, cols] = self._read_inside(inside)
        return image, valid

    def read_stored(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window inside the scene as it is stored, before scale and offset.

        Args:
            window: Whole pixels of the grid, all of them inside.

        Returns:
            Stored numbers of the bands, of shape (C, H, W), in the smallest type that
            holds all of them exactly, whatever they are where a pixel is not valid; and
            whether a pixel is valid, of shape (H, W).

        Raises:
            RasterioError: If a file cannot be read.
        """
        valid, zero = self._nothing_known(window)
        parts = []
        for path, here in self._by_file().items():
            stored, mask = self._read_file(path, here, window)
            valid &= mask
            for i, numbers in zip(here, stored, strict=True):
                _exclude(numbers, self.bands[i], valid, zero)
            parts.append((here, stored))
        return _in_order(parts), valid & ~zero

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window are valid, as :meth:`read` says, but cheaper.

        Only bands that can say so are read: where no band has a nodata value or floating
        numbers, and no file a mask, nothing is.

        Args:
            window: Whole pixels of the grid; it may reach beyond the scene.

        Returns:
            Whether a pixel is valid, of shape (H, W).

        Raises:
            RasterioError: If a file cannot be read.
        """
        valid = np.zeros((int(window.height), int(window.width)), np.bool_)
        inside, rows, cols = _clip(window, self.grid)
        if inside is not None:
            valid[rows, cols] = self._valid_inside(inside)
        return valid

    def _valid_inside(self, window: Window) -> NDArray[np.bool_]:
        valid, zero = self._nothing_known(window)
        for path, here in self._by_file().items():
            source = handle(path, allow_vrt=self.bands[here[0]].vrt)
            # Zero counts where every band has it: one that has it nowhere spares others.
            telling = [
                i
                for i in here
                if _is_float(source.dtypes[self.bands[i].index - 1])
                or self.bands[i].nodata
                or zero.any()
            ]
            stored, mask = self._read_file(path, telling, window)
            valid &= mask
            for i, numbers in zip(telling, stored, strict=True):
                _exclude(numbers, self.bands[i], valid, zero)
        return np.asarray(valid & ~zero)

    def _read_inside(
        self, window: Window
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        stored, valid = self.read_stored(window)
        image = stored.astype(np.float32, copy=False)
        for values, band in zip(image, self.bands, strict=True):
            _to_values(values, band)
        if not valid.all():
            image[:, ~valid] = 0
        return image, valid

    def _nothing_known(
        self, window: Window
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether pixels are valid, and whether all their bands are a zero for nodata.

        Zero is also a dark pixel (water in the near infrared), so as nodata it counts
        only where every band has it. Any other nodata value counts in any band.
        """
        zero = all(band.nodata == 0 for band in self.bands)
        return np.ones(_shape(window), np.bool_), np.full(_shape(window), zero)

    def _by_file(self) -> dict[Path, list[int]]:
        """Positions of the bands in each file."""
        files: dict[Path, list[int]] = {}
        for i, band in enumerate(self.bands):
            files.setdefault(band.path, []).append(i)
        return files

    def _read_file(
        self, path: Path, positions: Sequence[int], window: Window
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Stored numbers of some bands of a file, and validity by its mask band."""
        bands = [self.bands[i] for i in positions]
        source = handle(path, allow_vrt=any(band.vrt for band in self.bands))
        shape = _shape(window)
        dtypes = [source.dtypes[band.index - 1] for band in bands]
        # Bands of another resolution (Sentinel-2: 20 m beside 10 m) share the corners.
        x, y = source.width / self.grid.width, source.height / self.grid.height
        if (x, y) != (1, 1):
            # What lies between two numbers is no whole number.
            dtypes.append('float32')
            window = Window(
                window.col_off * x,
                window.row_off * y,
                window.width * x,
                window.height * y,
            )
        try:
            mask = _mask_band(source, window, shape)
            if not bands:  # rasterio refuses to read none
                return np.empty((0, *shape), np.float32), mask
            stored = source.read(
                [band.index for band in bands],
                window=window,
                out_shape=(len(bands), *shape),
                # Exact for every number: GDAL converts while it copies.
                out_dtype=np.result_type(*dtypes),
                resampling=_resampling(x, y),
            )
        except RasterioError as error:
            raise type(error)(f'{path}: {error.__cause__ or error}') from error
        return stored, mask


class ScenePatch(NamedTuple):
    """A window of one scene, in whole pixels of its own grid."""

    #: Position in the scenes of a data set.
    scene: int
    window: Window
    #: Part of the window whose labels count; None for all of it. Where patches overlap,
    #: it is what no earlier patch has shown.
    fresh: Window | None = None


def open_scene(
    path: Path, root: Path | None = None, *, allow_vrt: bool = False
) -> Scene:
    """A raster file as a scene. Only the header is read.

    Args:
        path: GeoTIFF, COG, JPEG 2000, PNG or JPEG.
        root: Folder that the name of the scene is relative to.
        allow_vrt: Whether a VRT, which may read other files, is accepted.

    Raises:
        RasterioIOError: If the file cannot be opened.
        ValueError: If it has no band of real numbers, or if its end is missing.
    """
    with open_raster(path, allow_vrt=allow_vrt) as source:
        check_complete(source, path)
        bands = tuple(
            band_of(source, path, i, name)
            for i, name in zip(_image_bands(source), _band_names(source), strict=True)
        )
        if any(source.dtypes[band.index - 1].startswith('complex') for band in bands):
            raise ValueError(
                'its numbers are complex; convert them to amplitude or decibel first, '
                'with eoseg_datasets.radar.write_decibel'
            )
        return Scene(
            name=scene_name(path, root),
            path=path,
            grid=grid_of(source),
            bands=bands,
            acquired=_acquired(source),
        )


def scene_name(path: Path, root: Path | None) -> str:
    """Path relative to *root*, without suffix, with slashes on every system."""
    relative = path.relative_to(root) if root and root != path else Path(path.name)
    return (relative.with_suffix('') if path.is_file() else relative).as_posix()


def grid_of(source: DatasetReader) -> Grid:
    """Where the pixels of an open raster lie."""
    return Grid(source.crs, source.transform, source.width, source.height)


def band_of(source: DatasetReader, path: Path, index: int, name: str) -> Band:
    """A band of an open raster, with what the file says about its numbers."""
    scale, offset = source.scales[index - 1], source.offsets[index - 1]
    says_nothing = (scale, offset) == (1, 0)
    return Band(
        name=name,
        path=path,
        index=index,
        nodata=source.nodatavals[index - 1],
        scale=None if says_nothing else scale,
        offset=None if says_nothing else offset,
        vrt=source.driver == 'VRT',
        dtype=source.dtypes[index - 1],
    )


def check_complete(source: DatasetReader, path: Path) -> None:
    """Refuse a GeoTIFF whose end is missing, without reading its pixels.

    A download that was interrupted opens well if the header comes first.

    Args:
        source: An open raster.
        path: Its file.

    Raises:
        ValueError: If the last block ends behind the end of the file.
    """
    if source.driver != 'GTiff':
        return
    height, width = source.block_shapes[-1]
    block = f'{(source.width - 1) // width}_{(source.height - 1) // height}'
    # None for a block that is not stored, because all of it is nodata.
    offset, length = (
        source.get_tag_item(f'BLOCK_{what}_{block}', 'TIFF', bidx=source.count) or 0
        for what in ('OFFSET', 'SIZE')
    )
    end, size = int(offset) + int(length), path.stat().st_size
    if end > size:
        raise ValueError(
            f'the end of {path.name} is missing: it has {size} bytes of at least {end}; '
            'copy or download it again'
        )


def _image_bands(source: DatasetReader) -> list[int]:
    return [
        i
        for i, meaning in zip(source.indexes, source.colorinterp, strict=True)
        if meaning != ColorInterp.alpha
    ]


def _band_names(source: DatasetReader) -> list[str]:
    """Descriptions where the file has them for all its bands, else B1, B2, …."""
    given = [source.descriptions[i - 1] for i in _image_bands(source)]
    if all(given) and len(set(given)) == len(given):
        return [str(name) for name in given]
    return [f'B{i}' for i in _image_bands(source)]


def _acquired(source: DatasetReader) -> datetime | None:
    text = source.tags().get('TIFFTAG_DATETIME')
    try:
        return datetime.strptime(text, '%Y:%m:%d %H:%M:%S') if text else None
    except ValueError:
        return None


def _clip(window: Window, grid: Grid) -> tuple[Window | None, slice, slice]:
    """The part of a window inside a grid, and where in the window it lies."""
    row, col = int(window.row_off), int(window.col_off)
    top, bottom = max(row, 0), min(row + int(window.height), grid.height)
    left, right = max(col, 0), min(col + int(window.width), grid.width)
    if bottom <= top or right <= left:
        return None, slice(0), slice(0)
    return (
        Window(left, top, right - left, bottom - top),
        slice(top - row, bottom - row),
        slice(left - col, right - col),
    )


def _shape(window: Window) -> tuple[int, int]:
    return int(window.height), int(window.width)


def _is_float(dtype: str) -> bool:
    return bool(np.issubdtype(np.dtype(dtype), np.floating))


def _resampling(x: float, y: float) -> Resampling:
    """How to get pixels that are *x* times as wide and *y* times as high as stored."""
    if (x, y) == (1, 1):
        return Resampling.nearest
    # Bilinear also widens its kernel, but means are what a coarser sensor sees.
    return Resampling.average if min(x, y) >= 1 else Resampling.bilinear


def _exclude(
    numbers: NDArray[Any],
    band: Band,
    valid: NDArray[np.bool_],
    zero: NDArray[np.bool_],
) -> None:
    """Take pixels out of *valid* and *zero* by what a band has stored."""
    if band.nodata == 0:
        zero &= numbers == 0
    elif band.nodata is not None and not isnan(band.nodata):
        # Whole numbers are compared as such, which is several times faster.
        whole = numbers.dtype.kind in 'iu' and float(band.nodata).is_integer()
        valid &= numbers != (int(band.nodata) if whole else band.nodata)
    if band.dtype is None or _is_float(band.dtype):
        valid &= np.isfinite(numbers)


def _in_order(
    parts: Sequence[tuple[Sequence[int], NDArray[Any]]],
) -> NDArray[Any]:
    """Bands of several files in one array; those of a single file are not copied."""
    if len(parts) == 1:
        return parts[0][1]
    bands = {i: band for here, stored in parts for i, band in zip(here, stored)}
    return np.stack([bands[i] for i in range(len(bands))])


def _to_values(numbers: NDArray[np.float32], band: Band) -> None:
    """Turn stored numbers into values, in place."""
    if band.scale is not None:
        numbers *= band.scale
    if band.offset is not None:
        numbers += band.offset


def _mask_band(
    source: DatasetReader, window: Window, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Validity by alpha band, internal mask or .msk file; nodata values are not asked."""
    if MaskFlags.per_dataset not in source.mask_flag_enums[0]:
        return np.ones(shape, np.bool_)
    mask = source.read_masks(1, window=window, out_shape=shape)
    return np.asarray(mask > 0)
