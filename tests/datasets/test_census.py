"""A census counts every valid pixel once, and knows where one of each class is."""

import logging
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window
from tiny import WriteRaster, ramp

from eoseg_datasets import census as module
from eoseg_datasets.census import (
    Census,
    cached_census,
    count_classes,
    read_census,
    take_census,
    write_census,
)
from eoseg_datasets.grid import Grid
from eoseg_datasets.labels import Labels
from eoseg_datasets.scene import Scene, ScenePatch, open_scene


class ArrayLabels:
    """Labels in memory."""

    def __init__(self, classes: NDArray[np.uint8]) -> None:
        self.classes = classes

    def read(self, grid: Grid, window: Window) -> NDArray[np.uint8]:
        rows, cols = window.toslices()
        return np.asarray(self.classes[rows, cols])


#: Three classes of which the last is rare, 40 x 50 px, the upper left without a label.
CLASSES = np.zeros((40, 50), np.uint8)
CLASSES[20:, 5:] = 1
CLASSES[33, 41:44] = 2
CLASSES[:7, :9] = 255

REGIONS = [ScenePatch(0, Window(3, 2, 20, 38)), ScenePatch(0, Window(25, 0, 25, 40))]


@pytest.fixture
def scene(write_raster: WriteRaster) -> Scene:
    """Two bands of CLASSES' size; the right six columns hold nothing."""
    image = ramp(2, 40, 50)
    image[:, :, 44:] = 0
    return open_scene(write_raster('a.tif', image, nodata=0))


def take(scene: Scene, side: int = 8) -> Census:
    return take_census([scene], REGIONS, lambda _: ArrayLabels(CLASSES), 3, side)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    side=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_counts_and_examples_are_those_of_the_pixels(
    height: int, width: int, side: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    classes = rng.choice(np.array([0, 1, 2, 255], np.uint8), (height, width))
    valid = rng.random((height, width)) < 0.7
    found = count_classes(classes, valid, 4, side)
    kinds = np.where(classes == 255, 4, classes)
    across = -(-width // side)
    wanted = Counter(
        (row // side * across + col // side, int(kinds[row, col]))
        for row, col in np.argwhere(valid).tolist()
    )
    cells, pixels = found.cell.tolist(), found.pixels.tolist()
    got = dict(zip(zip(cells, found.kind.tolist(), strict=True), pixels, strict=True))
    assert got == dict(wanted)
    rows, cols = found.example.T
    assert valid[rows, cols].all()
    np.testing.assert_array_equal(kinds[rows, cols], found.kind)
    np.testing.assert_array_equal(rows // side * across + cols // side, found.cell)


def test_regions_are_counted_without_what_is_not_valid(scene: Scene) -> None:
    counts = take(scene).by_region()
    west = np.bincount(CLASSES[2:40, 3:23].ravel(), minlength=256)
    east = np.bincount(CLASSES[:40, 25:44].ravel(), minlength=256)
    np.testing.assert_array_equal(counts, [[*n[:3], n[255]] for n in (west, east)])
    assert counts[1, 2] == 3


def test_examples_lie_in_their_cell_and_cells_in_their_region(scene: Scene) -> None:
    census = take(scene)
    cells = census.cells[census.cell]
    first, extent = cells[:, 1:3], cells[:, 3:]
    assert ((census.example >= first) & (census.example < first + extent)).all()
    windows = census.regions[census.cells[:, 0]]
    assert (census.cells[:, 1:3] >= windows[:, 1:3]).all()
    ends = census.cells[:, 1:3] + census.cells[:, 3:]
    assert (ends <= windows[:, 1:3] + windows[:, 3:]).all()
    kinds = np.where(CLASSES == 255, 3, CLASSES)[tuple(census.example.T)]
    np.testing.assert_array_equal(kinds, census.kind)


def test_the_size_of_the_pieces_changes_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = take(scene)
    monkeypatch.setattr(module, '_ROWS', 16)
    monkeypatch.setattr(module, '_COLS', 8)
    pieces = take(scene)

    def entries(census: Census) -> set[tuple[int, ...]]:
        rows = np.column_stack([census.cells[census.cell], census.kind, census.pixels])
        return set(map(tuple, rows.tolist()))

    assert entries(pieces) == entries(whole)
    assert len(pieces.cells) == len(whole.cells)


def test_a_part_of_a_census_is_the_census_of_the_part(scene: Scene) -> None:
    part = take(scene).of(REGIONS[1:])
    alone = take_census([scene], REGIONS[1:], lambda _: ArrayLabels(CLASSES), 3, side=8)
    np.testing.assert_array_equal(part.by_region(), alone.by_region())
    np.testing.assert_array_equal(part.cells, alone.cells)
    np.testing.assert_array_equal(np.sort(part.cell), np.sort(alone.cell))
    np.testing.assert_array_equal(
        take(scene).of(REGIONS[::-1]).by_region(), take(scene).by_region()[::-1]
    )


def test_a_region_that_was_not_counted_is_named(scene: Scene) -> None:
    with pytest.raises(ValueError, match=r'col_off=1.* was not counted, 2 other'):
        take(scene).of([ScenePatch(0, Window(1, 1, 2, 2))])


def test_balanced_means_the_same_chance_for_each_class_that_occurs(
    scene: Scene,
) -> None:
    # A fourth class that does not occur takes no chance from the others.
    labels = ArrayLabels(CLASSES)
    census = take_census([scene], REGIONS, lambda _: labels, 4, side=8)
    density = census.balanced()
    kinds = CLASSES[tuple(density.box[:, :2].T)]
    chances = np.bincount(kinds, density.weight)
    np.testing.assert_allclose(chances, np.ones(3))


def test_even_means_the_same_chance_for_each_valid_pixel(scene: Scene) -> None:
    density = take(scene).even()
    chances = np.bincount(density.region, density.weight)
    np.testing.assert_allclose(chances, [20 * 38, 19 * 40])


def test_a_cell_of_one_class_is_drawn_from_as_a_whole(scene: Scene) -> None:
    areas = take(scene).balanced().box[:, 2:].prod(axis=1)
    assert set(areas.tolist()) > {1, 64}


def test_scenes_without_labels_are_counted_as_such(scene: Scene) -> None:
    census = take_census([scene], REGIONS, lambda _: None, 3, side=8)
    assert census.totals.tolist() == [0, 0, 0, 20 * 38 + 19 * 40]
    with pytest.raises(ValueError, match='no labelled pixel'):
        census.balanced()


def test_no_valid_pixel_is_an_error(write_raster: WriteRaster) -> None:
    empty = open_scene(write_raster('b.tif', np.zeros((1, 40, 50), 'u2'), nodata=0))
    with pytest.raises(ValueError, match='no valid pixel'):
        take(empty).even()


def test_a_class_too_many_is_an_error(scene: Scene) -> None:
    with pytest.raises(ValueError, match='class 2, but there are 2 classes, 0 to 1'):
        take_census([scene], REGIONS, lambda _: ArrayLabels(CLASSES), 2)


def test_a_census_can_be_written_and_read(scene: Scene, tmp_path: Path) -> None:
    census, path = take(scene), tmp_path / 'census.npz'
    write_census(census, path)
    again = read_census(path)
    np.testing.assert_equal(vars(again), vars(census))
    assert list(tmp_path.glob('*.part')) == []


def no_labels(scene: int) -> Labels | None:
    raise AssertionError('labels are read though the census is kept')


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv('EOSEG_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def test_a_census_is_taken_once(scene: Scene, cache: Path) -> None:
    labels = ArrayLabels(CLASSES)
    first = cached_census([scene], REGIONS, lambda _: labels, 3, ['a'])
    again = cached_census([scene], REGIONS, no_labels, 3, ['a'])
    np.testing.assert_equal(vars(again), vars(first))
    for other in (['b'], ['a', scene.path]):
        with pytest.raises(AssertionError, match='labels are read'):
            cached_census([scene], REGIONS, no_labels, 3, other)
    with pytest.raises(AssertionError, match='labels are read'):
        cached_census([scene], REGIONS[:1], no_labels, 3, ['a'])


def test_a_census_is_taken_anew_when_a_file_changes(scene: Scene, cache: Path) -> None:
    cached_census([scene], REGIONS, lambda _: None, 3, [])
    with rasterio.open(scene.path, 'r+') as target:
        target.write(ramp(2, 40, 50))
    census = cached_census([scene], REGIONS, lambda _: None, 3, [])
    assert census.totals[3] == 20 * 38 + 25 * 40


def test_a_census_is_taken_anew_when_a_sidecar_changes(
    write_raster: WriteRaster, cache: Path
) -> None:
    path = write_raster('a.tif', ramp(1, 40, 50))
    scene, regions = open_scene(path), [ScenePatch(0, Window(0, 0, 50, 40))]

    def pixels() -> int:
        return int(cached_census([scene], regions, lambda _: None, 3, []).totals[3])

    assert pixels() == 2000
    before = path.stat().st_mtime_ns
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(path, 'r+') as target,
    ):
        target.write_mask(np.arange(40)[:, None].repeat(50, axis=1) >= 10)
    assert path.with_name('a.tif.msk').exists() and path.stat().st_mtime_ns == before
    assert pixels() == 1500


def test_a_census_is_taken_anew_when_a_file_beside_the_labels_changes(
    scene: Scene, cache: Path, tmp_path: Path
) -> None:
    shapes, table = tmp_path / 'b.shp', tmp_path / 'b.dbf'
    for path in (shapes, table, tmp_path / 'c.dbf'):
        path.write_text('1')
    cached_census([scene], REGIONS, lambda _: None, 3, [shapes])
    (tmp_path / 'c.dbf').write_text('12')
    cached_census([scene], REGIONS, no_labels, 3, [shapes])
    table.write_text('12')
    with pytest.raises(AssertionError, match='labels are read'):
        cached_census([scene], REGIONS, no_labels, 3, [shapes])


def test_a_census_leaves_the_filters_of_warnings_as_they_were(
    write_raster: WriteRaster,
) -> None:
    scenes = [
        open_scene(write_raster(f'{i}.tif', ramp(1, 40, 50), crs=None, transform=None))
        for i in range(16)
    ]
    regions = [ScenePatch(i, Window(0, 0, 50, 40)) for i in range(16)]
    before = list(warnings.filters)
    for _ in range(20):
        take_census(scenes, regions, lambda _: None, 3)
        assert list(warnings.filters) == before


def test_a_damaged_cache_is_written_anew(
    scene: Scene, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def census() -> Census:
        return cached_census([scene], REGIONS, lambda _: None, 3, [])

    first = census()
    (path,) = (cache / 'census').iterdir()
    for damage in (b'', b'PK\x03\x04 cut', path.read_bytes()[:300]):
        path.write_bytes(damage)
        with caplog.at_level(logging.INFO):
            np.testing.assert_equal(vars(census()), vars(first))
        assert 'taken anew' in caplog.text
        np.testing.assert_equal(vars(read_census(path)), vars(first))


def test_a_cache_that_cannot_be_written_is_done_without(
    scene: Scene, cache: Path
) -> None:
    cache.write_text('a file where a folder should be')
    census = cached_census([scene], REGIONS, lambda _: None, 3, [])
    assert census.totals[3] > 0


FLOATS = ramp(2, 5, 6).astype(np.float32)
FLOATS[0, 1, 3], FLOATS[1, 4, 0] = np.nan, np.inf
ZEROS = ramp(2, 5, 6)
ZEROS[0, 0], ZEROS[1, :2] = 0, 0


@pytest.mark.parametrize(
    ('image', 'profile'),
    [
        pytest.param(ramp(2, 5, 6), {}, id='all valid'),
        pytest.param(ZEROS, {'nodata': 0}, id='zero'),
        pytest.param(ZEROS, {'nodata': 1}, id='a value'),
        pytest.param(FLOATS, {}, id='not finite'),
        pytest.param(FLOATS, {'nodata': 203}, id='not finite and a value'),
        pytest.param(FLOATS, {'nodata': np.nan}, id='nan'),
        pytest.param(
            ZEROS[[0, 0, 0, 1]].astype('u1'),
            {'photometric': 'RGB', 'alpha': 'YES'},
            id='alpha',
        ),
    ],
)
@pytest.mark.parametrize('window', [Window(0, 0, 6, 5), Window(-2, 1, 5, 9)])
def test_validity_alone_is_that_of_reading(
    write_raster: WriteRaster,
    image: NDArray[np.generic],
    profile: dict[str, object],
    window: Window,
) -> None:
    scene = open_scene(write_raster('a.tif', image, **profile))
    np.testing.assert_array_equal(scene.valid(window), scene.read(window)[1])


def test_validity_of_bands_in_several_files_is_that_of_reading(
    write_raster: WriteRaster,
) -> None:
    fine = open_scene(write_raster('a.tif', ZEROS[:1], nodata=0))
    sharp = open_scene(write_raster('b.tif', ZEROS[1:], nodata=0))
    coarse = open_scene(write_raster('c.tif', ramp(1, 3, 3), nodata=101))
    for others in (sharp.bands, coarse.bands, sharp.bands + coarse.bands):
        scene = Scene('a', fine.path, fine.grid, fine.bands + others)
        window = Window(0, 0, 6, 5)
        valid = scene.valid(window)
        np.testing.assert_array_equal(valid, scene.read(window)[1])
        assert not valid.all()


def test_validity_reads_no_pixel_where_no_band_can_say(
    write_raster: WriteRaster,
) -> None:
    path = write_raster('a.tif', ramp(1, 64, 64), compress='deflate')
    scene = open_scene(path)
    content = bytearray(path.read_bytes())
    content[300:] = bytes(len(content) - 300)  # of which nothing can be read
    path.write_bytes(content)
    window = Window(0, 0, 64, 64)
    with pytest.raises(RasterioError):
        scene.read(window)
    assert scene.valid(window).all()
