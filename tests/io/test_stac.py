"""Tests of eoseg.io.stac."""

import datetime as dt
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import shapely
from affine import Affine
from pystac.validation import validate_dict
from rasterio.crs import CRS

from eoseg.io.cog import MapWriter
from eoseg.io.stac import MapItem, footprint, write_stac
from eoseg_datasets.classes import Legend
from eoseg_datasets.grid import Grid

LEGEND = Legend(('water', 'Laubwald (dicht)', '森'), ('#0072b2', '#e69f00', '#009e73'))
ACQUIRED = dt.datetime(2021, 6, 14, 10, 30, tzinfo=dt.UTC)


def grid(code: int, transform: Affine, width: int = 30, height: int = 20) -> Grid:
    return Grid(CRS.from_epsg(code), transform, width, height)


UTM33 = grid(32633, Affine(10, 0, 5e5, 0, -10, 5e6))


def map_item(folder: Path, name: str, where: Grid = UTM33, **options: Any) -> MapItem:
    path = folder / f'{name}_classes.tif'
    with MapWriter(path, where, legend=LEGEND) as writer:
        writer.write(np.zeros(where.shape, np.uint8), 0)
    return MapItem(name, path, where, **{'assets': {}, **options})


def hrefs(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for key, entry in value.items():
                yield from [entry] if key == 'href' else hrefs(entry)
        case list():
            for entry in value:
                yield from hrefs(entry)


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text('utf-8'))
    return loaded


def test_a_catalogue_is_valid_and_can_be_moved(tmp_path: Path) -> None:
    folder = tmp_path / 'first'
    first = map_item(folder / '2021' / 'a b', 'Ä scene', datetime=ACQUIRED)
    picture = first.path.with_name('Ä scene.png')
    picture.write_bytes(b'')
    items = [
        MapItem(first.id, first.path, first.grid, {'quicklook': picture}, ACQUIRED),
        map_item(folder, 'second'),
    ]
    write_stac(folder, items, LEGEND)
    moved = folder.rename(tmp_path / 'moved')
    collection = pystac.Collection.from_file(str(moved / 'collection.json'))
    read = list(collection.get_items())
    assert [item.id for item in read] == ['Ä scene', 'second']
    assert read[0].get_collection() is collection
    for item in read:
        for asset in item.assets.values():
            assert Path(asset.get_absolute_href() or '').is_file()
    for path in moved.rglob('*.json'):
        # Schemas of extensions would be downloaded; those of the core are installed.
        validate_dict({**load(path), 'stac_extensions': []})
        assert all(href.startswith(('./', '../')) for href in hrefs(load(path)))


def test_an_item_says_where_when_and_what(tmp_path: Path) -> None:
    item = map_item(tmp_path, 'a', datetime=ACQUIRED)
    write_stac(tmp_path, [item], LEGEND)
    described = load(item.json_path)
    assert described['properties'] == {
        'datetime': '2021-06-14T10:30:00Z',
        'proj:code': 'EPSG:32633',
        'proj:shape': [20, 30],
        'proj:transform': [10, 0, 5e5, 0, -10, 5e6],
        'proj:bbox': [500_000, 4_999_800, 500_300, 5_000_000],
    }
    asset = described['assets']['classes']
    assert asset['href'] == './a_classes.tif'
    assert asset['type'].endswith('profile=cloud-optimized')
    assert asset['bands'] == [{'name': 'class', 'data_type': 'uint8', 'nodata': 255}]
    assert asset['classification:classes'] == [
        {'value': 0, 'name': 'water', 'title': 'water', 'color_hint': '0072B2'},
        {
            'value': 1,
            'name': 'Laubwald__dicht_',
            'title': 'Laubwald (dicht)',
            'color_hint': 'E69F00',
        },
        {'value': 2, 'name': 'class_2', 'title': '森', 'color_hint': '009E73'},
    ]


def test_probabilities_are_described_with_their_scale(tmp_path: Path) -> None:
    path = tmp_path / 'a_probabilities.tif'
    with MapWriter(path, UTM33, bands=('a', 'b'), scale=1 / 254) as writer:
        writer.write(np.zeros((2, 20, 30), np.uint8), 0)
    item = map_item(tmp_path, 'a', assets={'probabilities': path})
    write_stac(tmp_path, [item], LEGEND)
    described = load(item.json_path)
    bands = described['assets']['probabilities']['bands']
    assert [band['name'] for band in bands] == ['a', 'b']
    assert [band['raster:scale'] for band in bands] == [1 / 254, 1 / 254]
    assert any('/raster/' in schema for schema in described['stac_extensions'])


def test_a_map_of_unknown_time_has_that_of_its_file(tmp_path: Path) -> None:
    item = map_item(tmp_path, 'a')
    os.utime(item.path, (0, 86_400))
    write_stac(tmp_path, [item], LEGEND)
    assert load(item.json_path)['properties']['datetime'] == '1970-01-02T00:00:00Z'


def test_a_time_without_zone_is_in_utc(tmp_path: Path) -> None:
    item = map_item(tmp_path, 'a', datetime=ACQUIRED.replace(tzinfo=None))
    write_stac(tmp_path, [item], LEGEND)
    assert load(item.json_path)['properties']['datetime'] == '2021-06-14T10:30:00Z'


def test_the_collection_covers_its_items(tmp_path: Path) -> None:
    north = grid(4326, Affine(1, 0, 10, 0, -1, 60))
    items = [
        map_item(tmp_path, 'a', north, datetime=ACQUIRED),
        map_item(tmp_path, 'b', datetime=ACQUIRED + dt.timedelta(days=1)),
    ]
    extent = load(write_stac(tmp_path, items, LEGEND))['extent']
    assert extent['temporal']['interval'] == [
        ['2021-06-14T10:30:00Z', '2021-06-15T10:30:00Z']
    ]
    assert extent['spatial']['bbox'] == [[10, 40, 40, 60]]


def test_signs_that_mean_something_in_a_url_are_escaped(tmp_path: Path) -> None:
    item = map_item(tmp_path, 'a#b?c%20')
    write_stac(tmp_path, [item], LEGEND)
    href = load(item.json_path)['assets']['classes']['href']
    assert href == './a%23b%3Fc%2520_classes.tif'


def test_a_map_that_lies_nowhere_has_no_footprint(tmp_path: Path) -> None:
    chips = CRS.from_wkt('LOCAL_CS["chips",UNIT["metre",1]]')
    where = Grid(chips, Affine(1, 0, 5, 0, -1, 5), 3, 2)
    item = map_item(tmp_path, 'a', where)
    write_stac(tmp_path, [item], LEGEND)
    described = load(item.json_path)
    assert described['geometry'] is None
    assert 'bbox' not in described
    assert 'chips' in described['properties']['proj:wkt2']
    validate_dict({**described, 'stac_extensions': []})


def test_a_collection_needs_a_map(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='at least one map'):
        write_stac(tmp_path, [], LEGEND)


def test_a_footprint_follows_curved_edges() -> None:
    # The upper edge of a wide UTM raster bends by more than a tenth of a degree.
    where = grid(32633, Affine(1000, 0, 200_000, 0, -1000, 7_000_000), 600, 400)
    outline = footprint(where)
    assert outline is not None
    corners = shapely.box(*outline.bounds)
    assert outline.is_valid
    assert outline.exterior.is_ccw  # type: ignore[union-attr]
    assert len(outline.exterior.coords) > 8  # type: ignore[union-attr]
    assert outline.area < corners.area
    top = shapely.Point(15, 63.12)
    assert outline.covers(top)


def test_a_straight_footprint_has_four_corners() -> None:
    outline = footprint(grid(4326, Affine(1, 0, 10, 0, -1, 60)))
    assert outline is not None
    assert outline.equals(shapely.box(10, 40, 40, 60))
    assert len(shapely.get_coordinates(outline)) == 5


@pytest.mark.parametrize(
    ('code', 'transform'),
    [
        (4326, Affine(1, 0, 170, 0, -1, 20)),
        (4326, Affine(1, 0, -190, 0, -1, 20)),
        (3832, Affine(111_319.49, 0, 2_226_389.8, 0, -111_319.49, 2_258_423)),
    ],
    ids=['beyond 180', 'before -180', 'Pacific'],
)
def test_a_footprint_is_cut_at_the_antimeridian(
    tmp_path: Path, code: int, transform: Affine
) -> None:
    where = grid(code, transform)
    outline = footprint(where)
    assert isinstance(outline, shapely.MultiPolygon)
    east, west = sorted(outline.geoms, key=lambda part: -part.bounds[0])
    assert east.bounds[0] == pytest.approx(170, abs=0.01)
    assert east.bounds[2] == 180
    assert west.bounds[0] == -180
    assert west.bounds[2] == pytest.approx(-160, abs=0.01)
    item = map_item(tmp_path, 'a', where)
    collection = load(write_stac(tmp_path, [item], LEGEND))
    box = load(item.json_path)['bbox']
    assert box[0] == pytest.approx(170, abs=0.01)
    assert box[2] == pytest.approx(-160, abs=0.01)
    assert collection['extent']['spatial']['bbox'][0][::2] == [-180, 180]


@pytest.mark.parametrize(('code', 'pole'), [(3413, 90), (3031, -90)])
def test_a_footprint_round_a_pole_holds_it(code: int, pole: int) -> None:
    where = grid(code, Affine(1e5, 0, -1e6, 0, -1e5, 1e6), 20, 20)
    outline = footprint(where)
    assert outline is not None
    assert outline.is_valid
    for lon in range(-180, 181, 15):
        assert outline.covers(shapely.Point(lon, pole * 0.95))
        assert not outline.covers(shapely.Point(lon, pole * 0.7))
