"""Describe maps as a SpatioTemporal Asset Catalog (STAC)."""

import datetime as dt
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pystac
import rasterio
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from shapely.geometry import MultiPolygon, Polygon, box, mapping

from eoseg_datasets.classes import Legend
from eoseg_datasets.grid import Grid

from .atomic import write_json

_EXTENSIONS = 'https://stac-extensions.github.io'
_PROJECTION = f'{_EXTENSIONS}/projection/v2.0.0/schema.json'
_RASTER = f'{_EXTENSIONS}/raster/v2.0.0/schema.json'
_CLASSIFICATION = f'{_EXTENSIONS}/classification/v2.0.0/schema.json'

_MEDIA_TYPES = {
    '.tif': pystac.MediaType.COG,
    '.gpkg': pystac.MediaType.GEOPACKAGE,
    '.png': pystac.MediaType.PNG,
    '.json': pystac.MediaType.JSON,
    '.qml': pystac.MediaType.XML,
}
_ROLES = {'.tif': 'data', '.gpkg': 'data', '.png': 'overview', '.qml': 'style'}

# Points on each edge of a footprint, because edges are curved in longitude and latitude.
_EDGE_POINTS = 16
# In degrees, about a metre: points that are not needed for that are left out.
_TOLERANCE = 1e-5
# Of a degree, about a centimetre.
_DECIMALS = 7


@dataclass(frozen=True)
class MapItem:
    """A map and what belongs to it."""

    #: Name of the map in the catalogue, such as the relative path of its scene.
    id: str
    #: The map of classes.
    path: Path
    #: Where it lies.
    grid: Grid
    #: Other files by name: confidence, probabilities, polygons, quicklook, …
    assets: Mapping[str, Path]
    #: When the scene was acquired, in UTC if it names no zone; None if nobody knows.
    datetime: dt.datetime | None = None

    @property
    def json_path(self) -> Path:
        """Where the STAC item is written: beside the map."""
        return self.path.with_suffix('.json')


def write_stac(
    folder: Path,
    items: Sequence[MapItem],
    legend: Legend,
    *,
    id: str = 'maps',
    description: str = 'Maps made by eoseg.',
) -> Path:
    """Write a STAC item beside each map and a collection of them.

    All links are relative: the folder can be moved, or served, as it is. Names keep
    their spaces and letters, because programs that read catalogues from the disk take
    links as they are; only the signs that mean something in a URL (`%`, `#`, `?`) are
    escaped.

    A map without a known time of acquisition gets that of its file.

    Args:
        folder: Where collection.json is written. The maps lie in it.
        items: The maps, at least one.
        legend: Names and colours of their classes.
        id: Name of the collection.
        description: What the collection holds.

    Returns:
        Path of collection.json.

    Raises:
        ValueError: If there is no map.
    """
    if not items:
        raise ValueError('a collection needs at least one map, got none')
    collection = folder / 'collection.json'
    described = [_describe(item, legend, id) for item in items]
    for item, stac_item in zip(items, described, strict=True):
        _link(stac_item, item.json_path, collection)
        write_json(item.json_path, stac_item.to_dict(include_self_link=False))
    listing = pystac.Collection(
        id=id, description=description, extent=_extent(described), license='other'
    )
    listing.add_link(_relative_link('root', collection, collection))
    for item, stac_item in zip(items, described, strict=True):
        link = _relative_link('item', item.json_path, collection, stac_item.id)
        listing.add_link(link)
    write_json(collection, listing.to_dict(include_self_link=False))
    return collection


def footprint(grid: Grid) -> Polygon | MultiPolygon | None:
    """Outline of a raster in longitude and latitude.

    Args:
        grid: Where the raster lies.

    Returns:
        A polygon; several if the raster crosses the antimeridian, cut there as GeoJSON
        asks for. None if the CRS is nowhere on Earth.
    """
    outline = _outline(grid)
    if outline is None:
        return None
    # Walk round without jumps: neighbours are less than half a turn apart.
    lon = np.unwrap(outline[:, 0], period=360)
    ring = np.column_stack([lon, outline[:, 1]])
    if abs(lon[-1] - lon[0]) > 180:
        ring = _round_pole(ring)
    whole = shapely.make_valid(Polygon(ring))
    west, _, east, _ = whole.bounds
    turns = range(math.floor((west + 180) / 360), math.ceil((east + 180) / 360))
    # A ring round a pole begins anywhere, and its ends meet there again.
    merged = shapely.union_all([_shifted(whole, turn) for turn in turns])
    polygons = _polygons(shapely.simplify(merged, _TOLERANCE))
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)


def _outline(grid: Grid) -> NDArray[np.float64] | None:
    """Closed ring of longitudes and latitudes, with points between the corners."""
    crs = CRS.from_wkt(grid.crs.to_wkt()) if grid.crs else None
    if crs is None or crs.geodetic_crs is None:
        return None
    corners = np.array([*grid.corners, grid.corners[0]])
    steps = np.linspace(0, 4, 4 * _EDGE_POINTS + 1)
    x, y = (np.interp(steps, range(5), corners[:, axis]) for axis in (0, 1))
    transformer = Transformer.from_crs(crs, 'OGC:CRS84', always_xy=True)
    ring = np.column_stack(transformer.transform(x, y)).astype(np.float64)
    return ring if np.isfinite(ring).all() else None


def _round_pole(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Close a ring that goes once round the Earth over the pole that it holds."""
    pole = 90.0 if ring[:, 1].mean() > 0 else -90.0
    return np.vstack([ring, [[ring[-1, 0], pole], [ring[0, 0], pole]]])


def _shifted(whole: Any, turn: int) -> Any:
    """The part of a polygon on one turn round the Earth, moved to -180 … 180."""
    west = 360 * turn - 180
    part = shapely.intersection(whole, box(west, -90, west + 360, 90))
    return shapely.transform(part, lambda xy: xy - (360 * turn, 0))


def _polygons(part: Any) -> list[Polygon]:
    return [
        shapely.set_precision(polygon, 10**-_DECIMALS).normalize().reverse()
        for polygon in shapely.get_parts(part)
        if polygon.geom_type == 'Polygon' and polygon.area > 0
    ]


def _bbox(outline: Polygon | MultiPolygon) -> list[float]:
    """West, south, east and north; west > east across the antimeridian."""
    west, south, east, north = outline.bounds
    parts = shapely.get_parts(outline)
    if (west, east) == (-180, 180) and len(parts) > 1:
        west = min(p.bounds[0] for p in parts if p.bounds[0] > -180)
        east = max(p.bounds[2] for p in parts if p.bounds[2] < 180)
    return [round(value, _DECIMALS) for value in (west, south, east, north)]


def _describe(item: MapItem, legend: Legend, collection: str) -> pystac.Item:
    outline = footprint(item.grid)
    stac_item = pystac.Item(
        id=item.id,
        geometry=mapping(outline) if outline else None,
        bbox=_bbox(outline) if outline else None,
        datetime=_time(item),
        properties=_projection(item.grid),
        stac_extensions=[_PROJECTION, _CLASSIFICATION],
        collection=collection,
    )
    stac_item.add_asset('classes', _asset(item.path, item, _classes(legend)))
    for name, path in item.assets.items():
        stac_item.add_asset(name, _asset(path, item, {}))
    if any(_is_scaled(asset) for asset in stac_item.assets.values()):
        stac_item.stac_extensions.append(_RASTER)
    return stac_item


def _time(item: MapItem) -> dt.datetime:
    if item.datetime is None:
        return dt.datetime.fromtimestamp(int(item.path.stat().st_mtime), dt.UTC)
    if item.datetime.tzinfo is None:
        return item.datetime.replace(tzinfo=dt.UTC)
    return item.datetime


def _projection(grid: Grid) -> dict[str, Any]:
    fields: dict[str, Any] = {
        'proj:shape': list(grid.shape),
        'proj:transform': list(grid.transform)[:6],
        'proj:bbox': list(grid.bounds),
    }
    authority = grid.crs.to_authority() if grid.crs else None
    if authority:
        return {'proj:code': ':'.join(authority), **fields}
    wkt = CRS.from_wkt(grid.crs.to_wkt()).to_wkt() if grid.crs else None
    return {'proj:code': None, 'proj:wkt2': wkt, **fields}


def _classes(legend: Legend) -> dict[str, Any]:
    return {
        'classification:classes': [
            {
                'value': value,
                'name': _identifier(name, value),
                'title': name,
                'color_hint': color[1:].upper(),
            }
            for value, (name, color) in enumerate(
                zip(legend.classes, legend.colors, strict=True)
            )
        ]
    }


def _identifier(name: str, value: int) -> str:
    """The name with the letters that the classification extension allows."""
    kept = ''.join(c if c.isascii() and c.isalnum() else '_' for c in name)
    return kept if kept.strip('_') else f'class_{value}'


def _asset(path: Path, item: MapItem, fields: dict[str, Any]) -> pystac.Asset:
    suffix = path.suffix.lower()
    bands = {'bands': _bands(path)} if suffix == '.tif' else {}
    return pystac.Asset(
        href=_href(path, item.json_path),
        media_type=_MEDIA_TYPES.get(suffix),
        roles=[_ROLES.get(suffix, 'metadata')],
        extra_fields={**bands, **fields},
    )


def _bands(path: Path) -> list[dict[str, Any]]:
    with closing(rasterio.open(path.absolute())) as dataset:
        return [
            {
                'name': name or f'band {index}',
                'data_type': dtype,
                **_nodata(nodata, dtype),
                **({'raster:scale': scale} if scale != 1 else {}),
            }
            for index, name, dtype, nodata, scale in zip(
                dataset.indexes,
                dataset.descriptions,
                dataset.dtypes,
                dataset.nodatavals,
                dataset.scales,
                strict=True,
            )
        ]


def _is_scaled(asset: pystac.Asset) -> bool:
    return any('raster:scale' in band for band in asset.extra_fields.get('bands', []))


def _nodata(value: float | None, dtype: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not math.isfinite(value):
        # STAC spells what JSON has no number for.
        return {'nodata': str(value)}
    return {'nodata': value if dtype.startswith('float') else int(value)}


def _href(path: Path, start: Path) -> str:
    relative = os.path.relpath(path.absolute(), start.absolute().parent)
    posix = Path(relative).as_posix()
    escaped = ''.join(quote(c) if c in '%#?' or c < ' ' else c for c in posix)
    return escaped if escaped.startswith('../') else f'./{escaped}'


def _relative_link(
    rel: str, path: Path, start: Path, title: str | None = None
) -> pystac.Link:
    media_type = pystac.MediaType.GEOJSON if rel == 'item' else pystac.MediaType.JSON
    return pystac.Link(rel, _href(path, start), media_type, title)


def _link(stac_item: pystac.Item, path: Path, collection: Path) -> None:
    for rel in ('root', 'parent', 'collection'):
        stac_item.add_link(_relative_link(rel, collection, path))


def _extent(items: Sequence[pystac.Item]) -> pystac.Extent:
    times = [item.datetime for item in items if item.datetime]
    return pystac.Extent(
        pystac.SpatialExtent([_union([item.bbox for item in items if item.bbox])]),
        pystac.TemporalExtent([[min(times), max(times)]]),
    )


def _union(boxes: Sequence[Sequence[float]]) -> list[float]:
    if not boxes:
        return [-180.0, -90.0, 180.0, 90.0]
    west, south, east, north = zip(*boxes, strict=True)
    if any(w > e for w, e in zip(west, east, strict=True)):
        return [-180.0, min(south), 180.0, max(north)]
    return [min(west), min(south), max(east), max(north)]
