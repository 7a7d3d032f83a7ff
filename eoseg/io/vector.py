"""Turn maps into polygons."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from rasterio.features import shapes
from rasterio.windows import Window
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely.geometry import Polygon, shape

from eoseg_datasets.classes import NODATA, Legend

from .atomic import complete

# Rows that are turned into polygons at once: whole blocks of a map.
_STRIP = 512
# Polygons that are written at once.
_BATCH = 10_000
# Edges are cut into pieces of this many pixels before they are projected, because a
# straight line on the map is none on the ellipsoid.
_LONGEST_EDGE = 32


def write_polygons(
    map_path: Path, gpkg: Path, legend: Legend, min_area_px: int = 1
) -> int:
    """Write the classes of a map as polygons into a GeoPackage.

    The layer 'polygons' has the fields value, class and area_ha. Pixels that share an
    edge and have the same class are one polygon; those that only touch at a corner are
    not. The CRS is that of the map. The area is the true one, on the ellipsoid; in a
    CRS that is nowhere on Earth it is the area of the plane, and null if the CRS has
    no metres.

    The map is read in strips, and polygons are written as soon as they are closed:
    memory holds one strip and the polygons that reach below it.

    Args:
        map_path: A map of one uint8 band.
        gpkg: Name of the GeoPackage, which appears only when complete.
        legend: Names of the classes.
        min_area_px: Polygons of fewer pixels are left out. They leave holes: fill
            small regions in the map itself to avoid that.

    Returns:
        Number of polygons.
    """
    with (
        closing(rasterio.open(map_path.absolute())) as dataset,
        complete(gpkg.absolute()) as part,
    ):
        crs = CRS.from_wkt(dataset.crs.to_wkt()) if dataset.crs else None
        found = (
            (value, polygon)
            for value, polygon in polygons(_strips(dataset), NODATA)
            if polygon.area >= min_area_px
        )
        count = 0
        for batch in _batches(found):
            layer = _layer(batch, dataset.transform, crs, legend)
            _write(layer, part, append=count > 0)
            count += len(batch)
    return count


def polygons(
    strips: Iterable[NDArray[np.uint8]], nodata: int
) -> Iterator[tuple[int, Polygon]]:
    """Regions of equal value of a raster that comes in strips, in pixel coordinates.

    Args:
        strips: Rows of the raster, from top to bottom, each of shape (h, width).
        nodata: Value that gets no polygon.

    Yields:
        Value and polygon, with the column as x and the row as y.
    """
    row = 0
    # Regions that reach the last row so far, and which of them each column belongs to.
    regions: list[tuple[int, list[Polygon]]] = []
    above: NDArray[np.intp] | None = None
    for strip in strips:
        pieces = _pieces(strip, nodata, row)
        top = _owners(pieces, row, strip.shape[1])
        row += len(strip)
        bottom = _owners(pieces, row, strip.shape[1])
        if above is None:
            above = np.full_like(top, -1)
        members = [*regions, *((value, [polygon]) for value, polygon in pieces)]
        groups = _groups(members, above, np.where(top < 0, -1, top + len(regions)))
        merged = _gather(members, groups)
        reaching = groups[bottom[bottom >= 0] + len(regions)]
        kept, positions = np.unique(reaching, return_inverse=True)
        closed = np.setdiff1d(np.arange(len(merged)), kept)
        yield from (_merge(merged[index]) for index in closed.tolist())
        regions = [merged[index] for index in kept.tolist()]
        above = np.full_like(bottom, -1)
        above[bottom >= 0] = positions
    yield from map(_merge, regions)


def _strips(dataset: Any) -> Iterator[NDArray[np.uint8]]:
    for row in range(0, dataset.height, _STRIP):
        height = min(_STRIP, dataset.height - row)
        yield dataset.read(1, window=Window(0, row, dataset.width, height))


def _pieces(
    strip: NDArray[np.uint8], nodata: int, row: int
) -> list[tuple[int, Polygon]]:
    found = shapes(
        strip,
        mask=strip != nodata,
        connectivity=4,
        transform=Affine.translation(0, row),
    )
    return [(int(value), cast(Polygon, shape(geometry))) for geometry, value in found]


def _owners(
    pieces: Sequence[tuple[int, Polygon]], row: int, width: int
) -> NDArray[np.intp]:
    """Which piece has an edge on the line above *row*, for each column; or -1."""
    owners = np.full(width, -1, np.intp)
    bounds = shapely.bounds([polygon for _, polygon in pieces]).reshape(-1, 4)
    for index in np.flatnonzero((bounds[:, 1] == row) | (bounds[:, 3] == row)).tolist():
        ring = shapely.get_coordinates(pieces[index][1].exterior)
        start, end = ring[:-1], ring[1:]
        on_line = (start[:, 1] == row) & (end[:, 1] == row)
        for left, right in zip(start[on_line, 0], end[on_line, 0], strict=True):
            owners[int(min(left, right)) : int(max(left, right))] = index
    return owners


def _groups(
    members: Sequence[tuple[int, list[Polygon]]],
    above: NDArray[np.intp],
    below: NDArray[np.intp],
) -> NDArray[np.intp]:
    """Number of the region of each member, given who meets at each column of a seam."""
    values = np.array([value for value, _ in members], int)
    meet = (above >= 0) & (below >= 0)
    pairs = np.unique(np.stack([above[meet], below[meet]]), axis=1)
    pairs = pairs[:, values[pairs[0]] == values[pairs[1]]]
    size = len(members)
    links = coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), (size, size))
    _, groups = connected_components(links, directed=False)
    return np.asarray(groups, np.intp)


def _gather(
    members: Sequence[tuple[int, list[Polygon]]], groups: NDArray[np.intp]
) -> list[tuple[int, list[Polygon]]]:
    merged: dict[int, tuple[int, list[Polygon]]] = {}
    for group, (value, parts) in zip(groups.tolist(), members, strict=True):
        merged.setdefault(group, (value, []))[1].extend(parts)
    return [merged[group] for group in sorted(merged)]


def _merge(region: tuple[int, list[Polygon]]) -> tuple[int, Polygon]:
    value, parts = region
    if len(parts) == 1:
        return value, parts[0]
    # Parts meet along edges, so that one polygon comes out. Simplified by nothing: the
    # corners that the seams left on straight edges go.
    return value, cast(Polygon, shapely.simplify(shapely.union_all(parts), 0))


def _batches(
    found: Iterator[tuple[int, Polygon]],
) -> Iterator[list[tuple[int, Polygon]]]:
    """Lists of polygons; one, empty, if there are none."""
    batch = list(islice(found, _BATCH))
    yield batch
    while batch := list(islice(found, _BATCH)):
        yield batch


def _layer(
    batch: Sequence[tuple[int, Polygon]],
    transform: Affine,
    crs: CRS | None,
    legend: Legend,
) -> Any:
    # Takes a second, and only those who want polygons need it.
    import geopandas

    pixels = np.array([polygon for _, polygon in batch], object)
    names = dict(enumerate(legend.classes))
    return geopandas.GeoDataFrame(
        {
            'value': np.array([value for value, _ in batch], np.int32),
            'class': np.array([names.get(v, str(v)) for v, _ in batch], object),
            'area_ha': _areas(pixels, transform, crs) / 10_000,
        },
        geometry=_project(pixels, transform),
        crs=crs,
    )


def _write(layer: Any, path: Path, append: bool) -> None:
    with warnings.catch_warnings():
        # A map that lies nowhere has no CRS, and its polygons have none either.
        warnings.filterwarnings('ignore', "'crs' was not provided", UserWarning)
        layer.to_file(
            path,
            layer='polygons',
            driver='GPKG',
            engine='pyogrio',
            geometry_type='Polygon',
            append=append,
        )


def _project(pixels: NDArray[Any], transform: Affine) -> NDArray[Any]:
    t = transform
    matrix = np.array([[t.a, t.d], [t.b, t.e]])
    return np.asarray(shapely.transform(pixels, lambda xy: xy @ matrix + (t.c, t.f)))


def _areas(
    pixels: NDArray[Any], transform: Affine, crs: CRS | None
) -> NDArray[np.float64]:
    """Areas in square metres."""
    geodetic = crs.geodetic_crs if crs else None
    geod = crs.get_geod() if crs else None
    if crs is None or geodetic is None or geod is None:
        return _plane_areas(_project(pixels, transform), crs)
    transformer = Transformer.from_crs(crs, geodetic, always_xy=True)
    # Some CRS count in grads.
    degrees = np.degrees(geodetic.axis_info[0].unit_conversion_factor)

    def to_degrees(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        lonlat = np.asarray(transformer.transform(*xy.T), np.float64).T
        return np.asarray(lonlat * degrees)

    placed = _project(shapely.segmentize(pixels, _LONGEST_EDGE), transform)

    def area(ring: Any) -> float:
        lon, lat = shapely.get_coordinates(ring).T
        return abs(geod.polygon_area_perimeter(lon, lat)[0])

    return np.array(
        [
            area(polygon.exterior) - sum(map(area, polygon.interiors))
            for polygon in shapely.transform(placed, to_degrees)
        ],
        np.float64,
    )


def _plane_areas(placed: NDArray[Any], crs: CRS | None) -> NDArray[np.float64]:
    units = {axis.unit_name for axis in crs.axis_info} if crs else set()
    if not units & {'metre', 'meter', 'm'}:
        return np.full(len(placed), np.nan)
    return np.asarray(shapely.area(placed), np.float64)
