"""The area to map: polygons of a user."""

from dataclasses import dataclass
from hashlib import sha256
from math import ceil, floor
from pathlib import Path
from typing import Self

import geopandas as gpd
import numpy as np
import pyogrio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import geometry_mask
from rasterio.windows import Window
from shapely import (
    MultiPolygon,
    Polygon,
    box,
    get_parts,
    make_valid,
    segmentize,
    union_all,
)
from shapely.affinity import affine_transform, translate
from shapely.geometry.base import BaseGeometry

from eoseg_datasets.grid import Grid
from eoseg_datasets.labels import VECTOR_DRIVERS

from .target import bounds_in
from .warp import period

#: Pieces of the longer side of what a raster sees: straight edges are curved in another
#: CRS.
_PIECES = 200

#: Share of its size by which the bounds of a raster in another CRS may be too small.
_MARGIN = 0.05


@dataclass(frozen=True)
class Clip:
    """What of a raster an area covers."""

    #: In the CRS of the raster, and inside of it.
    shape: MultiPolygon
    grid: Grid

    def touches(self, window: Window) -> bool:
        """Whether the area reaches into a window or the pixels beside it.

        From these, pixels at the edge of the area may be interpolated.

        Args:
            window: In pixels of the raster, perhaps beyond it.
        """
        grown = Window(
            window.col_off - 1,
            window.row_off - 1,
            window.width + 2,
            window.height + 2,
        )
        return bool(self.shape.intersects(Polygon(self.grid.crop(grown).corners)))

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Pixels of a window whose centre lies in the area, of shape (h, w)."""
        return inside(self.shape, self.grid.crop(window))

    def window(self, block: int) -> Window:
        """Blocks around all of the area.

        Args:
            block: Side of a block in pixels; those at the end of the raster are smaller.
        """
        pixels = affine_transform(self.shape, (~self.grid.transform).to_shapely())
        left, top, right, bottom = np.array(pixels.bounds) / block
        (col, width), (row, height) = (
            (first, min(ceil(last) * block, length) - first)
            for first, last, length in [
                (max(floor(left), 0) * block, right, self.grid.width),
                (max(floor(top), 0) * block, bottom, self.grid.height),
            ]
        )
        return Window(col, row, width, height)


def inside(shape: BaseGeometry, grid: Grid) -> NDArray[np.bool_]:
    """Pixels whose centre lies in a shape, of shape (H, W).

    Args:
        shape: In the CRS of *grid*.
        grid: Of the pixels.
    """
    return np.asarray(geometry_mask([shape], grid.shape, grid.transform, invert=True))


@dataclass(frozen=True)
class Area:
    """Polygons of a user."""

    path: Path
    shape: MultiPolygon
    crs: CRS

    @classmethod
    def read(cls, path: Path) -> Self:
        """Polygons of a file as one shape.

        Args:
            path: GeoPackage, GeoJSON, Shapefile or FlatGeobuf, in any CRS.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If there is no polygon or no CRS.
        """
        frame = _read(path)
        whole = union_all(make_valid(frame.geometry.dropna().to_numpy()))
        parts = _polygons(whole)
        if not parts:
            raise ValueError(
                f'--aoi {path} has no polygon; give a file with at least one'
            )
        return cls(path, MultiPolygon(parts), CRS.from_wkt(frame.crs.to_wkt()))

    @property
    def digest(self) -> str:
        """What tells it from another area."""
        return sha256(self.shape.wkb + self.crs.wkt.encode()).hexdigest()[:16]

    def on(self, grid: Grid) -> Clip | None:
        """What of a raster the area covers; None if they do not meet.

        Args:
            grid: Of a raster on Earth; over the antimeridian, the area is put on the turn
                round the Earth on which the raster lies.

        Raises:
            ValueError: If the area reaches beyond where the CRS of the raster is defined.
        """
        near = self._near(grid)
        if near.is_empty:
            return None
        left, bottom, right, top = near.bounds
        # Of a point or a line that touches, nothing is left.
        fine = segmentize(near, max(right - left, top - bottom) / _PIECES or 1.0)
        shape = gpd.GeoSeries([fine], crs=self.crs).to_crs(grid.crs)[0]
        if not np.isfinite(shape.bounds).all():
            raise ValueError(
                f'--aoi {self.path} reaches beyond where {grid.crs.to_string()} is '
                'defined; give a smaller area, or another --crs'
            )
        turn = period(grid.crs)
        if turn is not None:
            rings = [_unwrapped(part, turn) for part in _polygons(shape)]
            shape = union_all(make_valid(rings))
        turns = [translate(make_valid(shape), shift) for shift in _turns(grid.crs)]
        clipped = union_all(turns) & Polygon(grid.corners)
        parts = [part for part in _polygons(clipped) if part.area > 0]
        return Clip(MultiPolygon(parts), grid) if parts else None

    def _near(self, grid: Grid) -> BaseGeometry:
        """What of the area lies around a raster: the rest may lie nowhere in its CRS."""
        try:
            left, bottom, right, top = bounds_in(grid, self.crs)
        except ValueError:
            return Polygon()  # it lies where the CRS of the area is not defined
        x, y = (right - left) * _MARGIN, (top - bottom) * _MARGIN
        around = box(left - x, bottom - y, right + x, top + y)
        boxes = [translate(around, turn) for turn in _turns(self.crs)]
        return self.shape & union_all(boxes)


def _turns(crs: CRS) -> list[float]:
    """Shifts along x that lead to the same place."""
    turn = period(crs)
    return [0.0] if turn is None else [-turn, 0.0, turn]


def _unwrapped(polygon: Polygon, turn: float) -> Polygon:
    """The same without jumps from one end of the Earth to the other."""
    middle: float | None = None
    rings = []
    for ring in (polygon.exterior, *polygon.interiors):
        x, y = np.array(ring.coords).T
        x = np.unwrap(x, period=turn)
        middle = x.mean() if middle is None else middle
        # A hole is on the same turn as what it is in.
        rings.append(np.stack([x - turn * np.round((x.mean() - middle) / turn), y], 1))
    return Polygon(rings[0], rings[1:])


def _polygons(shape: BaseGeometry) -> list[Polygon]:
    return [part for part in get_parts(shape) if isinstance(part, Polygon)]


def _read(path: Path) -> gpd.GeoDataFrame:
    if not path.is_file():
        raise FileNotFoundError(f'--aoi {path} does not exist; give a file of polygons')
    driver = pyogrio.read_info(path)['driver']
    if driver not in VECTOR_DRIVERS:
        raise ValueError(
            f'--aoi {path} is {driver}; convert it to one of {", ".join(VECTOR_DRIVERS)}'
        )
    frame = gpd.read_file(path, engine='pyogrio')
    if frame.crs is None:
        raise ValueError(f'--aoi {path} has no CRS; assign one (ogr2ogr -a_srs EPSG:…)')
    return frame
