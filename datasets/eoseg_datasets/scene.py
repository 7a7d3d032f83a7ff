"""A scene: one acquisition as delivered, read by window."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Self

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
        image = np.zeros((len(self.bands), height, width), np.float32)
        valid = np.zeros((height, width), np.bool_)
        inside, rows, cols = _clip(window, self.grid)
        if inside is not None:
            image[:, rows, cols], valid[rows, cols] = self._read_inside(inside)
        return image, valid

    def _read_inside(
        self, window: Window
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        shape = int(window.height), int(window.width)
        image = np.empty((len(self.bands), *shape), np.float32)
        missing = np.empty(image.shape, np.bool_)
        valid = np.ones(shape, np.bool_)
        for path in dict.fromkeys(band.path for band in self.bands):
            here = [i for i, band in enumerate(self.bands) if band.path == path]
            stored, mask = self._read_file(
                path,
                [self.bands[i].index for i in here],
                window,
                allow_vrt=self.bands[here[0]].vrt,
            )
            valid &= mask
            for i, numbers in zip(here, stored, strict=True):
                missing[i] = _is_nodata(numbers, self.bands[i].nodata)
                image[i] = _values(numbers, self.bands[i])
        valid &= ~_nowhere(missing, self.bands)
        valid &= np.isfinite(image).all(axis=0)
        image[:, ~valid] = 0
        return image, valid

    def _read_file(
        self, path: Path, indexes: list[int], window: Window, *, allow_vrt: bool
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        source = handle(path, allow_vrt=allow_vrt)
        shape = int(window.height), int(window.width)
        # Bands of another resolution (Sentinel-2: 20 m beside 10 m) share the corners.
        x, y = source.width / self.grid.width, source.height / self.grid.height
        if (x, y) != (1, 1):
            window = Window(
                window.col_off * x,
                window.row_off * y,
                window.width * x,
                window.height * y,
            )
        try:
            stored = source.read(
                indexes,
                window=window,
                out_shape=(len(indexes), *shape),
                resampling=Resampling.bilinear
                if (x, y) != (1, 1)
                else Resampling.nearest,
            )
            mask = _mask_band(source, window, shape)
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
        ValueError: If it has no band of real numbers.
    """
    with open_raster(path, allow_vrt=allow_vrt) as source:
        bands = tuple(
            band_of(source, path, i, name)
            for i, name in zip(_image_bands(source), _band_names(source), strict=True)
        )
        if any(source.dtypes[band.index - 1].startswith('complex') for band in bands):
            raise ValueError(
                'its numbers are complex; convert them to amplitude or decibel first'
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


def _is_nodata(numbers: NDArray[np.generic], nodata: float | None) -> NDArray[np.bool_]:
    if nodata is None or np.isnan(nodata):  # NaN is found among the values
        return np.zeros(numbers.shape, np.bool_)
    return np.asarray(numbers == nodata)


def _values(numbers: NDArray[np.generic], band: Band) -> NDArray[np.float32]:
    values = numbers.astype(np.float32)
    if band.scale is not None:
        values *= band.scale
    if band.offset is not None:
        values += band.offset
    return values


def _nowhere(missing: NDArray[np.bool_], bands: Sequence[Band]) -> NDArray[np.bool_]:
    """Where a pixel holds no measurement.

    Zero is also a dark pixel (water in the near infrared), so as nodata it counts only
    where every band has it. Any other nodata value counts in any band.
    """
    sentinel = [i for i, band in enumerate(bands) if band.nodata != 0]
    return np.asarray(missing[sentinel].any(axis=0) | missing.all(axis=0))


def _mask_band(
    source: DatasetReader, window: Window, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Validity by alpha band, internal mask or .msk file; nodata values are not asked."""
    if MaskFlags.per_dataset not in source.mask_flag_enums[0]:
        return np.ones(shape, np.bool_)
    mask = source.read_masks(1, window=window, out_shape=shape)
    return np.asarray(mask > 0)
