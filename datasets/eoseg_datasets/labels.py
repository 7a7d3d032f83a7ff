"""Labels of scenes: rasters with a value per class, or polygons."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from shapely import box

from .classes import IGNORE_INDEX, Classes
from .grid import Grid
from .handles import handle
from .inventory import SUFFIXES as RASTER_SUFFIXES

#: Polygons; each is one file.
VECTOR_SUFFIXES = ('.gpkg', '.geojson', '.json', '.shp', '.fgb')

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

    def __init__(self, path: Path, classes: Classes) -> None:
        """Initialize a new RasterLabels instance.

        Args:
            path: Raster whose first band holds the labels.
            classes: What the values mean.
        """
        self.path = path
        self.classes = classes

    def read(self, grid: Grid, window: Window) -> NDArray[np.uint8]:
        """Classes in a window, as :class:`Labels` says.

        Raises:
            ValueError: If the raster lies nowhere and differs from the scene in size.
        """
        source = handle(self.path)
        # A label that lies nowhere is taken pixel by pixel.
        aligned = source.crs is None or (
            source.crs == grid.crs and source.transform.almost_equals(grid.transform)
        )
        if aligned and source.shape == grid.shape:
            stored = source.read(1, window=window)
        elif source.crs is None or grid.crs is None:
            raise ValueError(
                f'{self.path} has {source.width} x {source.height} pixels and no CRS, '
                f'the scene has {grid.width} x {grid.height}; give a label of the same size'
            )
        else:
            stored = self._warped(grid, window)
        return self._classes_of(stored, source.nodata)

    def _warped(self, grid: Grid, window: Window) -> NDArray[np.generic]:
        target = grid.crop(window)
        nodata = handle(self.path).nodata
        with WarpedVRT(
            handle(self.path),
            crs=target.crs,
            transform=target.transform,
            width=target.width,
            height=target.height,
            resampling=Resampling.nearest,
            nodata=IGNORE_INDEX if nodata is None else nodata,
        ) as source:
            return np.asarray(source.read(1))

    def _classes_of(
        self, stored: NDArray[np.generic], nodata: float | None
    ) -> NDArray[np.uint8]:
        result = np.full(stored.shape, IGNORE_INDEX, np.uint8)
        for index, value in enumerate(self.classes.values):
            result[stored == value] = index
        if nodata is not None:
            result[stored == nodata] = IGNORE_INDEX
        return result


class VectorLabels:
    """Labels as polygons. Between them lies the first class."""

    def __init__(self, path: Path, field: str | None, classes: Classes) -> None:
        """Initialize a new VectorLabels instance.

        Args:
            path: File of polygons, in any CRS.
            field: Column with the class of each; None if all are of the second class.
            classes: Names as in *field*, the first one for what no polygon covers.
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
            ValueError: If the polygons have no CRS but the scene has one.
        """
        target = grid.crop(window)
        frame = self._in_crs(grid)
        hits = frame.iloc[frame.sindex.query(box(*target.bounds))]
        shapes = list(zip(hits.geometry, self._indices(hits), strict=True))
        if not shapes:
            return np.zeros(target.shape, np.uint8)
        return np.asarray(
            rasterize(
                shapes, target.shape, fill=0, transform=target.transform, dtype='uint8'
            )
        )

    def _in_crs(self, grid: Grid) -> gpd.GeoDataFrame:
        if self._frame.crs is None and grid.crs is not None:
            raise ValueError(
                f'{self.path} has no CRS but the scene has; assign one, for example with '
                'ogr2ogr -a_srs EPSG:4326'
            )
        if grid.crs is None:
            return self._frame
        if grid.crs not in self._reprojected:
            self._reprojected[grid.crs] = self._frame.to_crs(grid.crs)
        return self._reprojected[grid.crs]

    def _indices(self, frame: gpd.GeoDataFrame) -> list[int]:
        if self.field is None:
            return [1] * len(frame)
        return [self.classes.names.index(str(name)) for name in frame[self.field]]


def read_polygons(path: Path) -> gpd.GeoDataFrame:
    """Polygons of a file, repaired, without the empty ones.

    Raises:
        ValueError: If the file has no polygon.
    """
    frame = gpd.read_file(path)
    frame = frame[frame.geometry.notna() & ~frame.geometry.is_empty]
    frame = frame[frame.geom_type.isin(['Polygon', 'MultiPolygon'])]
    if frame.empty:
        raise ValueError(f'{path} has no polygons; labels need Polygon or MultiPolygon')
    return frame.assign(geometry=frame.geometry.make_valid())


def is_label(path: Path) -> bool:
    """Whether a file may hold labels, by its suffix."""
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


def _classes_of_rasters(paths: Sequence[Path]) -> Classes:
    values: set[int] = set()
    for path in paths:
        source = handle(path)
        if not np.issubdtype(np.dtype(source.dtypes[0]), np.integer):
            raise ValueError(
                f'{path} holds {source.dtypes[0]}; labels are whole numbers, one per class'
            )
        for _, window in source.block_windows(1):
            stored = np.unique(source.read(1, window=window))
            values |= {int(value) for value in stored if value != source.nodata}
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
            {path.stem} if column is None else {str(name) for name in frame[column]}
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
