"""The area to map: polygons of a user."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
from shapely import (
    MultiPolygon,
    Polygon,
    box,
    get_parts,
    make_valid,
    segmentize,
    union_all,
)
from shapely.affinity import translate

from eoseg_datasets.grid import Grid
from eoseg_datasets.labels import VECTOR_DRIVERS

from .warp import period

#: Pieces of the longer side of an area: straight edges are curved in another CRS.
_PIECES = 200


def read_area(path: Path, target: Grid) -> Polygon | MultiPolygon:
    """Polygons of a file as one shape in the CRS of a mosaic, clipped to it.

    Args:
        path: GeoPackage, GeoJSON, Shapefile or FlatGeobuf, in any CRS.
        target: Grid of the mosaic; over the antimeridian, the shape is put on the turn
            round the Earth on which the mosaic lies.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no polygon or no CRS, or the mosaic lies elsewhere.
    """
    frame = _read(path)
    shapes = [
        part
        for part in get_parts(make_valid(frame.geometry.dropna().to_numpy()))
        if isinstance(part, Polygon)
    ]
    if not shapes:
        raise ValueError(f'--aoi {path} has no polygon; give a file with at least one')
    whole = union_all(shapes)
    left, bottom, right, top = whole.bounds
    fine = segmentize(whole, max(right - left, top - bottom) / _PIECES)
    shape = gpd.GeoSeries([fine], crs=frame.crs).to_crs(target.crs)[0]
    if not np.isfinite(shape.bounds).all():
        raise ValueError(
            f'--aoi {path} reaches beyond where {target.crs.to_string()} is defined; '
            'give a smaller area, or another --crs'
        )
    turn = period(target.crs)
    if turn is not None:
        shape = union_all([translate(make_valid(shape), n * turn) for n in (-1, 0, 1)])
    clipped = make_valid(shape) & box(*target.bounds)
    # What is left of polygons that only touch the bounds are lines, or nothing.
    parts = [
        part
        for part in get_parts(clipped)
        if isinstance(part, Polygon) and part.area > 0
    ]
    if not parts:
        raise ValueError(
            f'--aoi {path} and the maps have no common area: the maps lie within '
            f'{" ".join(f"{value:.10g}" for value in target.bounds)} of '
            f'{target.crs.to_string()}'
        )
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


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
