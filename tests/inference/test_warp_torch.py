"""Pixels come from where PROJ says that they lie."""

import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from scipy.ndimage import map_coordinates

from eoseg.inference.warp import (
    Footprint,
    Lattice,
    Positions,
    bilinear,
    coarser,
    locate,
    mean_footprint,
    nearest,
    nearest_footprint,
    period,
    warp,
)
from eoseg_datasets.grid import Grid

#: A Lambert projection that no authority has a number for.
CUSTOM = CRS.from_proj4(
    '+proj=lcc +lat_0=47 +lon_0=14 +lat_1=46 +lat_2=49 +datum=WGS84'
)

UTM33 = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_300_000), 900, 800)
SOUTH_UP = Grid(UTM33.crs, Affine(10, 0, 500_000, 0, 10, 5_292_000), 900, 800)
ROTATED = Grid(UTM33.crs, UTM33.transform @ Affine.rotation(30), 700, 700)
FINE = Grid(UTM33.crs, Affine(0.3, 0, 500_000, 0, -0.3, 5_300_000), 2000, 2000)
SWISS = Grid(CRS.from_epsg(2056), Affine(10, 0, 2.6e6, 0, -10, 1.2e6), 800, 800)
ALPS = Grid(CRS.from_epsg(32632), Affine(10, 0, 450_000, 0, -10, 5.2e6), 800, 800)
SOUTH = Grid(CRS.from_epsg(32719), Affine(30, 0, 300_000, 0, -30, 7e6), 800, 800)
ANTARCTIC = Grid(CRS.from_epsg(3031), Affine(500, 0, -2e5, 0, -500, 2e5), 800, 800)
ARCTIC = Grid(CRS.from_epsg(3413), Affine(100, 0, 1e6, 0, -100, -1e6), 500, 500)
DEGREES = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, 15, 0, -1e-4, 47.85), 900, 800)
DATELINE = Grid(CRS.from_epsg(4326), Affine(1e-3, 0, 179.8, 0, -1e-3, -17), 400, 300)
WORLD = Grid(CRS.from_epsg(4326), Affine(0.5, 0, -180, 0, -0.5, 90), 720, 360)

#: Largest error of a position, in pixels of the source.
PROMISED = 0.02

#: Of this an overview is read.
COARSE = (FINE, 'EPSG:3857', 30)

#: Sources, and CRS and pixel size of targets.
PAIRS = [
    (UTM33, 'EPSG:32632', 10),
    (UTM33, 'EPSG:32634', 7),
    (UTM33, 'EPSG:3857', 15),
    (UTM33, 'EPSG:4326', 1e-4),
    (UTM33, 'EPSG:3035', 10),
    (UTM33, 'EPSG:32633', 10),
    (UTM33, CUSTOM.to_wkt(), 10),
    (SOUTH_UP, 'EPSG:3035', 10),
    (ROTATED, 'EPSG:4326', 1e-4),
    (FINE, 'EPSG:32632', 0.3),
    COARSE,
    (SWISS, 'EPSG:32632', 10),
    (SWISS, 'EPSG:4326', 1e-4),
    (ALPS, 'EPSG:2056', 10),
    (SOUTH, 'EPSG:32720', 30),
    (SOUTH, 'EPSG:4326', 3e-4),
    (ANTARCTIC, 'EPSG:4326', 0.02),
    (ARCTIC, 'EPSG:4326', 1e-3),
    (ARCTIC, 'EPSG:32624', 100),
    (DEGREES, 'EPSG:32633', 10),
    (DEGREES, 'EPSG:3857', 11),
    (DATELINE, 'EPSG:32760', 100),
    (DATELINE, 'EPSG:32701', 100),
    (DATELINE, 'EPSG:3857', 100),
    (WORLD, 'EPSG:3031', 30_000),
    (WORLD, 'EPSG:3413', 30_000),
    (WORLD, 'EPSG:6933', 50_000),
    (WORLD, 'EPSG:32633', 20_000),
]


def target_of(source: Grid, crs: str, res: float, side: int = 300) -> Grid:
    """A block in the middle of a source."""
    target = CRS.from_user_input(crs)
    to_target = Transformer.from_crs(source.crs, target, always_xy=True)
    x, y = to_target.transform(
        *(source.transform @ (source.width / 2, source.height / 2))
    )
    return Grid(
        target,
        Affine(res, 0, x - res * side / 2, 0, -res, y + res * side / 2),
        side,
        side,
    )


def by_proj(source: Grid, target: Grid) -> NDArray[np.float64]:
    """Positions of all pixels as PROJ gives them, of shape (2, H, W)."""
    cols, rows = np.meshgrid(
        np.arange(target.width) + 0.5, np.arange(target.height) + 0.5
    )
    x, y = target.transform @ (cols, rows)
    to_source = Transformer.from_crs(target.crs, source.crs, always_xy=True)
    x, y = to_source.transform(x, y)
    if source.crs.is_geographic:
        middle, _ = source.transform @ (source.width / 2, source.height / 2)
        with np.errstate(invalid='ignore'):
            x = middle + (x - middle + 180) % 360 - 180
    inverse = ~source.transform
    with np.errstate(invalid='ignore'):
        return np.stack(
            [
                inverse.a * x + inverse.b * y + inverse.c,
                inverse.d * x + inverse.e * y + inverse.f,
            ]
        )


def inside(at: NDArray[np.float64], source: Grid, margin: float) -> NDArray[np.bool_]:
    limits = np.array([source.width, source.height])[:, None, None]
    return np.asarray(((at > margin) & (at < limits - margin)).all(axis=0))


def errors(positions: Positions, exact: NDArray[np.float64], source: Grid) -> float:
    there = inside(exact, source, 0)
    assert there.any()
    return float(np.hypot(*(positions.dense().numpy() - exact))[there].max())


@pytest.mark.parametrize(('source', 'crs', 'res'), PAIRS)
def test_positions_are_those_of_proj(source: Grid, crs: str, res: float) -> None:
    target = target_of(source, crs, res)
    positions = locate(source, target)
    assert errors(positions, by_proj(source, target), source) <= PROMISED


@settings(max_examples=40, deadline=None)
@given(
    zone=st.integers(1, 60),
    south=st.booleans(),
    neighbour=st.sampled_from([-1, 0, 1, None]),
    latitude=st.floats(1, 80),
    res=st.sampled_from([0.1, 10, 300]),
    coarseness=st.floats(0.3, 9),
    angle=st.floats(0, 360),
    shape=st.tuples(st.integers(1, 200), st.integers(1, 200)),
)
def test_positions_are_those_of_proj_anywhere(
    zone: int,
    south: bool,
    neighbour: int | None,
    latitude: float,
    res: float,
    coarseness: float,
    angle: float,
    shape: tuple[int, int],
) -> None:
    hemisphere = 32700 if south else 32600
    crs = CRS.from_epsg(hemisphere + zone)
    y = (-latitude if south else latitude) * 110_000 + (1e7 if south else 0)
    place = Affine.translation(650_000, y) @ Affine.rotation(angle)
    source = Grid(crs, place @ Affine.scale(res, -res), 500, 400)
    epsg = 4326 if neighbour is None else hemisphere + (zone + neighbour - 1) % 60 + 1
    size = res * coarseness / (1 if neighbour is not None else 111_000)
    block = target_of(source, f'EPSG:{epsg}', size)
    target = Grid(block.crs, block.transform, *shape)
    exact = by_proj(source, target)
    positions = locate(source, target)
    assert positions.dense().shape == (2, *target.shape)
    assert np.hypot(*(positions.dense().numpy() - exact)).max() <= PROMISED


def test_smooth_coordinates_take_few_calls_and_jumps_take_all() -> None:
    smooth = locate(UTM33, target_of(UTM33, 'EPSG:32632', 10))
    assert isinstance(smooth, Lattice)
    assert smooth.step == 64
    pole = Grid(CRS.from_epsg(3031), Affine(3e4, 0, -3e6, 0, -3e4, 3e6), 200, 200)
    assert not isinstance(locate(WORLD, pole), Lattice)


def test_a_source_is_met_on_either_side_of_the_antimeridian() -> None:
    """179.8 to 180.2 degrees, whatever turn the target counts in."""
    for west in (-180.05, 179.95):
        target = Grid(DATELINE.crs, Affine(1e-3, 0, west, 0, -1e-3, -17.1), 100, 100)
        first = locate(DATELINE, target).dense()[:, 0, 0]
        np.testing.assert_allclose(first, [150.5, 100.5], atol=1e-6)


def test_one_turn_round_the_earth_is_known() -> None:
    turns = {4326: 360, 4807: 400, 3857: 40_075_016.7, 32633: None, 3031: None}
    for epsg, turn in turns.items():
        assert period(CRS.from_epsg(epsg)) == (turn and pytest.approx(turn))


def field(height: int, width: int, bands: int = 2) -> NDArray[np.float32]:
    """Noise of variance 1."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((bands, height, width)).astype(np.float32)


@pytest.mark.parametrize(('source', 'crs', 'res'), PAIRS[:9] + PAIRS[11:16])
def test_bilinear_is_that_of_scipy_at_the_coordinates_of_proj(
    source: Grid, crs: str, res: float
) -> None:
    target = target_of(source, crs, res)
    image = field(*source.shape)
    footprint = mean_footprint(source, target)
    assert footprint.samples == (1, 1)
    rows, cols = footprint.window.toslices()
    values = torch.from_numpy(image[:, rows, cols])
    got, share = warp(values, None, footprint)
    exact = by_proj(source, target)
    there = inside(exact, source, 1)
    assert there.mean() > 0.3
    expected = [map_coordinates(band, exact[::-1] - 0.5, order=1) for band in image]
    difference = (got.numpy() - np.stack(expected))[:, there]
    assert np.abs(difference).max() < 2e-3
    np.testing.assert_allclose(share.numpy()[there], 1, atol=1e-6)


@pytest.mark.parametrize(
    ('source', 'crs', 'res'), [pair for pair in PAIRS if pair != COARSE]
)
def test_labels_are_those_of_the_pixel_that_proj_names(
    source: Grid, crs: str, res: float
) -> None:
    target = target_of(source, crs, res)
    labels = np.random.default_rng(1).integers(0, 200, source.shape, np.uint8)
    footprint = nearest_footprint(source, target)
    assert footprint.step == 1
    rows, cols = footprint.window.toslices()
    got = nearest(torch.from_numpy(labels[rows, cols]), 255, footprint.positions)
    exact = by_proj(source, target)
    there = inside(exact, source, 0)
    col, row = np.where(there, exact, 0).astype(int)
    expected = np.where(there, labels[row, col], 255)
    assert (got.numpy() == expected).mean() >= 0.999


@pytest.mark.parametrize('factor', [2, 3, 4, 8, 12])
def test_a_coarser_pixel_is_the_mean_of_the_pixels_in_it(factor: int) -> None:
    image = field(240, 240, 1)
    source = Grid(UTM33.crs, UTM33.transform, 240, 240)
    side = 240 // factor
    target = Grid(source.crs, source.transform @ Affine.scale(factor), side, side)
    footprint = mean_footprint(source, target)
    step = footprint.step
    read = image.reshape(1, 240 // step, step, 240 // step, step).mean(axis=(2, 4))
    rows, cols = footprint.window.toslices()
    got, share = warp(torch.from_numpy(read[:, rows, cols]), None, footprint)
    expected = image.reshape(1, side, factor, side, factor).mean(axis=(2, 4))
    np.testing.assert_allclose(got, expected, atol=1e-4)
    np.testing.assert_allclose(share, 1, atol=1e-6)


@pytest.mark.parametrize(
    ('res', 'step', 'samples'), [(10, 1, 1), (24, 1, 3), (90, 4, 3)]
)
def test_of_a_finer_source_no_more_is_read_than_needed(
    res: float, step: int, samples: int
) -> None:
    target = target_of(UTM33, 'EPSG:32632', res, 50)
    footprint = mean_footprint(UTM33, target)
    assert footprint.step == step
    assert footprint.samples == (samples, samples)
    assert footprint.pixels < 2.5 * (50 * samples) ** 2 + 3000


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    holes=st.floats(0, 1),
    res=st.floats(4, 45),
    crs=st.sampled_from(['EPSG:32632', 'EPSG:32633']),
)
def test_what_is_not_valid_does_not_bleed(
    seed: int, holes: float, res: float, crs: str
) -> None:
    source = Grid(UTM33.crs, UTM33.transform, 60, 50)
    target = target_of(source, crs, res, 40)
    footprint = mean_footprint(source, target)
    rows, cols = footprint.window.toslices()
    valid = np.random.default_rng(seed).random(coarser(source, footprint.step).shape)
    there = torch.from_numpy(valid[rows, cols] >= holes)
    values = torch.where(there, 7.0, torch.nan)[None]
    total, share = warp(values, there, footprint)
    assert share.min() >= 0
    assert share.max() <= 1 + 1e-5
    np.testing.assert_allclose(total[0], 7 * share, atol=1e-4)


def test_of_a_source_elsewhere_nothing_is_read() -> None:
    far = Grid(UTM33.crs, Affine(10, 0, 700_000, 0, -10, 5_300_000), 50, 50)
    assert mean_footprint(UTM33, far).is_empty
    assert nearest_footprint(UTM33, far).is_empty
    undefined = Grid(CRS.from_epsg(3035), Affine(1e9, 0, 1e12, 0, -1e9, 1e12), 9, 9)
    assert mean_footprint(UTM33, undefined).is_empty


def test_positions_far_outside_and_undefined_ones_are_outside() -> None:
    nodes = torch.tensor([[[0.5, 1e12, torch.nan, -torch.inf]], [[0.5] * 4]])
    got = bilinear(torch.ones(1, 2, 2), Positions(nodes.double(), (1, 4)))
    np.testing.assert_allclose(got[0, 0], [1, 0, 0, 0])
    labels = torch.full((2, 2), 3, dtype=torch.uint8)
    assert nearest(labels, 9, Positions(nodes.double(), (1, 4))).tolist() == [
        [3, 9, 9, 9]
    ]


def test_a_window_holds_every_position_that_is_in_the_source() -> None:
    for source, crs, res in PAIRS:
        target = target_of(source, crs, res)
        footprint: Footprint = nearest_footprint(source, target)
        coarse = coarser(source, footprint.step)
        exact = by_proj(coarse, target)
        cols, rows = exact[:, inside(exact, coarse, 0)]
        window = footprint.window
        assert window.col_off <= cols.min() and window.row_off <= rows.min()
        assert window.col_off + window.width >= cols.max()
        assert window.row_off + window.height >= rows.max()
