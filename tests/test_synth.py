import csv
import hashlib
import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.io import DatasetReader
from rasterio.warp import transform_bounds
from scipy import ndimage

from eoseg.synth import CLASSES, COLORS, SyntheticScenes, write_scenes
from eoseg.synth.atmosphere import OPAQUE, Atmosphere, Sun, make_atmosphere, sun_at
from eoseg.synth.fields import fractal_noise, sample
from eoseg.synth.relief import _gather, _grade, _route
from eoseg.synth.render import NODATA, Acquisition, positions, render
from eoseg.synth.scenes import (
    _SCENES,
    _SOURCE,
    _TARGET,
    _TRAIN,
    _grid,
    _Shot,
    _Site,
    _write_site,
)
from eoseg.synth.world import World, make_world
from eoseg_datasets.grid import Grid

CLOUD, SHADOW = CLASSES.index('cloud'), CLASSES.index('cloud shadow')
PLANE = CRS.from_string('+proj=tmerc +lon_0=12 +lat_0=46 +datum=WGS84')


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> SyntheticScenes:
    return write_scenes(tmp_path_factory.mktemp('synth'))


def rasters(folder: Path) -> list[Path]:
    return sorted(folder.glob('*.tif'))


def pairs(files: SyntheticScenes) -> list[tuple[Path, Path]]:
    """Every image with its truth."""
    train = [(path, files.train / 'labels') for path in rasters(files.train / 'images')]
    scenes = [(path, files.truth) for path in rasters(files.scenes)]
    return [(path, truth / path.name) for path, truth in train + scenes]


def read(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as file:
        return np.asarray(file.read(1))


def square(side: float, spacing: float) -> Grid:
    """A grid of a square around the centre of the plane."""
    nodes = round(side / spacing)
    transform = Affine(spacing, 0, -side / 2, 0, -spacing, side / 2)
    return Grid(PLANE, transform, nodes, nodes)


def meadow(reflectance: float = 0.2, side: float = 4000) -> World:
    """Level ground half covered by grass."""
    grid = square(side, 20)
    return World(
        grid=grid,
        cover=np.full(grid.shape, 0.4, np.float32),
        reflectance=np.full((4, *grid.shape), reflectance, np.float32),
        slope=np.zeros((2, *grid.shape), np.float32),
    )


def one_cloud(height: float, side: float = 4000) -> Atmosphere:
    """A round cloud of 300 m over the centre, in clear air."""
    grid = square(side, 20)
    x, y = positions(grid, PLANE)
    thickness = 10 * OPAQUE * (np.hypot(x, y) < 150)
    nothing = np.zeros(grid.shape, np.float32)
    return Atmosphere(grid, thickness.astype(np.float32), height, nothing)


def acquisition(
    sun: Sun, atmosphere: Atmosphere, edge: tuple[float, float] = (0, math.inf)
) -> Acquisition:
    return Acquisition(sun, atmosphere, (1, 1, 1, 1), 0.002, 0, edge)


def test_three_overlapping_scenes_lie_in_two_zones_on_grids_that_do_not_match(
    files: SyntheticScenes,
) -> None:
    scenes: list[DatasetReader] = [
        rasterio.open(path) for path in rasters(files.scenes)
    ]
    assert len(scenes) == 3
    assert {scene.crs.to_epsg() for scene in scenes} == {32632, 32633}
    assert len({(s.transform.a, s.transform.c % 10, s.crs) for s in scenes}) == 3
    boxes = [transform_bounds(s.crs, 4326, *s.bounds) for s in scenes]
    left, bottom, right, top = np.array(boxes).T
    assert left.max() < 12 < right.min()  # all of them lie across the border
    assert bottom.max() < top.min()


def test_truth_and_labels_lie_on_the_grids_of_their_images(
    files: SyntheticScenes,
) -> None:
    for image, truth in pairs(files):
        with rasterio.open(image) as a, rasterio.open(truth) as b:
            assert (a.crs, a.transform, a.shape) == (b.crs, b.transform, b.shape)
            assert a.descriptions == ('B2', 'B3', 'B4', 'B8')
            assert (a.nodata, a.dtypes[0], b.nodata, b.dtypes) == (
                0, 'uint16', 255, ('uint8',)
            )  # fmt: skip


def test_classes_csv_and_color_table_agree_with_the_names(
    files: SyntheticScenes,
) -> None:
    with (files.train / 'classes.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['value'] for row in rows] == [str(i) for i in range(len(CLASSES))]
    assert tuple(row['name'] for row in rows) == CLASSES
    assert tuple(row['color'] for row in rows) == COLORS
    with rasterio.open(rasters(files.truth)[0]) as file:
        table = file.colormap(1)
    for value, color in enumerate(COLORS):
        assert '#{:02x}{:02x}{:02x}'.format(*table[value][:3]) == color


def test_image_is_nodata_exactly_where_the_truth_is(files: SyntheticScenes) -> None:
    for image, truth in pairs(files):
        with rasterio.open(image) as file:
            bands = file.read()
        missing = read(truth) == NODATA
        assert np.array_equal(bands.any(axis=0), ~missing)
        assert np.array_equal(bands.all(axis=0), ~missing)


def test_scenes_to_map_have_a_slanted_edge_and_labelled_ones_do_not(
    files: SyntheticScenes,
) -> None:
    for path in rasters(files.truth):
        missing = (read(path) == NODATA).sum(axis=1)
        assert 0.02 < missing.sum() / read(path).size < 0.2
        assert len(np.unique(missing)) > 50
    for path in rasters(files.train / 'labels'):
        assert not (read(path) == NODATA).any()


@pytest.mark.parametrize('part', ['labels', 'truth'])
def test_every_class_has_a_fair_share(files: SyntheticScenes, part: str) -> None:
    folder = files.truth if part == 'truth' else files.train / 'labels'
    values = np.concatenate([read(path).ravel() for path in rasters(folder)])
    values = values[values != NODATA]
    share = np.bincount(values, minlength=len(CLASSES)) / values.size
    assert len(share) == len(CLASSES)
    assert share[:CLOUD].min() > 0.05
    assert 0.04 < share[CLOUD] < 0.2
    assert 0.03 < share[SHADOW] < 0.15


def test_scenes_of_two_zones_show_the_same_ground(files: SyntheticScenes) -> None:
    west, east = (next(files.truth.glob(f'{side}_*.tif')) for side in ('west', 'east'))
    with rasterio.open(west) as a, rasterio.open(east) as b:
        here, there = a.read(1), b.read(1)
        rows, cols = np.mgrid[3 : a.height - 3 : 5, 3 : a.width - 3 : 5]
        x, y = a.transform @ (cols.ravel() + 0.5, rows.ravel() + 0.5)
        transformer = Transformer.from_crs(
            a.crs.to_wkt(), b.crs.to_wkt(), always_xy=True
        )
        col, row = ~b.transform @ transformer.transform(x, y)
    seen = (col > 3) & (col < b.width - 3) & (row > 3) & (row < b.height - 3)
    first = rows.ravel()[seen], cols.ravel()[seen]
    second = row[seen].astype(int), col[seen].astype(int)
    usable = uniform(here)[first] & uniform(there)[second]
    usable &= (here[first] < CLOUD) & (there[second] < CLOUD)
    assert usable.sum() > 1000
    assert (here[first] == there[second])[usable].mean() > 0.99


def uniform(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether a pixel is inside its class: not on a boundary."""
    lowest, highest = (
        ndimage.minimum_filter(classes, 3),
        ndimage.maximum_filter(classes, 3),
    )
    return np.asarray(lowest == highest)


def digests(folder: Path, seed: int) -> dict[str, str]:
    """Of the files of a small site with two scenes."""
    site = _Site(12, 46, (150, 180))
    shots = [
        _Shot('a', 32632, (-100, 0), (40, 50), '2023-05-01', 0.2),
        _Shot('b', 32633, (100, 0), (40, 50), '2023-06-01', 0.2, 12, (100, 100)),
    ]
    _write_site(site, shots, (seed, 0), folder / 'images', folder / 'labels')
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in folder.rglob('*.tif')
    }


@pytest.mark.parametrize(('site', 'shots'), [(_SOURCE, _TRAIN), (_TARGET, _SCENES)])
def test_scenes_do_not_reach_the_end_of_the_world(
    site: _Site, shots: tuple[_Shot, ...]
) -> None:
    plane = CRS.from_string(f'+proj=tmerc +lon_0={site.lon} +lat_0={site.lat}')
    for shot in shots:
        x, y = np.abs(positions(_grid(shot, plane), plane))
        assert x.max() < site.shape[1] * 5 - 50
        assert y.max() < site.shape[0] * 5 - 50


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    np.random.seed(1)  # the global state must not matter
    first = digests(tmp_path / 'first', seed=5)
    np.random.seed(2)
    assert digests(tmp_path / 'second', seed=5) == first
    assert len(set(first.values())) == 4


def test_another_seed_gives_another_world(tmp_path: Path) -> None:
    first, second = digests(tmp_path / 'a', seed=5), digests(tmp_path / 'b', seed=6)
    assert not set(first.values()) & set(second.values())


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='seed must be 0 or greater, got -1'):
        write_scenes(tmp_path, seed=-1)
    assert not list(tmp_path.iterdir())


# Shrinking would render for minutes.
@settings(max_examples=20, deadline=None, phases=[Phase.generate])
@given(
    azimuth=st.floats(0, 360),
    elevation=st.floats(35, 65),
    height=st.floats(900, 1200),
)
def test_a_shadow_lies_away_from_the_sun_by_height_over_tangent_of_elevation(
    azimuth: float, elevation: float, height: float
) -> None:
    grid = square(4000, 40)
    shot = acquisition(Sun(azimuth, elevation), one_cloud(height))
    _, truth = render(meadow(), shot, grid)
    x, y = positions(grid, PLANE)
    away = math.radians(azimuth + 180)
    distance = height / math.tan(math.radians(elevation))
    assert x[truth == SHADOW].mean() == pytest.approx(distance * math.sin(away), abs=10)
    assert y[truth == SHADOW].mean() == pytest.approx(distance * math.cos(away), abs=10)


def test_a_cloud_brightens_and_its_shadow_darkens_every_band() -> None:
    image, truth = render(
        meadow(), acquisition(Sun(150, 45), one_cloud(800)), square(4000, 20)
    )
    for band in image.astype(float):
        ground = band[truth == CLASSES.index('middle')].mean()
        assert band[truth == CLOUD].mean() > 1.5 * ground
        assert band[truth == SHADOW].mean() < 0.6 * ground


def test_slopes_that_face_the_sun_are_brighter() -> None:
    world = meadow()
    world.slope[1, :, :100] = 0.2  # rises to the north: faces south
    world.slope[1, :, 100:] = -0.2
    shot = acquisition(Sun(180, 45), one_cloud(0))
    image, truth = render(world, shot, square(4000, 20))
    image = np.where(truth == CLASSES.index('middle'), image, 0)
    assert image[:, :20, :90].min() > image[:, :20, 110:].max()


def test_black_ground_is_not_nodata() -> None:
    shot = acquisition(Sun(150, 45), one_cloud(800), edge=(90, 500))
    image, truth = render(meadow(reflectance=0), shot, square(4000, 20))
    assert np.array_equal((image == 0).all(axis=0), truth == NODATA)
    assert np.array_equal((image == 0).any(axis=0), truth == NODATA)


def test_the_swath_ends_at_its_edge() -> None:
    grid = square(4000, 20)
    shot = acquisition(Sun(150, 45), one_cloud(800), edge=(90, 500))
    _, truth = render(meadow(), shot, grid)
    assert np.array_equal(truth == NODATA, positions(grid, PLANE)[0] > 500)


def test_the_midsummer_sun_stands_as_high_as_the_tropic_allows() -> None:
    noon = sun_at(datetime(2023, 6, 21, 11, 12, tzinfo=UTC), lon=12, lat=46)
    assert noon.elevation == pytest.approx(90 - 46 + 23.44, abs=0.1)
    assert noon.azimuth == pytest.approx(180, abs=0.5)


def test_the_sun_moves_from_east_to_west() -> None:
    hours = [datetime(2023, 9, 22, hour, tzinfo=UTC) for hour in (7, 9, 11, 13, 15)]
    azimuths = [sun_at(hour, lon=12, lat=46).azimuth for hour in hours]
    assert azimuths == sorted(azimuths)
    assert azimuths[0] < 180 < azimuths[-1]


@settings(max_examples=10, deadline=None)
@given(share=st.floats(0.02, 0.5), seed=st.integers(0, 99))
def test_opaque_clouds_cover_the_share_asked_for(share: float, seed: int) -> None:
    bounds = -2000.0, -1500.0, 2000.0, 1500.0
    air = make_atmosphere(PLANE, bounds, share, np.random.default_rng(seed))
    x, y = positions(air.grid, PLANE)
    inside = (np.abs(x) < 2000) & (np.abs(y) < 1500)
    assert (air.clouds > OPAQUE)[inside].mean() == pytest.approx(share, abs=0.01)


def test_the_same_generator_makes_the_same_world_and_another_makes_another() -> None:
    first, same, other = (
        make_world(12, 46, (100, 120), np.random.default_rng(seed))
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first.cover, same.cover)
    assert np.array_equal(first.reflectance, same.reflectance)
    assert np.abs(first.cover - other.cover).mean() > 0.1


def test_green_cover_darkens_red_and_brightens_near_infrared() -> None:
    world = make_world(12, 46, (200, 200), np.random.default_rng(0))
    lush, bare = world.cover > 0.7, world.cover < 0.1
    red, infrared = world.reflectance[2:]
    assert red[lush].mean() < 0.6 * red[bare].mean()
    assert infrared[lush].mean() > 1.2 * infrared[bare].mean()


@given(rows=st.integers(3, 12), cols=st.integers(3, 12), seed=st.integers(0, 99))
def test_all_water_reaches_a_sink_and_none_is_lost(
    rows: int, cols: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    height = rng.random((rows, cols), np.float32)
    sinks = np.zeros((rows, cols), np.bool_)
    sinks[rows // 2, 1:-1] = rng.random(cols - 2) < 0.5
    sinks[rows // 2, cols // 2] = True
    order, outlet = _route(height, sinks)
    area = _gather(order, outlet, height.shape)
    assert sorted(order) == [
        r * cols + c for r in range(1, rows - 1) for c in range(1, cols - 1)
    ]
    assert area[sinks].sum() == (rows - 2) * (cols - 2)


@given(seed=st.integers(0, 99))
def test_a_graded_brook_never_runs_uphill(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sinks = np.zeros((9, 7), np.bool_)
    sinks[4, 3] = True
    order, outlet = _route(rng.random((9, 7), np.float32), sinks)
    height = _grade(order, outlet, rng.uniform(0.1, 1, (9, 7)).astype(np.float32))
    inner = [i for i in order if outlet[i] != i]
    assert all(height.flat[i] > height.flat[outlet[i]] for i in inner)
    assert height[4, 3] == 0


def test_a_diagonal_step_rises_farther_than_a_straight_one() -> None:
    sinks = np.zeros((5, 5), np.bool_)
    sinks[2, 2] = True
    order, outlet = _route(np.zeros((5, 5), np.float32), sinks)
    height = _grade(order, outlet, np.ones((5, 5), np.float32))
    assert height[2, 1] == height[1, 2] == 1
    assert height[1, 1] == pytest.approx(2**0.5)


@settings(deadline=None)
@given(east=st.floats(-1, 1), north=st.floats(-1, 1), seed=st.integers(0, 99))
def test_a_sloping_plane_is_sampled_exactly(
    east: float, north: float, seed: int
) -> None:
    grid = square(400, 20)
    x, y = positions(grid, PLANE)
    plane = (east * x + north * y).astype(np.float32)
    xy = np.random.default_rng(seed).uniform(-150, 150, (2, 5, 4)).astype(np.float32)
    expected = east * xy[0] + north * xy[1]
    np.testing.assert_allclose(sample(plane, grid, xy), expected, atol=1e-3)


@settings(max_examples=10, deadline=None)
@given(
    height=st.integers(1, 130),
    width=st.integers(1, 130),
    res=st.sampled_from([10, 12, 30]),
    epsg=st.sampled_from([32632, 32633, 3035]),
)
def test_interpolated_positions_are_the_projected_centres_of_the_pixels(
    height: int, width: int, res: int, epsg: int
) -> None:
    crs = CRS.from_epsg(epsg)
    there = Transformer.from_crs(PLANE.to_wkt(), crs.to_wkt(), always_xy=True)
    left, top = there.transform(-500, 500)
    grid = Grid(crs, Affine(res, 0, left, 0, -res, top), width, height)
    rows, cols = np.indices(grid.shape)
    back = Transformer.from_crs(crs.to_wkt(), PLANE.to_wkt(), always_xy=True)
    exact = back.transform(left + res * (cols + 0.5), top - res * (rows + 0.5))
    np.testing.assert_allclose(positions(grid, PLANE), exact, atol=0.01)


@settings(deadline=None)
@given(seed=st.integers(0, 99), smoothness=st.floats(1, 3))
def test_noise_has_mean_0_and_deviation_1(seed: int, smoothness: float) -> None:
    rng = np.random.default_rng(seed)
    noise = fractal_noise(rng, (60, 50), 10, (300, 20), smoothness)
    assert noise.shape == (60, 50)
    assert noise.mean() == pytest.approx(0, abs=1e-5)
    assert noise.std() == pytest.approx(1, abs=1e-5)


def test_smoother_noise_has_gentler_slopes() -> None:
    rugged, smooth = (
        np.hypot(
            *np.gradient(
                fractal_noise(
                    np.random.default_rng(0), (100, 100), 10, (500, 20), power
                )
            )
        ).mean()
        for power in (1, 3)
    )
    assert smooth < 0.5 * rugged


def test_importing_synth_does_not_import_torch() -> None:
    code = 'import eoseg.synth, sys; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
