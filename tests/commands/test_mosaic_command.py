"""``eoseg mosaic`` as a user types it."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from shapely import LineString, Point, box

from eoseg.commands.mosaic import find_maps
from eoseg.io.cog import MapWriter
from eoseg.main import main
from eoseg_datasets.classes import Legend
from eoseg_datasets.grid import Grid

UTM32 = CRS.from_epsg(32632)
LEGEND = Legend(('dark', 'bright'), ('#203040', '#f0f0f0'))


def grid(col: int = 0, crs: CRS = UTM32, side: int = 60) -> Grid:
    return Grid(crs, Affine(10, 0, 600_000 + 10 * col, 0, -10, 5_300_000), side, side)


def write_map(
    folder: Path, name: str, place: Grid, label: int, legend: Legend = LEGEND
) -> None:
    """A map as predict writes it, of one class; a bright one is surer."""
    sure = np.full(place.shape, 200 + 20 * label, np.uint8)
    stored = np.stack([sure if i == label else 254 - sure for i in range(2)])
    tags = {'SCENE': name}
    shares: dict[str, Any] = {'scale': 1 / 254, 'overviews': 'average', 'tags': tags}
    path = folder / f'{name}_probabilities.tif'
    with MapWriter(path, place, bands=legend.classes, **shares) as writer:
        writer.write(stored, 0)
    with MapWriter(
        folder / f'{name}_classes.tif', place, legend=legend, tags=tags
    ) as writer:
        writer.write(stored.argmax(axis=0).astype(np.uint8), 0)


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Two maps that overlap by a third."""
    folder = tmp_path / 'maps'
    write_map(folder, 'a', grid(), 0)
    write_map(folder, 'b', grid(40), 1)
    return folder


def read(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as source:
        return np.asarray(source.read(1))


def mosaic(folder: Path, *words: str) -> Path:
    out = folder / 'out' / 'm.tif'
    assert main(['mosaic', str(folder), '--out', str(out), *words]) == 0
    return out


def test_the_mosaic_comes_with_confidence_and_sources(maps: Path) -> None:
    out = mosaic(maps)
    classes = read(out)
    assert classes.shape == (60, 100)
    assert (classes[20:40, :45] == 0).all()
    assert (classes[20:40, 55:] == 1).all()
    with rasterio.open(out) as source:
        assert source.colormap(1)[0] == (32, 48, 64, 255)
        assert source.crs == UTM32
    with rasterio.open(out.with_name('m_sources.tif')) as source:
        assert (source.tags()['0'], source.tags()['1']) == ('a', 'b')
        np.testing.assert_array_equal(source.read(1)[0, [0, 99]], [0, 1])
    assert read(out.with_name('m_confidence.tif'))[0, 0] == 200
    assert not out.with_name('m_count.tif').exists()


def test_modes_count_and_agreement_are_options(maps: Path) -> None:
    out = mosaic(maps, '--mode', 'first', '--agreement')
    np.testing.assert_array_equal(read(out)[0], [0] * 60 + [1] * 40)
    count, agreement = (
        read(out.with_name(f'm_{name}.tif')) for name in ('count', 'agreement')
    )
    np.testing.assert_array_equal(count[0], [1] * 40 + [2] * 20 + [1] * 40)
    np.testing.assert_array_equal(agreement[0], [254] * 40 + [127] * 20 + [254] * 40)
    again = mosaic(maps, '--mode', 'last', '--overwrite')
    np.testing.assert_array_equal(read(again)[0], [0] * 40 + [1] * 60)


def test_what_is_named_first_is_the_first(maps: Path, tmp_path: Path) -> None:
    out = tmp_path / 'm.tif'
    words = [str(maps / 'b_probabilities.tif'), str(maps), '--mode', 'first']
    assert main(['mosaic', *words, '--out', str(out)]) == 0
    np.testing.assert_array_equal(read(out)[0], [0] * 40 + [1] * 60)


def test_crs_resolution_and_bounds_are_options(maps: Path) -> None:
    place = ['--crs', 'EPSG:3857', '--res', '40', '--bounds']
    with rasterio.open(mosaic(maps)) as source:
        left, bottom, right, top = rasterio.warp.transform_bounds(
            source.crs, 'EPSG:3857', *source.bounds
        )
    bounds = [left + 100, bottom + 200, right - 500, top - 300]
    out = mosaic(maps, '--overwrite', *place, *(f'{value:.1f}' for value in bounds))
    with rasterio.open(out) as source:
        assert source.crs.to_epsg() == 3857
        assert source.res == (40, 40)
        assert source.bounds.left == bounds[0] // 40 * 40
        assert source.bounds.top == -(-bounds[3] // 40) * 40
        assert (source.read(1) != 255).mean() > 0.95


@pytest.mark.parametrize('crs', ['EPSG:32632', 'EPSG:4326'])
def test_an_area_of_interest_clips_the_mosaic(maps: Path, crs: str) -> None:
    circle = Point(600_500, 5_299_700).buffer(150)
    frame = gpd.GeoDataFrame(geometry=[circle], crs='EPSG:32632').to_crs(crs)
    frame.to_file(maps / 'area.gpkg')
    out = mosaic(maps, '--aoi', str(maps / 'area.gpkg'))
    with rasterio.open(out) as source:
        assert source.shape == (30, 30)
        assert source.bounds.left == 600_350
        covered = source.read(1) != 255
    assert covered.sum() == pytest.approx(np.pi * 15**2, rel=0.02)
    assert not covered[0, 0]


def test_maps_meet_over_the_antimeridian(tmp_path: Path) -> None:
    folder = tmp_path / 'maps'
    for label, zone, left in [(0, 60, 812_000), (1, 1, 187_000)]:
        place = Grid(
            CRS.from_epsg(32700 + zone), Affine(10, 0, left, 0, -10, 8e6), 150, 60
        )
        write_map(folder, f'zone{zone}', place, label)
    out = mosaic(folder, '--crs', 'EPSG:4326')
    with rasterio.open(out) as source:
        assert source.bounds.left < 180 < source.bounds.right < 180.1
        assert set(np.unique(source.read(1))) == {0, 1, 255}


def test_little_memory_makes_the_same_mosaic(maps: Path) -> None:
    whole = read(mosaic(maps))
    parts = read(mosaic(maps, '--memory', '0.05', '--overwrite'))
    np.testing.assert_array_equal(parts, whole)


def test_classes_alone_are_enough(maps: Path) -> None:
    for path in find_maps(maps):
        path.unlink()
    out = mosaic(maps, '--crs', 'EPSG:3035')
    assert set(np.unique(read(out))) == {0, 1, 255}


def test_maps_of_other_classes_are_refused_with_the_names_of_both(
    maps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Legend(('dark', 'wet'), LEGEND.colors)
    write_map(maps, 'c', grid(10), 1, other)
    assert main(['mosaic', str(maps), '--out', str(maps / 'm.tif')]) == 1
    message = capsys.readouterr().err
    assert 'c_classes.tif has the classes dark, wet' in message
    assert 'a_classes.tif has dark, bright' in message


def test_a_map_without_crs_is_named(
    maps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = maps / 'b_probabilities.tif'
    with rasterio.open(lost) as source:
        profile, stored = source.profile, source.read()
    with rasterio.open(lost, 'w', **(profile | {'crs': None, 'driver': 'GTiff'})) as to:
        to.write(stored)
    assert main(['mosaic', str(maps), '--out', str(maps / 'm.tif')]) == 1
    assert 'b_probabilities.tif has no CRS' in capsys.readouterr().err
    assert not (maps / 'm.tif').exists()


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--res', '0.01'], '100000 x 60000 px (6.0 GB'),
        (['--bounds', '0', '0', '9', '9'], 'no map reaches into 0 0 9 9'),
        (['--aoi', '{elsewhere}'], 'have no common area'),
        (['--aoi', '{line}'], 'has no polygon'),
        (['--aoi', '{nowhere}'], 'has no CRS'),
        (['--mode', 'middle'], 'invalid choice'),
        (['--feather', '-3'], 'must be a number above 0'),
    ],
)
def test_what_makes_no_sense_is_refused(
    maps: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    area = box(0, 0, 9, 9)
    paths = {name: maps / f'{name}.shp' for name in ('elsewhere', 'line', 'nowhere')}
    for name, path in paths.items():
        shape = LineString([(0, 0), (9, 9)]) if name == 'line' else area
        gpd.GeoDataFrame(geometry=[shape], crs='EPSG:32632').to_file(path)
    paths['nowhere'].with_suffix('.prj').unlink()
    words = [word.format(**paths) for word in words]
    assert main(['mosaic', str(maps), '--out', str(maps / 'm.tif'), *words]) != 0
    assert message in capsys.readouterr().err
    assert not (maps / 'm.tif').exists()


def test_force_makes_what_is_refused_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / 'maps'
    write_map(folder, 'a', grid(side=3), 0)
    write_map(folder, 'b', grid(1_100_000, side=3), 1)
    far = [
        '--crs',
        'EPSG:32632',
        '--bounds',
        '600000',
        '5200000',
        '11600000',
        '5300000',
    ]
    words = ['mosaic', str(folder), '--out', str(tmp_path / 'm.tif'), *far]
    assert main(words) == 1
    assert '--force' in capsys.readouterr().err
    assert main([*words, '--res', '10000', '--force']) == 0
    assert read(tmp_path / 'm.tif').shape == (10, 1100)
