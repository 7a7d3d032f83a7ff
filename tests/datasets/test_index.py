"""The table of scenes says what the files say, and saves opening them."""

import multiprocessing
import os
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from tiny import WriteRaster, ramp

from eoseg_datasets import index
from eoseg_datasets.grid import Grid
from eoseg_datasets.index import index_path, indexed_scenes, scene_table
from eoseg_datasets.index_file import (
    Index,
    Record,
    Statistics,
    read_index,
    write_index,
)
from eoseg_datasets.inventory import (
    Candidate,
    FileState,
    Inventory,
    Rejected,
    find_scenes,
    open_candidate,
)
from eoseg_datasets.scene import Band, Scene

#: A reference system without a code, in a datum of its own.
CUSTOM = CRS.from_proj4(
    '+proj=laea +lat_0=52.1 +lon_0=10.3 +x_0=1 +ellps=bessel '
    '+towgs84=1,2,3,4,5,6,7 +units=m'
)

A_VRT = (
    '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="UInt16" '
    'band="1"><SimpleSource><SourceFilename relativeToVRT="1">a.tif</SourceFilename>'
    '</SimpleSource></VRTRasterBand></VRTDataset>'
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test, beside its data."""
    folder = tmp_path.with_name(f'{tmp_path.name}-cache')
    monkeypatch.setenv('EOSEG_CACHE', str(folder))
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files and folders that the index has opened."""
    names: list[str] = []

    def spy(
        candidate: Candidate, root: Path, *, allow_vrt: bool = False
    ) -> Scene | Rejected:
        if candidate.reason is None:
            names.append(candidate.path.name)
        return open_candidate(candidate, root, allow_vrt=allow_vrt)

    monkeypatch.setattr(index, 'open_candidate', spy)
    return names


def again(root: Path, opened: list[str]) -> tuple[Inventory, list[str]]:
    """What the index gives now, and what it opens for that."""
    opened.clear()
    return indexed_scenes(root), sorted(opened)


def rewrite(path: Path, content: bytes) -> None:
    """Write to a file in place, a moment after it was written."""
    was = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(was, was + 1))


def with_numbers(root: Path, write: WriteRaster) -> None:
    write('int.tif', ramp(2, 4, 5), nodata=3)
    write('byte.tif', ramp(1, 4, 5).astype(np.uint8), bands=('Höhe',))
    write('nan.tif', ramp(1, 4, 5).astype(np.float32), nodata=np.nan)
    write('none.tif', ramp(1, 4, 5).astype(np.float64), nodata=-np.inf)
    with rasterio.open(write('scaled.tif', ramp(2, 4, 5)), 'r+') as file:
        file.scales, file.offsets = (0.1, 1), (-0.2, 0)


def with_places(root: Path, write: WriteRaster) -> None:
    write('custom.tif', ramp(1, 4, 5), crs=CUSTOM.to_wkt())
    write('degrees.tif', ramp(1, 4, 5), 'EPSG:4326', Affine(1 / 3, 0, 7, 0, -0.1, 50))
    write(
        'rotated.tif', ramp(1, 4, 5), transform=Affine.rotation(33.3) @ Affine.scale(3)
    )
    write('nowhere.tif', ramp(1, 4, 5), crs=None)
    write('local.tif', ramp(1, 4, 5), crs='LOCAL_CS["Nowhere",UNIT["metre",1]]')


def with_pictures(root: Path, write: WriteRaster) -> None:
    for i in range(20):
        Image.new('RGBA', (4, 4), (i, 0, 0, 255)).save(root / f'{i}.png')


def with_time(root: Path, write: WriteRaster) -> None:
    with rasterio.open(write('a.tif', ramp(1, 4, 5)), 'r+') as file:
        file.update_tags(TIFFTAG_DATETIME='2021:07:03 10:11:12')


def with_landsat(root: Path, write: WriteRaster) -> None:
    for band in (1, 2, 10):
        write(f'x/LC08_1/LC08_1_SR_B{band}.TIF', ramp(1, 4, 6))
    write('x/LC08_1/LC08_1_B8.TIF', ramp(1, 8, 12))
    (root / 'x/LC08_1/LC08_1_MTL.txt').write_text('DATE_ACQUIRED = 2021-07-03\n')


def with_safe(root: Path, write: WriteRaster) -> None:
    stem = 'S2B.SAFE/GRANULE/L2A/IMG_DATA/R{res}m/T32TQR_20230711T101559'
    write(f'{stem.format(res=10)}_B04_10m.jp2', ramp(1, 8, 12))
    write(f'{stem.format(res=20)}_B8A_20m.jp2', ramp(1, 4, 6))
    (root / 'S2B.SAFE/MTD_MSIL2A.xml').write_text(
        '<a><BOA_QUANTIFICATION_VALUE>10000</BOA_QUANTIFICATION_VALUE>'
        '<BOA_ADD_OFFSET band_id="3">-1000</BOA_ADD_OFFSET></a>'
    )


def with_alike_names(root: Path, write: WriteRaster) -> None:
    for name in ('a.tif', 'a.tiff', 'a.tif.tif', 'A.TIF', 'b/a.tif', 'b.c.tif'):
        write(name, ramp(1, 4, 5))
    with_landsat(root, write)
    write('x/LC08_1.tif', ramp(1, 4, 5))


def with_rejected(root: Path, write: WriteRaster) -> None:
    write('a.tif', ramp(1, 4, 5))
    write('complex.tif', ramp(1, 4, 5).astype(np.complex64))
    (root / 'empty.tif').touch()
    (root / 'pointer.tif').write_text('version https://git-lfs.github.com')
    (root / 'a.tif.ovr').write_text('no overview')
    (root / 'link').symlink_to(root)


MOTLEY = (
    with_numbers,
    with_places,
    with_pictures,
    with_time,
    with_landsat,
    with_safe,
    with_alike_names,
    with_rejected,
)


@pytest.mark.parametrize('fill', MOTLEY, ids=lambda fill: fill.__name__)
def test_the_table_says_what_the_files_say(
    tmp_path: Path,
    write_raster: WriteRaster,
    opened: list[str],
    fill: Callable[[Path, WriteRaster], None],
) -> None:
    fill(tmp_path, write_raster)
    fresh = find_scenes(tmp_path)
    assert fresh.scenes
    assert indexed_scenes(tmp_path) == fresh
    kept, names = again(tmp_path, opened)
    assert kept == fresh
    assert names == sorted(item.path.name for item in fresh.failed)
    for ours, theirs in zip(kept.scenes, fresh.scenes, strict=True):
        assert getattr(ours.crs, 'wkt', None) == getattr(theirs.crs, 'wkt', None)


texts = st.text(max_size=8)


@st.composite
def records(draw: st.DrawFn, root: Path) -> Record:
    count = draw(st.integers(1, 3))
    path = root / draw(st.sampled_from(['a.tif', 'b/c.tif', 'd']))
    facts = st.none() | st.floats(allow_nan=False)
    bands = tuple(
        Band(
            name=draw(texts),
            path=draw(st.sampled_from([path, path / 'B1.TIF'])),
            index=draw(st.integers(1, 1000)),
            nodata=draw(st.none() | st.floats()),
            scale=draw(facts),
            offset=draw(facts),
            vrt=draw(st.booleans()),
            dtype=draw(st.none() | st.sampled_from(['uint8', 'float64'])),
        )
        for _ in range(count)
    )
    finite = st.floats(allow_nan=False, allow_infinity=False)
    size = st.integers(1, 2**31 - 1)
    crs = draw(st.sampled_from([None, CRS.from_epsg(32632), CUSTOM]))
    six = draw(st.tuples(*[finite] * 6))
    grid = Grid(crs, Affine(*six), draw(size), draw(size))
    time = st.none() | st.datetimes(datetime(1972, 7, 23), datetime(2100, 1, 1))
    scene = Scene(draw(texts), path, grid, bands, draw(time))
    files = st.builds(FileState, texts, st.integers(0, 2**50), st.integers(0, 2**62))
    band_numbers = st.tuples(*[finite] * count)
    return Record(
        scene,
        tuple(draw(st.lists(files, max_size=3))),
        Statistics(7, *(draw(band_numbers) for _ in range(4))),
        draw(st.none() | st.binary(max_size=9)),
    )


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    root, path = folder / 'scenes', folder / 'index.parquet'
    scenes = tuple(data.draw(st.lists(records(root), max_size=3)))
    status = st.sampled_from(['skipped', 'failed'])
    reasons = st.builds(Rejected, st.just(root / 'x'), status, texts)
    there = Index(scenes, tuple(data.draw(st.lists(reasons, max_size=2))))
    write_index(there, [record.scene.name for record in scenes], root, path)
    assert read_index(root, path) == there


def test_a_scene_that_the_table_would_change_is_not_trusted(tmp_path: Path) -> None:
    # A time zone, which the table has no place for; none of our readers knows one.
    times = datetime(2021, 7, 3), datetime(2021, 7, 3, tzinfo=UTC)
    grid = Grid(None, Affine.identity(), 4, 5)
    files = (FileState('a.tif', 1, 2),)
    scenes = [Scene('a', tmp_path / 'a.tif', grid, (), acquired=t) for t in times]
    there = tuple(Record(scene, files, Statistics(0), None) for scene in scenes)
    write_index(Index(there), ['a', 'b'], tmp_path, tmp_path / 'x.parquet')
    back = read_index(tmp_path, tmp_path / 'x.parquet').records
    assert [record.files for record in back] == [files, ()]


def test_only_what_has_changed_is_opened(
    tmp_path: Path, write_raster: WriteRaster, opened: list[str]
) -> None:
    paths = [write_raster(f'{name}.tif', ramp(1, 4, 5)) for name in 'abcd']
    assert sorted(opened) == []
    assert again(tmp_path, opened)[1] == ['a.tif', 'b.tif', 'c.tif', 'd.tif']
    assert again(tmp_path, opened)[1] == []

    other = write_raster('b.tif', ramp(1, 4, 5), 'EPSG:32633')
    content = other.read_bytes()
    paths[2].unlink()
    write_raster('e.tif', ramp(2, 4, 5))
    rewrite(paths[0], content)
    found, names = again(tmp_path, opened)
    assert names == ['a.tif', 'b.tif', 'e.tif']
    assert found == find_scenes(tmp_path)
    assert [scene.name for scene in found.scenes] == ['a', 'b', 'd', 'e']
    assert again(tmp_path, opened) == (found, [])


def test_a_file_written_in_place_is_seen_though_its_size_is_the_same(
    tmp_path: Path, write_raster: WriteRaster, opened: list[str]
) -> None:
    path = write_raster('a.tif', ramp(1, 4, 5), 'EPSG:32632')
    indexed_scenes(tmp_path)
    here, there = (struct.pack('<H', code) for code in (32632, 32633))
    content = path.read_bytes()
    rewrite(path, content.replace(here, there))
    found, names = again(tmp_path, opened)
    assert path.stat().st_size == len(content)
    assert names == ['a.tif']
    assert found.scenes[0].crs == CRS.from_epsg(32633)


@pytest.mark.parametrize('sidecar', ['a.tfw', 'A.TFW', 'a.tif.aux.xml', 'a.tif.msk'])
def test_a_scene_is_opened_again_when_a_sidecar_comes_changes_or_goes(
    tmp_path: Path, write_raster: WriteRaster, opened: list[str], sidecar: str
) -> None:
    write_raster('a.tif', ramp(1, 4, 5))
    write_raster('ab.tif', ramp(1, 4, 5))
    indexed_scenes(tmp_path)
    (tmp_path / sidecar).write_text('1')
    assert again(tmp_path, opened)[1] == ['a.tif']
    rewrite(tmp_path / sidecar, b'2')
    assert again(tmp_path, opened)[1] == ['a.tif']
    (tmp_path / sidecar).unlink()
    assert again(tmp_path, opened)[1] == ['a.tif']
    assert again(tmp_path, opened)[1] == []


def test_a_world_file_moves_a_picture_that_was_known(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    with_pictures(tmp_path, write_raster)
    assert indexed_scenes(tmp_path).scenes[0].grid.transform == Affine.identity()
    (tmp_path / '0.wld').write_text('2\n0\n0\n-2\n101\n199\n')
    moved = indexed_scenes(tmp_path).scenes[0].grid.transform
    assert moved == Affine(2, 0, 100, 0, -2, 200)


@pytest.mark.parametrize(
    'change',
    ['x/LC08_1/LC08_1_SR_B2.TIF', 'x/LC08_1/LC08_1_MTL.txt', 'x/LC08_1/new.txt'],
)
def test_a_scene_folder_is_opened_again_when_any_file_in_it_changes(
    tmp_path: Path, write_raster: WriteRaster, opened: list[str], change: str
) -> None:
    with_landsat(tmp_path, write_raster)
    indexed_scenes(tmp_path)
    path = tmp_path / change
    path.touch()
    rewrite(path, path.read_bytes())
    assert again(tmp_path, opened)[1] == ['LC08_1']
    assert again(tmp_path, opened)[1] == []


def test_a_vrt_is_opened_each_time_because_it_reads_other_files(
    tmp_path: Path, write_raster: WriteRaster, opened: list[str]
) -> None:
    write_raster('a.tif', ramp(1, 4, 4))
    (tmp_path / 'v.vrt').write_text(A_VRT)
    fresh = find_scenes(tmp_path, allow_vrt=True)
    assert [scene.name for scene in fresh.scenes] == ['a', 'v']
    assert indexed_scenes(tmp_path, allow_vrt=True) == fresh
    opened.clear()
    assert indexed_scenes(tmp_path, allow_vrt=True) == fresh
    assert opened == ['v.vrt']
    assert [scene.name for scene in indexed_scenes(tmp_path).scenes] == ['a']


def test_a_file_that_failed_is_tried_again(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    path = write_raster('a.tif', ramp(1, 4, 5))
    content, status = path.read_bytes(), path.stat()
    path.write_bytes(bytes(len(content)))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [item.path for item in indexed_scenes(tmp_path).failed] == [path]
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert indexed_scenes(tmp_path).failed == ()


def test_a_file_just_written_is_not_trusted_where_time_has_whole_seconds(
    tmp_path: Path, write_raster: WriteRaster, opened: list[str]
) -> None:
    path = write_raster('a.tif', ramp(1, 4, 5))
    second = int(time.time())
    os.utime(path, (second, second))
    indexed_scenes(tmp_path)
    assert again(tmp_path, opened)[1] == ['a.tif']
    os.utime(path, (second - 60, second - 60))
    indexed_scenes(tmp_path)
    assert again(tmp_path, opened)[1] == []


def damage_nothing_written(path: Path) -> None:
    path.write_bytes(b'')


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_noise(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:900] = bytes(800)
    path.write_bytes(content)


def damage_other_version(path: Path) -> None:
    gpd.read_parquet(path).to_parquet(path)


def damage_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = (
    damage_nothing_written,
    damage_cut,
    damage_noise,
    damage_other_version,
    damage_folder,
)


@pytest.mark.parametrize('damage', DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_table_costs_time_only(
    tmp_path: Path,
    write_raster: WriteRaster,
    opened: list[str],
    damage: Callable[[Path], None],
) -> None:
    with_numbers(tmp_path, write_raster)
    fresh = indexed_scenes(tmp_path)
    damage(index_path(tmp_path))
    found, names = again(tmp_path, opened)
    assert found == fresh
    assert len(names) == len(fresh.scenes)


def test_a_table_of_which_a_bit_has_flipped_says_nothing_else(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    with_numbers(tmp_path, write_raster)
    fresh = indexed_scenes(tmp_path)
    path = index_path(tmp_path)
    whole = path.read_bytes()
    wrong = []
    # Metadata at the end have no checksum.
    for place in range(4, whole.index(b'ARROW:schema'), 97):
        content = bytearray(whole)
        content[place] ^= 1
        path.write_bytes(content)
        if indexed_scenes(tmp_path) != fresh:
            wrong.append(place)
    assert wrong == []


def test_a_table_made_by_other_code_is_made_anew(
    tmp_path: Path,
    write_raster: WriteRaster,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_raster('a.tif', ramp(1, 4, 5))
    indexed_scenes(tmp_path)
    monkeypatch.setattr('eoseg_datasets.index_file.code_version', lambda *_: 'newer')
    assert again(tmp_path, opened)[1] == ['a.tif']
    assert again(tmp_path, opened)[1] == []


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, cache: Path, write_raster: WriteRaster
) -> None:
    cache.write_text('a file where the folder should be')
    write_raster('a.tif', ramp(1, 4, 5))
    assert indexed_scenes(tmp_path) == find_scenes(tmp_path)
    assert indexed_scenes(tmp_path) == find_scenes(tmp_path)


def test_nothing_is_written_beside_the_data_and_one_file_to_the_cache(
    tmp_path: Path, cache: Path, write_raster: WriteRaster
) -> None:
    with_numbers(tmp_path, write_raster)
    before = sorted(tmp_path.rglob('*'))
    indexed_scenes(tmp_path)
    assert sorted(tmp_path.rglob('*')) == before
    files = [path for path in cache.rglob('*') if path.is_file()]
    assert files == [index_path(tmp_path)]


def test_a_table_is_written_only_when_something_has_changed(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    with_rejected(tmp_path, write_raster)
    indexed_scenes(tmp_path)
    written = index_path(tmp_path).stat().st_mtime_ns
    indexed_scenes(tmp_path)
    assert index_path(tmp_path).stat().st_mtime_ns == written


def test_one_scene_needs_no_table(
    tmp_path: Path, cache: Path, write_raster: WriteRaster
) -> None:
    path = write_raster('a.tif', ramp(1, 4, 5))
    assert indexed_scenes(path) == find_scenes(path)
    assert scene_table(path).name.tolist() == ['a']
    assert not cache.exists()


def test_one_table_serves_every_way_to_write_the_path(
    tmp_path: Path,
    write_raster: WriteRaster,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_raster('s/a.tif', ramp(1, 4, 5))
    indexed_scenes(tmp_path / 's')
    monkeypatch.chdir(tmp_path)
    assert again(Path('s'), opened) == (find_scenes(Path('s')), [])
    assert again(Path('s/../s'), opened) == (find_scenes(Path('s/../s')), [])


def test_ignored_folders_are_not_looked_into(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    write_raster('a.tif', ramp(1, 4, 5))
    write_raster('labels/a.tif', ramp(1, 4, 5))
    assert len(indexed_scenes(tmp_path).scenes) == 2
    assert len(indexed_scenes(tmp_path, ignore=['labels']).scenes) == 1
    assert len(indexed_scenes(tmp_path).scenes) == 2


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='nowhere does not exist'):
        indexed_scenes(tmp_path / 'nowhere')


def test_a_name_that_is_no_text_does_not_hinder(
    tmp_path: Path, write_raster: WriteRaster, opened: list[str]
) -> None:
    path = write_raster('a.tif', ramp(1, 4, 5))
    try:
        path.rename(os.fsdecode(bytes(tmp_path) + b'/\xff.tif'))
    except OSError:
        pytest.skip('this file system has names of UTF-8 only')
    write_raster('b.tif', ramp(1, 4, 5))
    fresh = find_scenes(tmp_path)
    assert len(fresh.scenes) + len(fresh.failed) == 2
    assert indexed_scenes(tmp_path) == fresh
    assert again(tmp_path, opened) == (fresh, ['\udcff.tif'])


def noise() -> NDArray[np.uint8]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 255, (1, 64, 64), np.uint8)


def test_pixels_that_cannot_be_read_are_a_reason(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    path = write_raster('a.tif', noise(), compress='deflate')
    content = path.read_bytes()
    path.write_bytes(content[:-2000] + bytes(2000))
    inventory = indexed_scenes(tmp_path)
    assert inventory.scenes == ()
    assert 'its pixels cannot be read' in inventory.failed[0].reason
    assert str(path) in inventory.failed[0].reason


def open_often(root: Path, fresh: Inventory) -> None:
    for i in range(8):
        assert indexed_scenes(root) == fresh
        if i % 2:
            index_path(root).unlink(missing_ok=True)


@pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')
def test_processes_that_open_a_folder_at_once_agree(
    tmp_path: Path, write_raster: WriteRaster, cache: Path
) -> None:
    for i in range(9):
        write_raster(f'{i}.tif', ramp(1, 4, 5))
    fresh = find_scenes(tmp_path)
    context = multiprocessing.get_context('fork')
    processes = [
        context.Process(target=open_often, args=(tmp_path, fresh)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert not list(cache.rglob('*.part'))
    assert indexed_scenes(tmp_path) == fresh


def test_the_table_shows_scenes_and_other_files(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    write_raster('a.tif', ramp(2, 4, 6), nodata=1)
    write_raster('b.tif', ramp(4, 4, 6), crs=None)
    (tmp_path / 'c.tif').touch()
    (tmp_path / 'd.txt').touch()
    table = scene_table(tmp_path)
    assert table.path.tolist() == ['a.tif', 'b.tif', 'c.tif', 'd.txt']
    assert table.status.tolist() == ['scene', 'scene', 'failed', 'skipped']
    assert table.reason.tolist()[2:] == ['the file is empty', 'not a raster']
    assert table['count'].tolist()[:2] == [2, 4]
    assert table.width.tolist()[:2] == [6, 6]
    assert table.bands[0].tolist() == ['B1', 'B2']
    assert table.dtype[0].tolist() == ['uint16', 'uint16']
    assert table.nodata[0].tolist() == [1, 1]
    assert table['transform'][0].tolist() == [10, 0, 600_000, 0, -10, 5_300_000]
    assert table.crs == 'EPSG:4326'
    west, south, east, north = table.geometry[0].bounds
    assert (west, north) == pytest.approx((10.3366, 47.8456), abs=1e-3)
    assert (east - west, north - south) == pytest.approx((8e-4, 3.6e-4), rel=0.1)
    assert table.geometry.isna().tolist() == [False, True, True, True]


def test_statistics_are_of_valid_pixels_in_units_of_the_reader(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    image = ramp(2, 4, 6)
    image[:, 0] = 0
    with rasterio.open(write_raster('a.tif', image, nodata=0), 'r+') as file:
        file.scales, file.offsets = (0.5, 2), (0, 1)
    row = scene_table(tmp_path).iloc[0]
    seen = image[:, 1:].reshape(2, -1) * np.array([[0.5], [2]]) + np.array([[0], [1]])
    assert row.pixels == 18
    np.testing.assert_allclose(row['mean'], seen.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(row['std'], seen.std(axis=1), rtol=1e-6)
    np.testing.assert_allclose(row['min'], seen.min(axis=1), rtol=1e-6)
    np.testing.assert_allclose(row['max'], seen.max(axis=1), rtol=1e-6)


def test_an_empty_scene_has_no_statistics(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    write_raster('a.tif', np.zeros((2, 4, 6), np.uint8), nodata=0)
    row = scene_table(tmp_path).iloc[0]
    assert row.pixels == 0
    assert [len(row[name]) for name in ('mean', 'std', 'min', 'max')] == [0] * 4


@pytest.mark.parametrize(
    ('side', 'block', 'pixels'),
    [(640, 64, 64**2), (2048, 1024, 64**2), (20, 0, 400)],
)
def test_what_is_read_for_statistics_does_not_grow_with_the_scene(
    tmp_path: Path, write_raster: WriteRaster, side: int, block: int, pixels: int
) -> None:
    tiles = {'tiled': True, 'blockxsize': block, 'blockysize': block} if block else {}
    write_raster('a.tif', np.ones((1, side, side), np.uint8), **tiles)
    assert scene_table(tmp_path).pixels.tolist() == [pixels]


def test_the_table_is_a_geoparquet_file_that_others_read(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    with_places(tmp_path, write_raster)
    table = scene_table(tmp_path)
    file = gpd.read_parquet(index_path(tmp_path))
    assert file.crs == 'EPSG:4326'
    assert file.path.tolist() == table.path.tolist()
    assert (
        file.geometry.geom_equals(table.geometry).tolist()
        == (~table.geometry.isna()).tolist()
    )
    names = list(chain.from_iterable(file.files.apply(list)))
    assert {item['path'] for item in names} == {*table.path}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ('folder', 'scenes', 'failed'),
    [
        ('scenes_zurich_25tiles', 30, 0),
        ('scenes_landsat_misc', 4, 0),
        ('sar_optical_spacenet6_rotterdam', 4, 4),
    ],
)
def test_real_scenes_come_from_the_table_as_from_their_files(
    data: Path, folder: str, scenes: int, failed: int
) -> None:
    fresh = find_scenes(data / folder)
    assert (len(fresh.scenes), len(fresh.failed)) == (scenes, failed)
    assert indexed_scenes(data / folder) == fresh
    assert indexed_scenes(data / folder) == fresh
