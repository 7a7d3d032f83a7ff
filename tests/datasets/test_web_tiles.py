"""Tiles of a web map lie where their names say."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from pyproj import Transformer
from rasterio.windows import Window
from shapely import box
from tiny import WriteRaster
from torchgeo.datasets import DatasetNotFoundError

from eoseg_datasets import ScenePatch, WebTiles
from eoseg_datasets.splits import split_scenes
from eoseg_datasets.web_tiles import tile_grid

PLAIN = np.full((3, 256, 256), 9, np.uint8)


@pytest.fixture
def root(tmp_path: Path, write_raster: WriteRaster) -> Path:
    """Two neighbouring tiles in Kampala, and one building in degrees on both."""
    for column in (1238424, 1238425):
        write_raster(f'OAM-{column}-1046544-21.tif', PLAIN, crs=None)
    grid = tile_grid(1238424, 1046544, 21)
    left, bottom, right, top = grid.bounds
    # The lower half of the first tile, and ten pixels of its neighbour.
    shape = box(left, bottom, right + 10 * grid.res[0], (bottom + top) / 2)
    frame = gpd.GeoDataFrame(geometry=[shape], crs='EPSG:3857').to_crs('EPSG:4326')
    frame.to_file(tmp_path / 'labels.geojson')
    return tmp_path


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_polygons_meet_the_tiles_by_their_names(root: Path) -> None:
    dataset = WebTiles(root)
    masks = [dataset[ScenePatch(i, Window(0, 0, 256, 256))]['mask'] for i in (0, 1)]
    assert masks[0][:128].unique().tolist() == [0]
    assert masks[0][128:].unique().tolist() == [1]
    assert masks[1].sum() == 10 * 128
    assert dataset.classes is not None
    assert dataset.classes.names[0] == 'background'


def test_a_tile_lies_where_web_maps_have_it() -> None:
    # The Greenwich meridian and the equator meet at the corner of four tiles.
    grid = tile_grid(2, 2, 2)
    assert grid.bounds[0] == grid.bounds[3] == 0
    to_degrees = Transformer.from_crs(3857, 4326, always_xy=True)
    assert to_degrees.transform(grid.bounds[2], 0)[0] == pytest.approx(90)


def test_a_tile_beyond_its_zoom_level_is_refused() -> None:
    with pytest.raises(ValueError, match='zoom level 2 has 4 columns and rows'):
        tile_grid(4, 0, 2)


def test_a_folder_without_tiles_is_not_found(tmp_path: Path) -> None:
    (tmp_path / 'map.png').touch()
    with pytest.raises(DatasetNotFoundError):
        WebTiles(tmp_path)


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_tiles_in_folders_are_told_apart_by_their_columns(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    # Far from each other, each row with a tile in each column.
    for column in range(100, 1000, 100):
        for row in (100, 300):
            tile = write_raster('tile.tif', PLAIN, crs=None)
            place = tmp_path / f'tiles/12/{column}/{row}.tif'
            place.parent.mkdir(parents=True, exist_ok=True)
            tile.rename(place)
    dataset = WebTiles(tmp_path / 'tiles')
    assert {scene.name for scene in dataset.scenes} >= {'12/100/100', '12/900/300'}
    split = split_scenes(dataset.scenes, range(len(dataset.scenes)), 256)
    assert split.rule == 'by scene (18 scenes)'


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_tiles_of_other_bands_are_named_with_their_number(
    root: Path, write_raster: WriteRaster
) -> None:
    write_raster('OAM-1238426-1046544-21.tif', PLAIN[:1], crs=None)
    with pytest.raises(
        ValueError, match=r'1238424-1046544-21\.tif has 3, .*1238426.*\.tif has 1\.'
    ):
        WebTiles(root)


@pytest.mark.real_data
def test_tiles_of_kampala_have_buildings_and_stay_together(data: Path) -> None:
    dataset = WebTiles(data / 'pairs_buildings_oam_ramp')
    patches = [
        ScenePatch(i, Window(0, 0, 256, 256)) for i in range(len(dataset.scenes))
    ]
    built_up = [
        (dataset[patch]['mask'] == 1).float().mean().item() for patch in patches
    ]
    # 29 % in the notes of the data.
    assert 0.25 < np.mean(built_up) < 0.33
    split = split_scenes(dataset.scenes, dataset.labelled, 256)
    assert split.train and split.val and split.test
