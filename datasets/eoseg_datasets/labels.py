"""Labels of scenes: rasters with a value per class, or polygons."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.windows import Window
from shapely import box

from .classes import IGNORE_INDEX, Classes
from .grid import Grid
from .handles import handle
from .inventory import SUFFIXES
from .scene import grid_of
from .warp import aligned_window, source_window, warp_labels

#: Rasters; not VRT, which may read any file.
RASTER_SUFFIXES = tuple(suffix for suffix in SUFFIXES if suffix != '.vrt')

#: Polygons; each is one file.
VECTOR_SUFFIXES = ('.gpkg', '.geojson', '.json', '.shp', '.fgb')

#: Formats of polygons. OGR also has some that read other files or addresses, and opens
#: them whatever their suffix is.
VECTOR_DRIVERS = ('GPKG', 'GeoJSON', 'ESRI Shapefile', 'FlatGeobuf')

#: Columns that are taken for the class of a polygon, in this order.
CLASS_FIELDS = ('class', 'class_name', 'label', 'category', 'landcover', 'type')


class Labels(Protocol):
    """Class of each pixel of a scene."""

    def read(self, grid: Grid, window: Window) -> NDArray[np.uint8]:
        """Classes in a window of a scene, 255 where there is no label.

        Args:
            grid: Grid of the scene.
            window: Window of that grid, inside it.

        Returns:
            Class indices, of shape (H, W).
        """


class RasterLabels:
    """Labels in a raster, one value per class."""

    def __init__(
        self, path: Path, classes: Classes, meaning: Mapping[int, int] | None = None
    ) -> None:
        """Initialize a new RasterLabels instance.

        Args:
            path: Raster whose first band holds the labels.
            classes: What the values mean.
            meaning: Class index of each value, 255 for no label, where several values
                are of one class. By default as *classes* says.
        """
        self.path = path
        self.classes = classes
        named = {value: index for index, value in enumerate(classes.values)}
        self._meaning = {IGNORE_INDEX: IGNORE_INDEX} | dict(meaning or named)

    def read(self, grid: Grid, window: Window) -> NDArray[np.uint8]:
        """Classes in a window, as :class:`Labels` says.

        Raises:
            ValueError: If the raster lies nowhere and differs from the scene in size,
                or if a value is of no class.
        """
        source, target = grid_of(handle(self.path)), grid.crop(window)
        if not (source.is_placed and grid.is_placed):
            if source.shape == grid.shape:
                # Where one of the two lies nowhere, it is taken pixel by pixel.
                return self._classes_in(window)
            nowhere = 'it has no CRS' if grid.is_placed else 'the scene has no CRS'
            raise ValueError(
                f'{self.path} has {source.width} x {source.height} pixels, the scene has '
                f'{grid.width} x {grid.height}, and {nowhere}; give a label of the same '
                'size, or assign one with rio edit-info --crs'
            )
        aligned = aligned_window(source, target)
        if aligned is not None and _contains(source, aligned):
            return self._classes_in(aligned)
        near = source_window(source, target)
        if not (near.width and near.height):
            return np.full(target.shape, IGNORE_INDEX, np.uint8)
        return warp_labels(
            self._classes_in(near), IGNORE_INDEX, source.crop(near), target
        )

    def _classes_in(self, window: Window) -> NDArray[np.uint8]:
        """Classes in a window of the grid of the labels."""
        source = handle(self.path)
        stored = source.read(1, window=window)
        nodata = {} if source.nodata is None else {source.nodata: IGNORE_INDEX}
        return decoded(stored, self._meaning | nodata, self.path)


class ColorLabels(RasterLabels):
    """Labels in a picture, one colour per class."""

    def __init__(
        self,
        path: Path,
        classes: Classes,
        meaning: Mapping[tuple[int, int, int], int],
    ) -> None:
        """Initialize a new ColorLabels instance.

        Args:
            path: Raster whose first three bands are red, green and blue.
            classes: Names of the classes.
            meaning: Class index of each colour, 255 for no label.
        """
        super().__init__(path, classes)
        self._meaning = {_packed(*color): index for color, index in meaning.items()}

    def _classes_in(self, window: Window) -> NDArray[np.uint8]:
        red, green, blue = handle(self.path).read([1, 2, 3], window=window)
        return decoded(_packed(red, green, blue), self._meaning, self.path)


class VectorLabels:
    """Labels as polygons. Between them lies the first class.

    Where polygons overlap, the one that comes later in the file covers the earlier ones.
    What a polygon without a class covers has no label.
    """

    def __init__(self, path: Path, field: str | None, classes: Classes) -> None:
        """Initialize a new VectorLabels instance.

        Args:
            path: File of polygons, in any CRS.
            field: Column with the class of each; None if all are of the second class.
            classes: Names or values as in *field*, the first one for what no polygon
                covers.
        """
        self.path = path
        self.field = field
        self.classes = classes
        self._reprojected: dict[CRS, gpd.GeoDataFrame] = {}

    @cached_property
    def _frame(self) -> gpd.GeoDataFrame:
        return read_polygons(self.path)

    def read(self, grid: Grid, window: Window) -> NDArray[np.uint8]:
        """Classes in a window, as :class:`Labels` says.

        Raises:
            ValueError: If one of polygons and scene has a place and the other has none,
                or if a polygon is of none of the classes.
        """
        target = grid.crop(window)
        frame = self._in_crs(grid)
        # The spatial index answers in an order of its own, the file's is what counts.
        hits = np.sort(frame.sindex.query(box(*target.bounds)))
        shapes = list(zip(frame.geometry.iloc[hits], self._indices[hits], strict=True))
        if not shapes:
            return np.zeros(target.shape, np.uint8)
        return np.asarray(
            rasterize(
                shapes, target.shape, fill=0, transform=target.transform, dtype='uint8'
            )
        )

    def _in_crs(self, grid: Grid) -> gpd.GeoDataFrame:
        if self._frame.crs is None and grid.is_placed:
            raise ValueError(
                f'{self.path} has no CRS but the scene has; assign one, for example with '
                'ogr2ogr -a_srs EPSG:4326'
            )
        if self._frame.crs is not None and not grid.is_placed:
            raise ValueError(
                f'{self.path} lies in {self._frame.crs.to_string()}, the scene lies '
                'nowhere; give the scene its CRS and place with gdal_translate -a_srs '
                '-a_ullr, or open tiles of a web map with WebTiles'
            )
        if not grid.is_placed:
            return self._frame
        if grid.crs not in self._reprojected:
            self._reprojected[grid.crs] = self._frame.to_crs(grid.crs)
        return self._reprojected[grid.crs]

    @cached_property
    def _indices(self) -> NDArray[np.uint8]:
        """Class of each polygon of the file."""
        if self.field is None:
            return np.ones(len(self._frame), np.uint8)
        known = {str(value): i for i, value in enumerate(self.classes.values)}
        known |= {name: i for i, name in enumerate(self.classes.names)}
        names = [_class_name(value) for value in self._frame[self.field]]
        unknown = sorted({name for name in names if name is not None} - known.keys())
        if unknown:
            raise ValueError(
                f'{self.path} has polygons of class {", ".join(map(repr, unknown[:5]))} '
                f'in column {self.field!r}; the classes are '
                f'{", ".join(self.classes.names)}: add it to classes.csv or correct it'
            )
        return np.array(
            [IGNORE_INDEX if name is None else known[name] for name in names], np.uint8
        )


def read_polygons(path: Path) -> gpd.GeoDataFrame:
    """Polygons of a file, repaired, without the empty ones.

    Raises:
        ValueError: If the file has no polygon, or is of another format.
    """
    driver = pyogrio.read_info(path)['driver']
    if driver not in VECTOR_DRIVERS:
        raise ValueError(
            f'{path} is of the format {driver}; labels may be '
            f'{", ".join(VECTOR_DRIVERS)}: convert it with ogr2ogr'
        )
    frame = gpd.read_file(path, engine='pyogrio')
    frame = frame[frame.geometry.notna() & ~frame.geometry.is_empty]
    frame = frame[frame.geom_type.isin(['Polygon', 'MultiPolygon'])]
    if frame.empty:
        raise ValueError(f'{path} has no polygons; labels need Polygon or MultiPolygon')
    return frame.assign(geometry=frame.geometry.make_valid())


def is_label(path: Path) -> bool:
    """Whether a file may hold labels: by its suffix, JSON by what it says it is."""
    if path.suffix.lower() == '.json':
        return _is_geojson(path)
    return path.suffix.lower() in (*RASTER_SUFFIXES, *VECTOR_SUFFIXES)


def is_vector(path: Path) -> bool:
    """Whether a file holds polygons, by its suffix."""
    return path.suffix.lower() in VECTOR_SUFFIXES


def open_labels(path: Path, classes: Classes, field: str | None = None) -> Labels:
    """Labels in a file.

    Args:
        path: Raster or polygons.
        classes: The classes of the data set.
        field: Column with the class of a polygon; by default the first of
            :data:`CLASS_FIELDS` that is there.
    """
    if is_vector(path):
        return VectorLabels(path, class_field(read_polygons(path), field), classes)
    return RasterLabels(path, classes)


def find_classes(paths: Iterable[Path], field: str | None = None) -> Classes:
    """Classes that occur in label files.

    Args:
        paths: Rasters, or files of polygons.
        field: Column with the class of a polygon.

    Raises:
        ValueError: If there are both, or more values than a map can hold.
    """
    paths = list(paths)
    vectors = [path for path in paths if is_vector(path)]
    if vectors and len(vectors) < len(paths):
        raise ValueError(
            f'labels are rasters ({len(paths) - len(vectors)}) and polygons '
            f'({len(vectors)}); give one kind, or a classes.csv'
        )
    return (
        _classes_of_polygons(vectors, field) if vectors else _classes_of_rasters(paths)
    )


def decoded(
    stored: NDArray[np.generic], meaning: Mapping[int, int], path: Path
) -> NDArray[np.uint8]:
    """Class indices in place of stored values.

    Args:
        stored: Values, of any shape.
        meaning: Class index of each value, 255 for no label.
        path: Where they were read, for the message.

    Raises:
        ValueError: If a value is not in *meaning*.
    """
    indices = _looked_up(stored, meaning)
    unknown = indices < 0
    if unknown.any():
        found = ', '.join(map(str, np.unique(stored[unknown])[:5]))
        known = ', '.join(f'{value:g}' for value in sorted(meaning))
        raise ValueError(
            f'{path} has the value {found}, which is of no class; known are {known}. '
            f'Name it in classes.csv, or set its pixels to {IGNORE_INDEX} (no label)'
        )
    return indices.astype(np.uint8)


def _looked_up(
    stored: NDArray[np.generic], meaning: Mapping[int, int]
) -> NDArray[np.int16]:
    """Class index of each value, -1 for one that is not known."""
    values = np.array(sorted(meaning))
    indices = np.array([meaning[value] for value in sorted(meaning)], np.int16)
    if stored.dtype == np.uint8:
        # Seven times as fast as a search, and most labels are of this type.
        table = np.full(256, -1, np.int16)
        fits = (values >= 0) & (values < 256)
        table[values[fits].astype(np.uint8)] = indices[fits]
        return np.asarray(table[stored])
    position = np.searchsorted(values, stored).clip(max=len(values) - 1)
    return np.where(values[position] == stored, indices[position], np.int16(-1))


def _packed(red: Any, green: Any, blue: Any) -> Any:
    """A colour, or arrays of them, as one number."""
    return (np.int32(red) << 16) + (np.int32(green) << 8) + np.int32(blue)


def _contains(grid: Grid, window: Window) -> bool:
    return bool(
        window.col_off >= 0
        and window.row_off >= 0
        and window.col_off + window.width <= grid.width
        and window.row_off + window.height <= grid.height
    )


def _is_geojson(path: Path) -> bool:
    """Whether a JSON file holds shapes; an item of a STAC catalogue describes a file."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return (
        isinstance(content, dict)
        and 'stac_version' not in content
        and content.get('type')
        in ('FeatureCollection', 'Feature', 'Polygon', 'MultiPolygon')
    )


def _class_name(value: Any) -> str | None:
    """Name of a class in a column of any type; None where there is none."""
    if value is None or pd.isna(value):
        return None
    # Whole numbers are read as floats where the column has gaps.
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _classes_of_rasters(paths: Sequence[Path]) -> Classes:
    values: set[int] = set()
    hidden: dict[int, Path] = {}
    for path in paths:
        source = handle(path)
        if not np.issubdtype(np.dtype(source.dtypes[0]), np.integer):
            raise ValueError(
                f'{path} holds {source.dtypes[0]}; labels are whole numbers, one per class'
            )
        for _, window in source.block_windows(1):
            stored = np.unique(source.read(1, window=window))
            values |= {int(value) for value in stored if value != source.nodata}
            if source.nodata is not None and source.nodata in stored:
                hidden[int(source.nodata)] = path
    if len(values) == 1 and hidden:
        value, path = next(iter(hidden.items()))
        raise ValueError(
            f'labels have one value, {min(values)}: {value} is nodata in {path} and means '
            'no label; if it is a class, unset it with rio edit-info --unset-nodata'
        )
    # 255 means no label, except in a black-and-white mask, where it is the class.
    if values != {0, IGNORE_INDEX}:
        values -= {IGNORE_INDEX}
    if len(values) < 2 or len(values) >= IGNORE_INDEX:
        raise ValueError(
            f'labels have {len(values)} different values in {len(paths)} files '
            f'(such as {paths[0]}); 2 to {IGNORE_INDEX - 1} classes are possible'
        )
    if values == {0, IGNORE_INDEX} or values == {0, 1}:
        return Classes.named(('background', 'foreground'), sorted(values))
    return Classes.named([f'class {value}' for value in sorted(values)], sorted(values))


def _classes_of_polygons(paths: Sequence[Path], field: str | None) -> Classes:
    names: set[str] = set()
    for path in paths:
        frame = read_polygons(path)
        column = class_field(frame, field)
        names |= (
            {path.stem}
            if column is None
            else {name for value in frame[column] if (name := _class_name(value))}
        )
    if field is None and all(
        class_field(read_polygons(p), None) is None for p in paths
    ):
        names = {paths[0].stem} if len(paths) == 1 else {'labelled'}
    return Classes.named(['background', *sorted(names - {'background'})])


def class_field(frame: gpd.GeoDataFrame, field: str | None) -> str | None:
    """Column with the class of each polygon.

    Raises:
        ValueError: If *field* is given and the file does not have it.
    """
    if field is not None and field not in frame.columns:
        raise ValueError(
            f'polygons have no column {field!r}; they have '
            f'{", ".join(name for name in frame.columns if name != "geometry")}'
        )
    lower = {str(name).lower(): str(name) for name in frame.columns}
    return field or next((lower[name] for name in CLASS_FIELDS if name in lower), None)
