"""How scenes are read, computed and kept, as a user asks for it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError
from rasterio.windows import Window
from shapely import Point, Polygon, box
from shapely.affinity import affine_transform
from torch import Tensor

from eoseg.checkpoint import Checkpoint, Ensemble
from eoseg.commands import mapper, scene_run
from eoseg.commands.options import byte_size
from eoseg.commands.products import MapFolder
from eoseg.errors import CheckpointError
from eoseg.inference import reader
from eoseg.inference.planner import Demand, plan_parts
from eoseg.inference.scene import Predict
from eoseg.inference.windows import WindowGrid
from eoseg.inputs import CHECKPOINT_FORMAT, CHECKPOINT_KEY, Inputs
from eoseg.io import journal
from eoseg.main import main
from eoseg.models import create_model
from eoseg_datasets.inventory import find_scenes


def save(path: Path, seed: int, in_channels: int = 2, **changes: object) -> Path:
    """A checkpoint of a network that was not trained."""
    inputs = Inputs(
        bands=('B3', 'B8'), mean=(1000.0, 1500.0), std=(400.0, 600.0),
        classes=('dark', 'bright', 'other'), colors=('#203040', '#d0c0b0', '#00ff00'),
        patch_size=32, res=10,
    )  # fmt: skip
    torch.manual_seed(seed)
    network = create_model(
        'UNet', in_channels=in_channels, num_classes=3, backbone='resnet10t'
    )
    state = {f'model.{key}': value for key, value in network.state_dict().items()}
    said = {
        'format': CHECKPOINT_FORMAT,
        'version': '0',
        'inputs': inputs.to_dict() | changes,
        'architecture': 'UNet',
        'network': {'backbone': 'resnet10t'},
    }
    torch.save({'state_dict': state, CHECKPOINT_KEY: said}, path)
    return path


def write(path: Path, height: int, width: int, res: float = 10) -> NDArray[np.uint16]:
    """A scene of two bands with a corner of nodata."""
    rng = np.random.default_rng(height)
    coarse = rng.uniform(200, 2500, (2, height // 8 + 1, width // 8 + 1))
    image = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    image[:, : height // 9, : width // 7] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, 'w', driver='GTiff', width=width, height=height, count=2, dtype='uint16',
        nodata=0, crs='EPSG:32632', transform=Affine(res, 0, 6e5, 0, -res, 53e5),
    ) as target:  # fmt: skip
        target.write(image.astype(np.uint16))
        target.descriptions = ('B3', 'B8')
    return image.astype(np.uint16)


def read(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as source:
        values: NDArray[np.uint8] = source.read()
    return values


def reports(out: Path) -> dict[str, dict[str, Any]]:
    found = json.loads((out / 'report.json').read_text())['scenes']
    return {Path(item['path']).stem: item for item in found}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp('checkpoint') / 'best.ckpt', seed=0)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one scene that has several units."""
    folder = tmp_path_factory.mktemp('scenes')
    write(folder / 'tall.tif', 1200, 90)
    return folder


@pytest.fixture(scope='module')
def whole(
    scenes: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Maps made without an interruption."""
    out = tmp_path_factory.mktemp('maps') / 'whole'
    assert main(['predict', str(scenes), str(checkpoint), '--out', str(out), *ALL]) == 0
    return out


#: All that can be kept of a scene.
ALL = ['--no-mosaic', '--probabilities', '--margin', '--entropy']

LAYERS = ('classes', 'confidence', 'probabilities', 'margin', 'entropy')


def test_all_layers_have_the_grid_and_the_nodata_of_the_scene(
    scenes: Path, whole: Path
) -> None:
    with rasterio.open(scenes / 'tall.tif') as source:
        nodata, shape = (source.read() == 0).all(axis=0), source.shape
    for layer in LAYERS:
        with rasterio.open(whole / f'tall_{layer}.tif') as source:
            assert source.shape == shape
            values = source.read()
        np.testing.assert_array_equal((values == 255).all(axis=0), nodata)
        assert (values[:, ~nodata] < 255).all()
    probabilities = read(whole / 'tall_probabilities.tif').astype(int)
    best, second = np.sort(probabilities, axis=0)[::-1][:2]
    margin = read(whole / 'tall_margin.tif')[0].astype(int)
    assert np.abs(margin - (best - second))[~nodata].max() <= 1
    assert not (whole / '.units').exists()


def test_the_report_has_hectares(whole: Path) -> None:
    entry = reports(whole)['tall']
    counts = np.bincount(read(whole / 'tall_classes.tif').ravel(), minlength=256)
    for index, name in enumerate(('dark', 'bright', 'other')):
        assert entry['hectares'][name] == pytest.approx(counts[index] / 100, rel=2e-3)
    assert entry['crs'] == 'EPSG:32632'


@pytest.mark.parametrize('stop', [1, 30, 60])
def test_interrupted_anywhere_the_pixels_are_the_same(
    scenes: Path, whole: Path, checkpoint: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, stop: int,
) -> None:  # fmt: skip
    out = tmp_path / 'maps'
    words = ['predict', str(scenes), str(checkpoint), '--out', str(out), *ALL]
    words += ['--batch-size', '3']
    seen = 0
    limit: float = stop
    original = Checkpoint.predictor

    def predictor(self: Checkpoint, *arguments: Any) -> Predict:
        predict = original(self, *arguments)

        def counted(image: Tensor) -> Tensor:
            nonlocal seen
            seen += 1
            if seen > limit:
                raise KeyboardInterrupt
            return predict(image)

        return counted

    monkeypatch.setattr(Checkpoint, 'predictor', predictor)
    assert main(words) == 130
    assert not list(out.glob('*.tif'))
    first, seen, limit = seen, 0, float('inf')
    assert main(words) == 0
    for layer in LAYERS:
        again = read(out / f'tall_{layer}.tif')
        np.testing.assert_array_equal(again, read(whole / f'tall_{layer}.tif'))
    # 50 rows of 4 windows; a unit is made of 23 rows and is repeated at most.
    assert first + seen <= -(-50 * 4 // 3) + -(-23 * 4 // 3) + 2
    assert not (out / '.units').exists()


@pytest.mark.parametrize('res', [10, 4])
def test_little_memory_makes_parts_of_the_same_pixels(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, res: float
) -> None:
    write(tmp_path / 'in' / 'wide.tif', 60, 1300, res)
    words = ['predict', str(tmp_path / 'in'), str(checkpoint), *ALL]
    parts: list[int] = []

    def plan(demand: Demand, memory: int, within: Window | None) -> list[Window]:
        # What is fixed is most of it in a scene this small.
        least = max(demand.bytes_for(Window(left, 0, 512, 60)) for left in (0, 512))
        found = plan_parts(demand, least + memory // 10**9, within)
        parts.append(len(found))
        return found

    monkeypatch.setattr('eoseg.commands.mapper.plan_parts', plan)
    for name, memory in (('small', '1GB'), ('large', '1000000000GB')):
        out = tmp_path / name
        assert main([*words, '--out', str(out), '--memory', memory]) == 0
    assert parts == [3, 1]
    for layer in LAYERS:
        name = f'wide_{layer}.tif'
        np.testing.assert_array_equal(
            read(tmp_path / 'small' / name), read(tmp_path / 'large' / name)
        )


def test_several_checkpoints_and_views_are_averaged(
    checkpoint: Path, tmp_path: Path
) -> None:
    write(tmp_path / 'in' / 'a.tif', 40, 50)
    other = save(tmp_path / 'other.ckpt', seed=1)
    words = ['--no-mosaic', '--probabilities']
    for name, members in {
        'one': [checkpoint], 'two': [other], 'both': [checkpoint, other],
    }.items():  # fmt: skip
        given = ['predict', str(tmp_path / 'in'), *map(str, members)]
        assert main([*given, *words, '--out', str(tmp_path / name)]) == 0
    one, two, both = (
        read(tmp_path / name / 'a_probabilities.tif').astype(int)
        for name in ('one', 'two', 'both')
    )
    valid = both[0] != 255
    assert np.abs((one + two) / 2 - both)[:, valid].max() <= 1.5
    out = tmp_path / 'turned'
    given = ['predict', str(tmp_path / 'in'), str(checkpoint), '--tta', 'all']
    assert main([*given, *words, '--out', str(out)]) == 0
    turned = read(out / 'a_probabilities.tif').astype(int)
    assert 1 < np.abs(turned - one)[:, valid].max()
    # Other settings are another map.
    again = ['predict', str(tmp_path / 'in'), str(checkpoint), '--out', str(out)]
    assert main([*again, *words]) == 1


def test_checkpoints_of_two_tasks_are_not_averaged(
    checkpoint: Path, tmp_path: Path
) -> None:
    other = save(tmp_path / 'other.ckpt', seed=1, classes=['a', 'b', 'c'])
    with pytest.raises(
        CheckpointError, match=r'classes are .* Give checkpoints of one'
    ):
        Ensemble.load([checkpoint, other])


def test_a_scene_of_another_resolution_is_read_at_that_of_the_training(
    checkpoint: Path, tmp_path: Path
) -> None:
    image = write(tmp_path / 'in' / 'fine.tif', 300, 260, res=2.5)
    write(tmp_path / 'in' / 'alike.tif', 60, 70, res=11)
    words = ['predict', str(tmp_path / 'in'), str(checkpoint), '--no-mosaic', '--out']
    out = tmp_path / 'resampled'
    assert main([*words, str(out)]) == 0
    found = reports(out)
    assert 'read at 10 m: its pixels are 2.5 m wide' in found['fine']['reason']
    assert found['alike']['reason'] is None
    classes = read(out / 'fine_classes.tif')[0]
    np.testing.assert_array_equal(classes == 255, (image == 0).all(axis=0))
    assert main([*words, str(tmp_path / 'refused'), '--gsd', 'refuse']) == 1
    assert '--gsd resample' in reports(tmp_path / 'refused')['fine']['reason']
    assert main([*words, str(tmp_path / 'taken'), '--gsd', 'ignore']) == 0
    assert (read(tmp_path / 'taken' / 'fine_classes.tif')[0] != classes).any()


def test_half_precision_is_used_where_classes_agree_only(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / 'in' / 'a.tif', 40, 50)
    words = ['predict', str(tmp_path / 'in'), str(checkpoint), '--no-mosaic']
    words += ['--precision', 'bfloat16', '--out']
    monkeypatch.setattr(mapper, 'has_bfloat16', lambda device: True)
    monkeypatch.setattr(mapper, 'PARITY', 0.0)
    assert main([*words, str(tmp_path / 'fast')]) == 0
    assert reports(tmp_path / 'fast')['a']['reason'] is None
    monkeypatch.setattr(mapper, 'PARITY', 1.1)
    assert main([*words, str(tmp_path / 'exact')]) == 0
    assert 'in bfloat16, ' in reports(tmp_path / 'exact')['a']['reason']
    monkeypatch.setattr(mapper, 'has_bfloat16', lambda device: False)
    assert main([*words, str(tmp_path / 'without')]) == 0
    assert 'has no bfloat16' in reports(tmp_path / 'without')['a']['reason']


# Of torch on Python 3.13.0, which is among those that CI has.
@pytest.mark.filterwarnings('ignore:Guards may run slower on Python 3.13.0')
def test_a_compiled_network_maps_the_same_in_batches_of_one_size(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / 'in' / 'a.tif', 40, 50)
    compiled = torch.compile
    asked = []

    def traced(function: Any, **options: Any) -> Any:
        asked.append(options)
        # The same but for the C++ compiler, which is not on every machine.
        return compiled(function, backend='eager', dynamic=options['dynamic'])

    monkeypatch.setattr(torch, 'compile', traced)
    words = ['predict', str(tmp_path / 'in'), str(checkpoint), '--no-mosaic', '--out']
    assert main([*words, str(tmp_path / 'plain')]) == 0
    assert asked == []
    assert main([*words, str(tmp_path / 'fast'), '--compile', '--batch-size', '4']) == 0
    assert asked == [{'mode': 'default', 'dynamic': False}]
    np.testing.assert_array_equal(
        read(tmp_path / 'fast' / 'a_classes.tif'),
        read(tmp_path / 'plain' / 'a_classes.tif'),
    )


def test_a_full_disk_fails_the_scene_and_not_the_others(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / 'in' / 'a.tif', 40, 50)
    write(tmp_path / 'in' / 'b.tif', 50, 60)
    original = journal._write

    def full(path: Path, values: NDArray[np.uint8]) -> None:
        if values.shape[2] == 50:
            said = 'Write failed. See previous exception for details.'
            raise RasterioIOError(said) from OSError(28, 'No space left on device')
        original(path, values)

    monkeypatch.setattr(journal, '_write', full)
    monkeypatch.setattr(scene_run, '_LITTLE', float('inf'))
    out = tmp_path / 'out'
    words = ['predict', str(tmp_path / 'in'), str(checkpoint), '--out', str(out)]
    assert main([*words, '--no-mosaic']) == 1
    found = reports(out)
    assert 'No space left' in found['a']['reason']
    assert found['a']['reason'].endswith(f'MB are free in {out})')
    assert found['b']['status'] == 'done'
    assert not list(out.rglob('*.part*'))
    assert not (out / 'a_classes.tif').exists()


@pytest.mark.parametrize('size', ['1G', '0', '500', 'many'])
def test_sizes_are_explained(
    scenes: Path, checkpoint: Path, tmp_path: Path, size: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = ['predict', str(scenes), str(checkpoint), '--out', str(tmp_path / 'out')]
    if size == '1G':
        assert byte_size(size) == byte_size('1000 MB') == 10**9
        return
    assert main([*words, '--memory', size]) == 2
    assert 'such as 1GB or 800MB' in capsys.readouterr().err


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of windows that the network is given at a time."""
    found: list[int] = []
    original = Checkpoint.predictor

    def predictor(self: Checkpoint, *arguments: Any) -> Predict:
        predict = original(self, *arguments)

        def counted(images: Tensor) -> Tensor:
            found.append(len(images))
            return predict(images)

        return counted

    monkeypatch.setattr(Checkpoint, 'predictor', predictor)
    return found


def write_area(path: Path, shape: Polygon, crs: str = 'EPSG:4326') -> str:
    """A polygon in metres of the zone of the scenes."""
    gpd.GeoSeries([shape], crs='EPSG:32632').to_crs(crs).to_file(path)
    return str(path)


def test_of_an_area_only_the_windows_that_it_touches_are_computed(
    scenes: Path, whole: Path, checkpoint: Path, tmp_path: Path, computed: list[int]
) -> None:
    circle = Point(45, 1060).buffer(15)  # in pixels; it reaches over two units
    place = affine_transform(circle, (10, 0, 0, -10, 6e5, 53e5))
    area = write_area(tmp_path / 'area.gpkg', place)
    out = tmp_path / 'maps'
    words = ['predict', str(scenes), str(checkpoint), '--aoi', area, '--out', str(out)]
    assert main([*words, '--probabilities']) == 0
    windows = WindowGrid(1200, 90, 32, 8)
    near = circle.buffer(1)
    touched = [window for window in windows if near.intersects(_box(window))]
    assert sum(computed) == len(touched) < len(windows) / 10
    rows, cols = np.indices((1200, 90)) + 0.5
    inside = np.hypot(cols - 45, rows - 1060) < 14.8
    outside = np.hypot(cols - 45, rows - 1060) > 15.1
    for layer in ('classes', 'confidence', 'probabilities'):
        values, expected = (read(x / f'tall_{layer}.tif') for x in (out, whole))
        np.testing.assert_array_equal(values[:, inside], expected[:, inside])
        assert (values[:, outside] == 255).all()
    with rasterio.open(out / 'mosaic.tif') as source:
        assert source.shape == (30, 30)
        assert source.bounds.left == 6e5 + 300
        mosaic = source.read(1)
    np.testing.assert_array_equal(
        mosaic, read(out / 'tall_classes.tif')[0, 1045:1075, 30:60]
    )
    # Without the area it would be another map.
    assert main([word for word in words if word not in ('--aoi', area)]) == 1


def _box(window: Window) -> Polygon:
    left, top, width, height = window.flatten()
    outline: Polygon = box(left, top, left + width, top + height)
    return outline


def test_scenes_outside_of_the_area_are_skipped_and_said_so(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / 'in' / 'low.tif', 60, 50)
    write(tmp_path / 'in' / 'high.tif', 20, 50)
    # Below the 20 rows of the one, within the 60 rows of the other.
    area = write_area(tmp_path / 'a.gpkg', box(6e5, 53e5 - 500, 6e5 + 300, 53e5 - 300))
    words = ['predict', str(tmp_path / 'in'), str(checkpoint), '--out']
    out = tmp_path / 'maps'
    assert main([*words, str(out), '--aoi', area]) == 0
    found = reports(out)
    assert found['low']['status'] == 'done'
    assert found['high']['status'] == 'skipped'
    assert 'outside of --aoi' in found['high']['reason']
    assert not (out / 'high_classes.tif').exists()
    classes = read(out / 'low_classes.tif')[0]
    assert (classes[30:50, :30] != 255).all()
    assert (classes != 255).sum() == 20 * 30
    nowhere = write_area(tmp_path / 'b.gpkg', box(0, 0, 10, 10))
    assert main([*words, str(tmp_path / 'other'), '--aoi', nowhere]) == 1
    assert 'have no common area' in capsys.readouterr().err


def test_maps_say_when_their_scene_was_acquired(
    checkpoint: Path, tmp_path: Path
) -> None:
    for name, date in [('a', '2021:05:01 10:00:00'), ('b', '2023:05:01 10:00:00')]:
        write(tmp_path / 'in' / f'{name}.tif', 40, 50)
        with rasterio.open(tmp_path / 'in' / f'{name}.tif', 'r+') as scene:
            scene.update_tags(TIFFTAG_DATETIME=date)
    out = tmp_path / 'maps'
    words = ['predict', str(tmp_path / 'in'), str(checkpoint), '--out', str(out)]
    assert main([*words, '--probabilities', '--no-mosaic']) == 0
    newest = tmp_path / 'newest.tif'
    assert main(['mosaic', str(out), '--mode', 'newest', '--out', str(newest)]) == 0
    with rasterio.open(tmp_path / 'newest_sources.tif') as sources:
        assert [sources.tags()[number] for number in '01'] == ['b', 'a']
        assert set(np.unique(sources.read(1))) == {0, 65535}


def test_an_area_clips_a_scene_that_is_read_at_another_resolution(
    checkpoint: Path, tmp_path: Path, computed: list[int]
) -> None:
    write(tmp_path / 'in' / 'fine.tif', 600, 560, res=2.5)
    words = ['predict', str(tmp_path / 'in'), str(checkpoint), '--no-mosaic', '--out']
    assert main([*words, str(tmp_path / 'whole')]) == 0
    all_windows = sum(computed)
    computed.clear()
    area = write_area(
        tmp_path / 'a.gpkg',
        box(600_500, 53e5 - 1400, 600_800, 53e5 - 1300),
        'EPSG:3035',
    )
    assert main([*words, str(tmp_path / 'part'), '--aoi', area]) == 0
    assert sum(computed) < all_windows / 3
    expected, part = (
        read(tmp_path / name / 'fine_classes.tif')[0] for name in ('whole', 'part')
    )
    inside = np.zeros(part.shape, bool)
    inside[520:560, 200:320] = True
    np.testing.assert_array_equal(part[inside], expected[inside])
    assert (part[~inside] == 255).all()


#: Predicts, is killed at random points as often as it is told, and goes on; writes down
#: each window that the network is given. Torch is imported once, and has no thread yet
#: that a fork would lose.
KILLED = """
import os, random, signal, sys, time
import eoseg.commands.mapper, eoseg.commands.predict
from eoseg.checkpoint import Checkpoint
from eoseg.main import main

def predictor(self, *arguments):
    predict = original(self, *arguments)

    def counted(images):
        os.write(log, b'.' * len(images))
        return predict(images)

    return counted

log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
original, Checkpoint.predictor = Checkpoint.predictor, predictor
killed, rng = 0, random.Random(0)
while True:
    before = os.fstat(log).st_size
    child = os.fork()
    if child == 0:
        sys.exit(main(sys.argv[3:]))
    # From the first window on, or some windows later.
    bound = before + rng.randrange(80) if killed < int(sys.argv[2]) else float('inf')
    status = None
    while status is None and os.fstat(log).st_size <= bound:
        ended, code = os.waitpid(child, os.WNOHANG)
        status = code if ended else None
        time.sleep(0.0005)
    if status is not None:
        sys.exit(os.waitstatus_to_exitcode(status))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    killed += 1
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='forks after torch is imported')
def test_killed_at_random_points_the_pixels_are_the_same(
    checkpoint: Path, tmp_path: Path
) -> None:
    write(tmp_path / 'in' / 'tall.tif', 2100, 40)
    words = ['predict', str(tmp_path / 'in'), str(checkpoint), *ALL, '--out']
    driver = [sys.executable, '-c', KILLED]
    for name, kills in (('once', 0), ('often', 4)):
        log, out = tmp_path / f'{name}.log', tmp_path / name
        subprocess.run([*driver, log, str(kills), *words, out], check=True)
    for layer in LAYERS:
        once, often = (
            read(tmp_path / name / f'tall_{layer}.tif') for name in ('once', 'often')
        )
        np.testing.assert_array_equal(often, once)
    assert not list((tmp_path / 'often').rglob('.*.part*'))
    needed, computed = (
        (tmp_path / f'{name}.log').stat().st_size for name in ('once', 'often')
    )
    # The unit that was being computed and the one that was being written; each is made
    # of 23 rows of 2 windows.
    assert needed < computed <= needed + 4 * 2 * 23 * 2


@pytest.mark.parametrize('way', ['reading', 'computing', 'writing', 'finishing'])
def test_a_worker_that_dies_fails_its_scene_and_not_the_others(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    write(tmp_path / 'in' / 'a.tif', 40, 50)
    write(tmp_path / 'in' / 'b.tif', 50, 60)
    owner, name = {
        'reading': (reader, '_read'),
        'computing': (Checkpoint, 'predictor'),
        'writing': (journal.Journal, 'save'),
        'finishing': (MapFolder, 'write'),
    }[way]
    original = getattr(owner, name)
    calls = 0

    def dies_first(*arguments: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise MemoryError(f'no memory for {way}')
        return original(*arguments, **settings)

    monkeypatch.setattr(owner, name, dies_first)
    out = tmp_path / 'out'
    words = ['predict', str(tmp_path / 'in'), str(checkpoint), '--out', str(out)]
    assert main([*words, '--no-mosaic']) == 1
    found = reports(out)
    assert (found['a']['status'], found['b']['status']) == ('failed', 'done')
    assert found['a']['reason'] == f'no memory for {way}'
    assert not (out / 'a_classes.tif').exists()
    assert not list(out.rglob('.*.part*'))
    # The next run tries again.
    assert main([*words, '--no-mosaic']) == 0
    assert reports(out)['a']['status'] == 'done'


def test_a_block_that_cannot_be_read_fails_its_scene_and_not_the_others(
    checkpoint: Path, tmp_path: Path
) -> None:
    write(tmp_path / 'in' / 'b.tif', 50, 60)
    path = tmp_path / 'in' / 'a.tif'
    write(path, 600, 50)
    with rasterio.open(path) as source:
        image, profile = source.read(), source.profile | {'compress': 'deflate'}
    with rasterio.open(path, 'w', **profile) as target:
        target.write(image)
        target.descriptions = ('B3', 'B8')
    with rasterio.open(path) as source:
        last = (600 - 1) // source.block_shapes[0][0]
        offset = int(source.get_tag_item(f'BLOCK_OFFSET_0_{last}', 'TIFF', bidx=1))
    with path.open('r+b') as file:
        file.seek(offset)
        file.write(bytes(200))
    out = tmp_path / 'out'
    words = ['predict', str(tmp_path / 'in'), str(checkpoint), '--out', str(out)]
    assert main([*words, '--no-mosaic']) == 1
    found = reports(out)
    assert str(path) in found['a']['reason']
    assert found['b']['status'] == 'done'
    assert not (out / 'a_classes.tif').exists()


@pytest.mark.real_data
@pytest.mark.parametrize(
    'folder, refused',
    [
        ('sar_optical_spacenet6_rotterdam', 4),  # float64, alpha, mask; complex refused
        ('sar_optical_sen1floods11_spain', 0),  # int16 and float32 in degrees
        ('scenes_drone_aerial', 0),  # alpha, mask bands
    ],
)
def test_real_scenes_keep_their_grid_and_their_nodata(
    data: Path, tmp_path: Path, folder: str, refused: int
) -> None:
    inputs = {'bands': ['grey'], 'mean': [100.0], 'std': [50.0], 'res': None}
    one_band = save(tmp_path / 'one.ckpt', seed=0, in_channels=1, **inputs)
    out = tmp_path / 'out'
    words = ['predict', str(data / folder), str(one_band), '--out', str(out)]
    words += ['--bands', '1', '--statistics', 'scene', '--no-mosaic']
    assert main([*words, '--window', '128']) == bool(refused)
    found = json.loads((out / 'report.json').read_text())['scenes']
    failed = [item['reason'] for item in found if item['status'] == 'failed']
    assert len(failed) == refused
    assert all('complex' in reason for reason in failed)
    by_path = {str(scene.path): scene for scene in find_scenes(data / folder).scenes}
    done = [item for item in found if item['status'] == 'done']
    assert len(done) == len(by_path) > 0
    for item in done:
        scene = by_path[item['path']].select(['1'])
        with rasterio.open(out / item['outputs']['classes']) as source:
            assert (source.crs, source.shape) == (scene.crs, scene.grid.shape)
            assert source.transform == scene.grid.transform
            nodata = source.read(1) == 255
        whole = Window(0, 0, scene.grid.width, scene.grid.height)
        np.testing.assert_array_equal(~nodata, scene.valid(whole))
        assert sum(item['hectares'].values()) > 0
