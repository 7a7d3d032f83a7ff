"""``eoseg mosaic`` as a user types it."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window
from shapely import LineString, Point, box

from eoseg.commands.maps import find_maps
from eoseg.inference.mosaic import Block, _Worker
from eoseg.io.cog import MapWriter
from eoseg.io.lock import locked
from eoseg.main import main
from eoseg_datasets.classes import Legend
from eoseg_datasets.grid import Grid

UTM32 = CRS.from_epsg(32632)
LEGEND = Legend(('dark', 'bright'), ('#203040', '#f0f0f0'))


def grid(col: int = 0, crs: CRS = UTM32, side: int = 60) -> Grid:
    return Grid(crs, Affine(10, 0, 600_000 + 10 * col, 0, -10, 5_300_000), side, side)


def write_map(
    folder: Path,
    name: str,
    place: Grid,
    label: int,
    legend: Legend = LEGEND,
    **more_tags: str,
) -> None:
    """A map as predict writes it, of one class; a bright one is surer."""
    sure = np.full(place.shape, 200 + 20 * label, np.uint8)
    stored = np.stack([sure if i == label else 254 - sure for i in range(2)])
    tags = {'SCENE': name, **more_tags}
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


def test_workers_are_an_option_and_do_not_show(maps: Path) -> None:
    words = ['--res', '0.1', '--bounds', '600350', '5299900', '600450', '5300000']
    one = read(mosaic(maps, *words, '--workers', '1'))
    assert one.shape == (1000, 1000)  # four blocks
    for number in ('2', '7'):
        many = read(mosaic(maps, *words, '--workers', number, '--overwrite'))
        np.testing.assert_array_equal(one, many)


def test_a_map_alone_on_its_grid_is_copied_with_its_classes(
    tmp_path: Path,
) -> None:
    """Also where rounded probabilities tie: what predict wrote is what is shown."""
    folder = tmp_path / 'maps'
    write_map(folder, 'a', grid(), 0)
    with rasterio.open(
        folder / 'a_classes.tif', 'r+', IGNORE_COG_LAYOUT_BREAK='YES'
    ) as to:
        to.write(np.eye(60, dtype=np.uint8), 1)
    out = mosaic(folder)
    np.testing.assert_array_equal(read(out), np.zeros((60, 60)))
    confidence = np.full(grid().shape, 200, np.uint8)
    path = folder / 'a_confidence.tif'
    with MapWriter(path, grid(), scale=1 / 254, tags={'SCENE': 'a'}) as writer:
        writer.write(confidence, 0)
    out = mosaic(folder, '--overwrite')
    np.testing.assert_array_equal(read(out), np.eye(60))
    assert (read(out.with_name('m_confidence.tif')) == 200).all()
    # Of another scene, they are not believed.
    with MapWriter(path, grid(), scale=1 / 254, tags={'SCENE': 'b'}) as writer:
        writer.write(confidence, 0)
    np.testing.assert_array_equal(
        read(mosaic(folder, '--overwrite')), np.zeros((60, 60))
    )


def overlapping(folder: Path, **dates: str) -> Path:
    """Maps of one place, the first of them dark, the others bright."""
    for label, (name, date) in enumerate(dates.items()):
        tags = {'ACQUIRED': date} if date else {}
        write_map(folder, name, grid(), min(label, 1), LEGEND, **tags)
    return folder


def table(folder: Path, text: str) -> str:
    path = folder / 'weights.csv'
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ('rows', 'label'),
    [
        ('scene,priority\na,1\nb,1\n', 1),
        ('scene,priority\na,2\nb,1\n', 0),
        ('scene,priority\nb,0.5\n', 0),
        ('scene,cloud_cover\na,10\nb,90\n', 0),
        ('scene,cloud_cover,remark\na,90,hazy\nb,,\n', 1),
        ('scene,cloud_cover\na,100\nb,100\n', 1),
        ('scene,priority,cloud_cover\na,3,50\nb,1,0\n', 0),
    ],
)
def test_weights_decide_where_maps_overlap(
    tmp_path: Path, rows: str, label: int
) -> None:
    folder = overlapping(tmp_path / 'maps', a='', b='')
    out = mosaic(folder, '--weights', table(tmp_path, rows))
    assert (read(out) == label).all()


@pytest.mark.parametrize(('days', 'label'), [('1000', 1), ('100', 0)])
def test_an_older_map_counts_less(tmp_path: Path, days: str, label: int) -> None:
    """The newer one is less sure: it wins if the older one has faded."""
    folder = overlapping(tmp_path / 'maps', a='2024-07-01', b='2024-01-01T10:30:00Z')
    assert (read(mosaic(folder)) == 1).all()
    out = mosaic(folder, '--half-life', days, '--overwrite')
    assert (read(out) == label).all()


def test_the_newest_map_is_a_mode(tmp_path: Path) -> None:
    folder = overlapping(tmp_path / 'maps', a='2021-05-01', b='2020-05-01', c='')
    dates = table(tmp_path, 'scene,acquired\nb,2022-02-02\nc,2020-06-01\n')
    words = ['--mode', 'newest', '--weights', dates]
    out = mosaic(folder, *words)
    assert (read(out) == 1).all()  # the table says more than the tag of b
    with rasterio.open(out.with_name('m_sources.tif')) as source:
        assert [source.tags()[str(i)] for i in range(3)] == ['b', 'a', 'c']
        assert (source.read(1) == 0).all()
    with rasterio.open(folder / 'c_probabilities.tif') as source:
        assert 'ACQUIRED' not in source.tags()


def test_the_weightiest_map_comes_first(tmp_path: Path) -> None:
    folder = overlapping(tmp_path / 'maps', a='', b='')
    for rows, label in [('a,1\nb,2\n', 1), ('a,2\nb,1\n', 0), ('a,1\nb,1\n', 0)]:
        rows = f'scene,priority\n{rows}'
        words = ['--mode', 'first', '--weights', table(tmp_path, rows), '--overwrite']
        assert (read(mosaic(folder, *words)) == label).all()


@pytest.mark.parametrize(
    ('words', 'rows', 'message'),
    [
        (['--mode', 'newest'], 'scene,priority\na,1\n', '1 of 2 scenes were acquired'),
        (['--half-life', '9'], 'scene,acquired\nb,\n', 'such as b'),
        (['--mode', 'best'], 'scene,priority\na,1\n', 'use them with blend'),
        ([], 'scene;priority\na;1\n', 'it has scene;priority'),
        ([], 'scene,weight\na,1\n', 'priority, acquired, cloud_cover'),
        ([], 'scene,priority\nx,1\n', 'names none of the maps'),
        ([], 'scene,priority\na,0\nb,-1\n', 'line 2: priority must be above 0'),
        ([], 'scene,priority\na,0\nb,-1\n', 'line 3: priority must be from 0'),
        ([], 'scene,cloud_cover\na,101\n', 'from 0 to 100, got 101'),
        (
            [],
            'scene,cloud_cover\na,few\n',
            'cloud_cover must be from 0 to 100, got few',
        ),
        ([], 'scene,acquired\na,May\n', 'a date such as 2024-07-01, got May'),
    ],
)
def test_weights_that_make_no_sense_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    rows: str,
    message: str,
) -> None:
    folder = overlapping(tmp_path / 'maps', a='2024-01-01', b='')
    out = tmp_path / 'm.tif'
    words = [*words, '--weights', table(tmp_path, rows)]
    assert main(['mosaic', str(folder), '--out', str(out), *words]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


#: Nine blocks, and where the two maps overlap.
NINE = ['--res', '0.1', '--bounds', '600350', '5299850', '600500', '5300000']

#: A run that is killed when it has written the file of its fifth block.
KILLED = """
import os, signal, sys
from eoseg.io import journal
from eoseg.main import main

append, lines = journal._append, []
def appended(manifest, entry):
    lines.append(entry)
    if len(lines) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    append(manifest, entry)
journal._append = appended
main(sys.argv[1:])
"""


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Window]:
    """Blocks that are worked out."""
    windows: list[Window] = []
    original = _Worker.block

    def watched(self: _Worker, task: Any) -> Block:
        windows.append(task.window)
        return original(self, task)

    monkeypatch.setattr(_Worker, 'block', watched)
    return windows


def all_of(out: Path) -> dict[str, NDArray[Any]]:
    """Everything that a mosaic is made of."""
    return {path.name: read(path) for path in sorted(out.parent.glob('m*.tif'))}


def test_a_mosaic_that_was_killed_goes_on_where_it_was(
    maps: Path, computed: list[Window]
) -> None:
    words = [*NINE, '--agreement', '--workers', '2']
    whole = all_of(mosaic(maps, *words))
    assert len(whole) == 5
    assert len(computed) == 9
    out = maps / 'again' / 'm.tif'
    words = ['mosaic', str(maps), '--out', str(out), *words]
    killed = subprocess.run([sys.executable, '-c', KILLED, *words], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not list(out.parent.glob('m*.tif'))
    computed.clear()
    assert main(words) == 0
    # Four were done; the fifth is the one that a kill may repeat.
    assert len(computed) == 5
    for name, values in all_of(out).items():
        np.testing.assert_array_equal(values, whole[name])
    # Nothing is left of it.
    assert sorted(path.name for path in out.parent.iterdir()) == sorted(
        path.name for path in (maps / 'out').iterdir()
    )


def test_blocks_of_another_mosaic_are_made_anew(
    maps: Path, computed: list[Window], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError('the disk is full')

    out = maps / 'out' / 'm.tif'
    words = ['mosaic', str(maps), '--out', str(out), *NINE]
    with monkeypatch.context() as patch:
        patch.setattr('eoseg.commands.mosaic._write', full)
        assert main(words) == 1
    computed.clear()
    with monkeypatch.context() as patch:
        patch.setattr('eoseg.commands.mosaic._write', full)
        assert main([*words, '--workers', '3']) == 1
    assert len(computed) == 0
    assert main([*words, '--mode', 'last']) == 0
    assert len(computed) == 9
    assert not list(out.parent.glob('.*'))


def test_two_runs_do_not_make_the_same_mosaic(
    maps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = maps / 'out' / 'm.tif'
    with locked(out.with_name('.m.tif.blocks')):
        assert main(['mosaic', str(maps), '--out', str(out)]) == 1
    assert 'another run' in capsys.readouterr().err


def test_more_scenes_than_fit_into_a_byte_keep_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / 'maps'
    for i in range(300):
        place = grid(4 * i, side=4)
        path = folder / f's{i:03}_classes.tif'
        with MapWriter(path, place, legend=LEGEND, tags={'SCENE': str(i)}) as writer:
            writer.write(np.zeros((4, 4), np.uint8), 0)
    sources = read(mosaic(folder, '--agreement').with_name('m_sources.tif'))
    np.testing.assert_array_equal(sources[0], np.repeat(np.arange(300), 4))
    assert (read(folder / 'out' / 'm_count.tif') == 1).all()


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
    parts = read(mosaic(maps, '--memory', '50KB', '--overwrite'))
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


def test_a_map_that_does_not_say_its_classes_is_refused(
    maps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ['--out', str(maps / 'm.tif')]
    foreign = maps / 'foreign.tif'
    with MapWriter(foreign, grid()) as writer:
        writer.write(np.zeros((60, 60), np.uint8), 0)
    assert main(['mosaic', str(foreign), *out]) == 1
    assert 'foreign.tif does not say what its classes are' in capsys.readouterr().err
    (maps / 'b_classes.tif').unlink()
    assert main(['mosaic', str(maps / 'b_probabilities.tif'), *out]) == 1
    assert 'b_classes.tif is missing' in capsys.readouterr().err


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
        (['--crs', 'EPSG:4326', '--res', '10'], 'the mosaic would have 1 x 1 px'),
        (['--crs', 'EPSG:nonsense'], 'is no coordinate reference system'),
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
