"""Maps of several scenes meet on one grid without a seam."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from earth import (
    EAST,
    UTM32,
    UTM33,
    WEST,
    assemble,
    certain,
    plane,
    positions,
    probabilities,
    share_of_one,
    two_zones,
    wide,
    within,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.windows import Window
from shapely import Point, box

from eoseg.inference.map_source import MapSource
from eoseg.inference.modes import MODES, Contribution, blend, with_agreement
from eoseg.inference.target import (
    all_bounds,
    bounds_in,
    check_size,
    ground_res,
    target_grid,
)
from eoseg.inference.warp import mean_footprint, warp
from eoseg_datasets.grid import Grid
from eoseg_datasets.scene import grid_of

#: A Lambert projection that no authority has a number for.
CUSTOM = CRS.from_proj4(
    '+proj=lcc +lat_0=47 +lon_0=14 +lat_1=46 +lat_2=49 +datum=WGS84'
)


def test_one_map_on_its_own_grid_comes_back(tmp_path: Path) -> None:
    source = probabilities(tmp_path / 'a.tif', WEST)
    mosaic = assemble([source], WEST)
    with rasterio.open(source.path) as stored:
        expected = stored.read().astype(np.float32) / 254
    np.testing.assert_array_equal(mosaic.classes, expected.argmax(axis=0))
    np.testing.assert_allclose(mosaic.confidence, expected.max(axis=0), atol=1e-6)
    assert (mosaic.source == 0).all()


def test_two_zones_show_one_field(tmp_path: Path) -> None:
    sources = two_zones(tmp_path)
    target = target_grid([WEST, EAST])
    mosaic = assemble(sources, target)
    covered = mosaic.classes != 255
    assert set(np.unique(mosaic.source)) == {-1, 0, 1}
    error = np.abs(share_of_one(mosaic) - plane(*positions(target)))[covered]
    # Stored in 254 steps, and interpolated: the field bends by 0.002 within a pixel.
    assert np.quantile(error, 0.99) < 0.006
    assert error.max() < 0.02


def test_a_field_cut_into_scenes_is_the_field_mapped_whole(tmp_path: Path) -> None:
    """Without a seam: the values change across it as they do elsewhere."""
    target = target_grid([WEST, EAST], UTM32)
    whole = Grid(
        UTM32,
        target.transform @ Affine.translation(-5, -5),
        target.width + 10,
        target.height + 10,
    )
    parts = assemble(two_zones(tmp_path), target)
    one = assemble([probabilities(tmp_path / 'whole.tif', whole)], target)
    covered = parts.source >= 0
    difference = (share_of_one(parts) - share_of_one(one))[covered]
    # Interpolating one of them bends the field by up to 0.002, storing both by 0.004.
    assert np.sqrt((difference**2).mean()) < 0.002
    assert np.quantile(np.abs(difference), 0.99) < 0.006
    steps, expected = (np.abs(np.diff(share_of_one(x))) for x in (parts, one))
    between = covered[:, 1:] & covered[:, :-1]
    seam = between & (parts.source[:, 1:] != parts.source[:, :-1])
    assert seam.sum() > 50
    ratio = [steps[at].sum() / expected[at].sum() for at in (seam, between & ~seam)]
    assert ratio[0] == pytest.approx(ratio[1], rel=0.01)


def test_the_mosaic_covers_what_the_scenes_cover(tmp_path: Path) -> None:
    target = target_grid([WEST, EAST])
    mosaic = assemble(two_zones(tmp_path), target)
    np.testing.assert_array_equal(mosaic.classes == 255, mosaic.source == -1)
    for grid in (WEST, EAST):
        lon, lat = positions(grid)
        to_target = Transformer.from_crs(4326, target.crs, always_xy=True)
        x, y = to_target.transform(lon[2:-2, 2:-2], lat[2:-2, 2:-2])
        cols, rows = ~target.transform @ (x, y)
        assert (mosaic.classes[rows.astype(int), cols.astype(int)] != 255).all()


def test_nodata_does_not_bleed_into_its_neighbours(tmp_path: Path) -> None:
    bands = np.full((2, *WEST.shape), 0, np.uint8)
    bands[1] = 254
    bands[:, 30:50, 30:60] = 255
    source = write(tmp_path / 'hole.tif', WEST, bands)
    for res in (10, 23, 57):
        mosaic = assemble([source], target_grid([WEST], UTM33, res))
        assert set(np.unique(mosaic.classes)) == {1, 255}
        np.testing.assert_allclose(mosaic.confidence[mosaic.classes == 1], 1, atol=1e-4)


def test_labels_alone_are_never_averaged(tmp_path: Path) -> None:
    rows, cols = np.indices(WEST.shape)
    labels = (((rows // 7 + cols // 5) % 2)[None]).astype(np.uint8)
    other = write(tmp_path / 'b.tif', EAST, np.zeros((1, *EAST.shape), np.uint8))
    source = write(tmp_path / 'a.tif', WEST, labels)
    mosaic = assemble([source, other], target_grid([WEST, EAST]))
    assert set(np.unique(mosaic.classes)) == {0, 1, 255}


def test_labels_may_have_any_nodata(tmp_path: Path) -> None:
    labels = np.ones((1, *WEST.shape), np.uint8)
    labels[:, :, :30] = 0
    labels[:, :10] = 77  # no class of the legend
    source = write(tmp_path / 'a.tif', WEST, labels, nodata=0)
    mosaic = assemble([source], WEST)
    expected = np.where(labels[0] == 1, 1, 255)
    np.testing.assert_array_equal(mosaic.classes, expected)


def test_maps_of_any_nodata_go_together(tmp_path: Path) -> None:
    """Each has its own value where nothing is: a number, NaN, or none at all."""
    grids = [
        replace(WEST, transform=WEST.transform @ Affine.translation(30 * i, 0))
        for i in range(4)
    ]
    holes = [(255, np.uint8), (0, np.uint8), (np.nan, np.float32), (None, np.uint8)]
    sources = []
    for i, (grid, (nodata, dtype)) in enumerate(zip(grids, holes, strict=True)):
        share = plane(*positions(grid))
        stored = np.stack([1 - share, share])
        if dtype == np.uint8:
            stored = np.rint(200 * stored) + 1  # 0 is another's nodata
        if nodata is not None:
            stored[:, :40] = nodata
        scale = 1.0 if dtype == np.float32 else 1 / 202
        path = tmp_path / f'{i}.tif'
        with rasterio.open(
            path, 'w', driver='GTiff', dtype=dtype, nodata=nodata, count=2, width=90,
            height=80, crs=grid.crs, transform=grid.transform,
        ) as target:  # fmt: skip
            target.write(stored.astype(dtype))
        sources.append(MapSource(path.stem, path, grid, 2, True, nodata, scale))
    for crs in (UTM32, UTM33):
        target = target_grid(grids, crs)
        mosaic = assemble(sources, target)
        covered = mosaic.source >= 0
        assert set(np.unique(mosaic.source)) == {-1, 0, 1, 2, 3}
        # The upper half is that of the last alone.
        assert covered.sum() == pytest.approx(180 * 40 + 90 * 40, rel=0.02)
        error = np.abs(share_of_one(mosaic) - plane(*positions(target)))[covered]
        assert error.max() < 0.02


def test_a_time_series_that_overlaps_in_part_is_one_map(tmp_path: Path) -> None:
    """Dates on grids that are off by some metres, none of which covers the whole."""
    rng = np.random.default_rng(3)
    grids = [
        Grid(
            UTM32,
            WEST.transform @ Affine.translation(*rng.uniform(-25, 25, 2)),
            *rng.integers(50, 90, 2),
        )
        for _ in range(6)
    ]
    sources = [
        probabilities(tmp_path / f'{i}.tif', grid) for i, grid in enumerate(grids)
    ]
    target = target_grid(grids)
    mosaic = assemble(sources, target, mode=with_agreement(blend))
    there = np.stack([within(target, grid.bounds) for grid in grids])
    count = there.sum(axis=0)
    # Of a pixel at a corner less than half is made of the scene.
    assert (mosaic.count != count).sum() <= 6
    assert set(np.unique(count)) == set(range(7))
    covered = mosaic.count > 0
    error = np.abs(share_of_one(mosaic) - plane(*positions(target)))[covered]
    assert error.max() < 0.01
    assert (mosaic.agreement[covered] == 1).mean() > 0.98
    fresh = assemble(sources, target, mode=MODES['last'])
    last = np.where(there, np.arange(6)[:, None, None], -1).max(axis=0)
    assert (fresh.source != last).sum() <= 6


def test_the_nearer_to_its_edge_a_scene_is_the_less_it_counts(tmp_path: Path) -> None:
    shifted = Grid(UTM32, WEST.transform @ Affine.translation(60, 0), 90, 80)
    sources = [
        certain(tmp_path / 'a.tif', WEST, 0),
        certain(tmp_path / 'b.tif', shifted, 1),
    ]
    mosaic = assemble(sources, target_grid([WEST, shifted]), feather=300)
    middle = mosaic.classes[40]
    assert middle[:70].max() == 0
    assert middle[81:].min() == 1
    covered = mosaic.source >= 0
    # Distances are kept in 255ths: halfway, they may be equal.
    assert (mosaic.classes == mosaic.source)[covered].mean() > 0.999


def test_the_feather_is_in_metres_on_the_ground(tmp_path: Path) -> None:
    """In degrees at 60 north a pixel is half as wide as it is high."""
    grid = Grid(CRS.from_epsg(4326), Affine(2e-4, 0, 10, 0, -2e-4, 60), 200, 200)
    one = certain(tmp_path / 'a.tif', grid, 0)
    beside = grid.transform @ Affine.translation(100, 0)
    other = certain(tmp_path / 'b.tif', replace(grid, transform=beside), 1)
    assert ground_res(grid) == pytest.approx((11.2, 22.3), abs=0.1)
    target = Grid(grid.crs, grid.transform, 300, 200)
    for feather in (220, 440):
        row = share_of_one(assemble([one, other], target, feather))[100]
        fading = (row[100:200] < 0.499) & (row[100:200] > 0.01)
        assert fading.sum() == pytest.approx(feather / 11.16, abs=2)


@pytest.mark.parametrize(
    ('name', 'expected'), [('first', 0), ('last', 1), ('best', 1), ('blend', 1)]
)
def test_modes_choose_between_maps(tmp_path: Path, name: str, expected: int) -> None:
    sources = [
        certain(tmp_path / 'a.tif', WEST, 0, sure=150),
        certain(tmp_path / 'b.tif', WEST, 1, sure=200),
    ]
    mosaic = assemble(sources, WEST, mode=MODES[name])
    assert (mosaic.classes == expected).all()
    sure = {'first': 150, 'last': 200, 'best': 200, 'blend': (200 + 104) / 2}[name]
    np.testing.assert_allclose(mosaic.confidence, sure / 254, atol=1e-5)
    if name != 'blend':
        assert (mosaic.source == expected).all()


@pytest.mark.parametrize('name', MODES)
def test_every_mode_fills_what_one_map_lacks(tmp_path: Path, name: str) -> None:
    hole = np.full((2, *WEST.shape), 127, np.uint8)
    hole[:, 20:40] = 255
    sources = [
        write(tmp_path / 'hole.tif', WEST, hole),
        certain(tmp_path / 'b.tif', WEST, 1, sure=130),
    ]
    for ordered in (sources, sources[::-1]):
        mosaic = assemble(ordered, WEST, mode=MODES[name])
        assert (mosaic.classes[20:40] == 1).all()
        assert (mosaic.source >= 0).all()


def test_count_and_agreement_say_how_many_maps_say_the_same(tmp_path: Path) -> None:
    half = Grid(UTM32, WEST.transform, 40, 80)
    sources = [
        certain(tmp_path / 'a.tif', WEST, 1),
        certain(tmp_path / 'b.tif', half, 1),
        certain(tmp_path / 'c.tif', half, 0, sure=200),
    ]
    target = Grid(UTM32, WEST.transform, 100, 80)
    mosaic = assemble(sources, target, mode=with_agreement(blend))
    assert [mosaic.count[0, col] for col in (0, 60, 95)] == [3, 1, 0]
    np.testing.assert_allclose(mosaic.agreement[:, :40], 2 / 3)
    np.testing.assert_allclose(mosaic.agreement[:, 40:90], 1)
    assert (mosaic.agreement[:, 90:] == 0).all()
    plain = assemble(sources, target)
    np.testing.assert_array_equal(mosaic.classes, plain.classes)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_blending_does_not_depend_on_the_order(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 5))
    seed = data.draw(st.integers(0, 2**31))
    torch.manual_seed(seed)
    parts = [
        Contribution(
            i,
            torch.rand(3, 4, 5).softmax(0),
            torch.rand(4, 5) * (torch.rand(4, 5) > 0.4),
        )
        for i in range(count)
    ]
    mode = with_agreement(blend)
    one, other = mode(parts), mode(data.draw(st.permutations(parts)))
    torch.testing.assert_close(one.confidence, other.confidence)
    torch.testing.assert_close(one.count, other.count)
    covered = torch.stack([part.weight for part in parts]).sum(0) > 0
    assert torch.equal(one.source >= 0, covered)
    assert torch.equal(one.classes != 255, covered)
    assert one.confidence[covered].ge(1 / 3 - 1e-5).all()
    assert one.confidence.le(1 + 1e-5).all()


def test_the_target_is_aligned_finest_and_of_the_crs_of_most_area() -> None:
    coarse = Grid(UTM33, Affine(30, 0, 277_001, 0, -30, 5_322_009), 10, 10)
    target = target_grid([WEST, coarse])
    assert target.crs == UTM32
    assert target.res == (10, 10)
    left, bottom, right, top = target.bounds
    assert all(value % 10 == 0 for value in target.bounds)
    for grid in (WEST, coarse):
        inner = bounds_in(grid, UTM32)
        assert left <= inner[0] and bottom <= inner[1]
        assert right >= inner[2] and top >= inner[3]


def test_the_user_may_choose_crs_resolution_and_bounds() -> None:
    target = target_grid([WEST, EAST], CRS.from_epsg(3035), 25)
    assert target.crs.to_epsg() == 3035
    assert target.res == (25, 25)
    part = target_grid(
        [WEST, EAST], UTM32, 20, (718_010, 5_321_550, 718_090, 5_321_650)
    )
    assert part.bounds == (718_000, 5_321_540, 718_100, 5_321_660)


def test_bounds_without_any_map_are_refused() -> None:
    with pytest.raises(ValueError, match=r'no map reaches into 0 0 100 100 .*718003'):
        target_grid([WEST], bounds=(0, 0, 100, 100))
    with pytest.raises(ValueError, match='left, bottom, right and top'):
        target_grid([WEST], bounds=(718_900, 5_321_500, 718_100, 5_321_600))


@pytest.mark.parametrize('size', [16, 50, 512])
def test_blocks_do_not_show(tmp_path: Path, size: int) -> None:
    sources = two_zones(tmp_path)
    target = target_grid([WEST, EAST])
    whole = assemble(sources, target, size=4096)
    blocks = assemble(sources, target, size=size)
    assert (whole.classes == blocks.classes).mean() > 0.9995
    # Fading stops where no other scene reaches into a block; there it makes no difference.
    assert np.abs(whole.confidence - blocks.confidence).max() < 1e-4


@pytest.mark.parametrize('res', [22, 40, 90])
def test_blocks_do_not_show_on_a_coarser_grid(tmp_path: Path, res: float) -> None:
    source = probabilities(tmp_path / 'west.tif', WEST)
    target = target_grid([WEST], UTM33, res)
    whole = assemble([source], target, size=4096)
    blocks = assemble([source], target, size=8)
    np.testing.assert_array_equal(whole.classes == 255, blocks.classes == 255)
    assert np.abs(whole.confidence - blocks.confidence).max() < 1e-3


def test_a_block_that_needs_more_memory_than_allowed_is_made_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = two_zones(tmp_path)
    target = target_grid([WEST, EAST])
    read: list[int] = []
    original = MapSource.read

    def watched(self: MapSource, window: Window, step: int = 1) -> NDArray[Any]:
        read.append(int(window.width * window.height))
        return original(self, window, step)

    monkeypatch.setattr(MapSource, 'read', watched)
    whole = assemble(sources, target, size=512)
    largest = max(read)
    read.clear()
    parts = assemble(sources, target, size=512, memory=100_000)
    assert max(read) < largest / 3
    np.testing.assert_allclose(parts.confidence, whole.confidence, atol=1e-4)
    np.testing.assert_array_equal(parts.source == -1, whole.source == -1)


def test_of_a_coarse_mosaic_only_overviews_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid(UTM32, Affine(10, 0, 500_000, 0, -10, 5_300_000), 512, 512)
    source = probabilities(tmp_path / 'a.tif', grid)
    with rasterio.open(source.path) as stored:
        full = stored.read().astype(float)
    steps: list[tuple[int, float]] = []
    original = MapSource.read

    def watched(self: MapSource, window: Window, step: int = 1) -> NDArray[Any]:
        steps.append((step, window.width * window.height))
        return original(self, window, step)

    monkeypatch.setattr(MapSource, 'read', watched)
    target = Grid(UTM32, grid.transform @ Affine.scale(16), 32, 32)
    mosaic = assemble([source], target)
    assert steps == [(8, 64 * 64)]
    expected = full.reshape(2, 32, 16, 32, 16).mean(axis=(2, 4)) / 254
    # An overview is rounded to whole numbers.
    np.testing.assert_allclose(mosaic.confidence, expected.max(axis=0), atol=0.003)


def test_labels_on_a_coarse_grid_are_those_of_most_pixels(tmp_path: Path) -> None:
    grid = Grid(UTM32, Affine(10, 0, 500_000, 0, -10, 5_300_000), 256, 256)
    labels = np.zeros((1, 256, 256), np.uint8)
    labels[:, :, 128:] = 1
    labels[:, ::4, ::4] = 1 - labels[:, ::4, ::4]  # a sixteenth is noise
    source = write(tmp_path / 'a.tif', grid, labels)
    target = Grid(UTM32, grid.transform @ Affine.scale(8), 32, 32)
    mosaic = assemble([source], target)
    np.testing.assert_array_equal(mosaic.classes[0], [0] * 16 + [1] * 16)
    assert (mosaic.classes == mosaic.classes[0]).all()


#: Sources all over the Earth, and CRS and pixel size of the mosaic.
PLACES = {
    'south': (
        [
            Grid(CRS.from_epsg(32719), Affine(300, 0, 700_000, 0, -300, 7e6), 90, 80),
            Grid(CRS.from_epsg(32720), Affine(300, 0, 130_000, 0, -300, 7e6), 90, 80),
        ],
        None,
        None,
    ),
    'south-up': (
        [
            Grid(UTM32, Affine(300, 0, 500_000, 0, 300, 5.2e6), 90, 80),
            Grid(UTM32, Affine(300, 0, 515_000, 0, -300, 5.22e6), 90, 80),
        ],
        'EPSG:3035',
        300,
    ),
    'rotated': (
        [
            Grid(
                UTM32,
                Affine.translation(500_000, 5.2e6)
                @ Affine.rotation(angle)
                @ Affine.scale(300, -300),
                90,
                80,
            )
            for angle in (30, 200)
        ],
        'EPSG:3857',
        400,
    ),
    'custom': (
        [Grid(CUSTOM, Affine(300, 0, 0, 0, -300, 1e5), 90, 80)],
        'EPSG:4326',
        0.003,
    ),
    'to custom': (
        [Grid(UTM33, Affine(300, 0, 4e5, 0, -300, 5.3e6), 90, 80)],
        CUSTOM.to_wkt(),
        300,
    ),
    'swiss': (
        [Grid(CRS.from_epsg(32632), Affine(300, 0, 4e5, 0, -300, 5.2e6), 90, 80)],
        'EPSG:2056',
        300,
    ),
    'antarctic': (
        [
            Grid(CRS.from_epsg(3031), Affine(3e4, 0, -1.3e6, 0, -3e4, 1.2e6), 90, 80),
        ],
        'EPSG:4326',
        0.3,
    ),
    'onto the pole': (
        [Grid(CRS.from_epsg(4326), Affine(0.5, 0, -180, 0, -0.5, -60), 720, 60)],
        'EPSG:3031',
        6e4,
    ),
    'arctic': (
        [
            Grid(CRS.from_epsg(32624), Affine(300, 0, 4e5, 0, -300, 8.2e6), 90, 80),
            Grid(CRS.from_epsg(32625), Affine(300, 0, 3e5, 0, -300, 8.2e6), 90, 80),
        ],
        'EPSG:3413',
        300,
    ),
    'antimeridian': (
        [
            Grid(CRS.from_epsg(32660), Affine(300, 0, 800_000, 0, -300, 7e6), 90, 80),
            Grid(CRS.from_epsg(32601), Affine(300, 0, 190_000, 0, -300, 7e6), 90, 80),
        ],
        'EPSG:4326',
        0.003,
    ),
    'antimeridian in metres': (
        [
            Grid(CRS.from_epsg(32660), Affine(300, 0, 800_000, 0, -300, 7e6), 90, 80),
            Grid(CRS.from_epsg(32601), Affine(300, 0, 190_000, 0, -300, 7e6), 90, 80),
        ],
        'EPSG:3857',
        600,
    ),
    'antimeridian from degrees': (
        [
            Grid(CRS.from_epsg(4326), Affine(0.004, 0, west, 0, -0.004, -17), 90, 80)
            for west in (179.7, -180.05)
        ],
        'EPSG:32701',
        400,
    ),
}


@pytest.mark.parametrize('place', PLACES)
def test_the_field_is_shown_everywhere_on_earth(tmp_path: Path, place: str) -> None:
    grids, crs, res = PLACES[place]
    sources = [
        probabilities(tmp_path / f'{i}.tif', grid, wide) for i, grid in enumerate(grids)
    ]
    target = target_grid(grids, crs and CRS.from_user_input(crs), res)
    assert target.width * target.height < 500_000
    mosaic = assemble(sources, target, feather=3000, size=128)
    covered = mosaic.source >= 0
    assert set(np.unique(mosaic.source[covered])) == set(range(len(grids)))
    # Nothing is lost: the area covered is no less than that of the largest scene.
    across, down = ground_res(target)
    if place not in ('antarctic', 'onto the pole', 'antimeridian in metres'):
        areas = [np.prod(ground_res(grid)) * grid.width * grid.height for grid in grids]
        assert 0.97 * max(areas) < covered.sum() * across * down < 1.03 * sum(areas)
    error = np.abs(share_of_one(mosaic) - wide(*positions(target)))[covered]
    assert np.quantile(error, 0.99) < 0.01
    assert error.max() < 0.03


def test_a_pole_has_no_hole_and_no_seam(tmp_path: Path) -> None:
    grid, crs, res = PLACES['onto the pole'][0][0], CRS.from_epsg(3031), 6e4
    source = probabilities(tmp_path / 'a.tif', grid, wide)
    mosaic = assemble([source], target_grid([grid], crs, res), size=32)
    rows, cols = (
        np.indices(mosaic.classes.shape)
        - np.array(mosaic.classes.shape).reshape(2, 1, 1) / 2
    )
    near = np.hypot(rows + 0.5, cols + 0.5) * res < 3e6
    # But for the meridian at which the source begins and ends, half a pixel wide.
    assert (mosaic.source[near] == 0).mean() > 0.999


def test_a_mosaic_over_the_antimeridian_is_narrow() -> None:
    grids = PLACES['antimeridian'][0]
    target = target_grid(grids, CRS.from_epsg(4326))
    left, _, right, _ = target.bounds
    assert left < 180 < right < left + 8
    assert target_grid(grids, CRS.from_epsg(3857)).bounds[2] > 20_037_508


def test_a_pole_belongs_to_the_bounds_in_degrees() -> None:
    grid = PLACES['antarctic'][0][0]
    left, bottom, right, top = bounds_in(grid, CRS.from_epsg(4326))
    assert (left, bottom, right) == (-180, -90, 180)
    assert -80 < top < -70


def test_a_map_of_the_world_ends_where_mercator_is_square() -> None:
    world = Grid(CRS.from_epsg(4326), Affine(1, 0, -180, 0, -1, 90), 360, 180)
    bounds = bounds_in(world, CRS.from_epsg(3857))
    np.testing.assert_allclose(np.abs(bounds), 20_037_508.34, rtol=1e-9)
    assert bounds_in(world, CRS.from_epsg(4258)) == pytest.approx((-180, -90, 180, 90))


@settings(max_examples=60, deadline=None)
@given(
    lefts=st.lists(st.floats(-180, 180), min_size=1, max_size=6),
    width=st.floats(0.01, 40),
    turns=st.integers(-1, 1),
)
def test_bounds_together_are_no_wider_than_the_widest_gap_leaves(
    lefts: list[float], width: float, turns: int
) -> None:
    degrees = CRS.from_epsg(4326)
    res = width / 10
    grids = [
        Grid(degrees, Affine(res, 0, left + 360 * turns, 0, -res, 10), 10, 5)
        for left in lefts
    ]
    boxes = all_bounds(grids, degrees)
    for extent, left in zip(boxes, lefts, strict=True):
        turn = (extent[0] - left) / 360
        assert turn == pytest.approx(round(turn), abs=1e-6)
        assert extent[2] - extent[0] == pytest.approx(width)
    span = max(extent[2] for extent in boxes) - min(extent[0] for extent in boxes)
    around = np.sort(np.mod(lefts, 360))
    gaps = np.diff([*around, around[0] + 360])
    assert span <= 360 - max(gaps) + width + 1e-6
    assert -180 - 1e-6 <= min(extent[0] for extent in boxes) < 180 + 1e-6


def test_scenes_west_and_east_of_greenwich_stay_where_they_are() -> None:
    degrees = CRS.from_epsg(4326)
    grids = [
        Grid(degrees, Affine(0.01, 0, west, 0, -0.01, 50), 100, 100)
        for west in (-10, 0, 170)
    ]
    lefts = [box[0] for box in all_bounds(grids, degrees)]
    np.testing.assert_allclose(lefts, [-10, 0, 170])


def test_a_fine_scene_and_a_coarse_one_go_together(tmp_path: Path) -> None:
    fine = Grid(UTM32, Affine(0.3, 0, 500_600, 0, -0.3, 5_299_500), 300, 300)
    coarse = Grid(UTM32, Affine(30, 0, 500_000, 0, -30, 5_300_000), 40, 40)
    sources = [
        probabilities(tmp_path / 'fine.tif', fine),
        probabilities(tmp_path / 'coarse.tif', coarse, lambda lon, lat: 0 * lon + 0.9),
    ]
    bounds = 500_550, 5_299_380, 500_720, 5_299_520
    target = target_grid([fine, coarse], bounds=bounds)
    assert target.res == pytest.approx((0.3, 0.3))
    mosaic = assemble(sources, target, feather=5)
    assert (mosaic.source >= 0).all()
    assert {0, 1} == set(np.unique(mosaic.source))
    left, bottom, right, top = fine.bounds
    inside = within(target, (left + 6, bottom + 6, right - 6, top - 6))
    outside = ~within(target, (left - 1, bottom - 1, right + 1, top + 1))
    share = share_of_one(mosaic)
    np.testing.assert_allclose(share[outside], 0.9, atol=0.003)
    # Far from the edges of both they count the same.
    expected = (plane(*positions(target)) + 0.9) / 2
    np.testing.assert_allclose(share[inside], expected[inside], atol=0.01)
    small = target_grid([fine, coarse], res=30)
    assert small.res == (30, 30)
    assert (assemble(sources, small, feather=60).source >= 0).sum() in range(1599, 1682)


def test_outside_of_an_area_there_is_nothing_and_nothing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = probabilities(tmp_path / 'a.tif', WEST)
    target = target_grid([WEST], UTM32)
    left, bottom, _, _ = target.bounds
    area = Point(left + 200, bottom + 200).buffer(95)
    reads: list[Window] = []
    original = MapSource.read

    def watched(self: MapSource, window: Window, step: int = 1) -> NDArray[Any]:
        reads.append(window)
        return original(self, window, step)

    monkeypatch.setattr(MapSource, 'read', watched)
    whole = assemble([source], target, size=16)
    assert len(reads) == 36
    reads.clear()
    part = assemble([source], target, size=16, area=area)
    assert 0 < len(reads) <= 9
    x, y = target.transform @ np.meshgrid(np.arange(91) + 0.5, np.arange(81) + 0.5)
    inside = np.hypot(x - left - 200, y - bottom - 200) < 94
    assert (part.classes[inside] == whole.classes[inside]).all()
    outside = np.hypot(x - left - 200, y - bottom - 200) > 96
    assert (part.source[outside] == -1).all()
    assert (part.classes[outside] == 255).all()


def test_scenes_on_two_sides_of_the_earth_are_refused_with_advice() -> None:
    far = Grid(
        CRS.from_epsg(32750), Affine(0.1, 0, 500_000, 0, -0.1, 9_000_000), 50, 50
    )
    grids = [WEST, far]
    with pytest.raises(ValueError, match=r'too far apart for one mosaic.*--no-mosaic'):
        check_size(target_grid(grids), grids)


def test_a_resolution_that_is_absurd_is_refused_with_the_size() -> None:
    target = target_grid([WEST], res=0.01)
    size = rf'{target.width} x {target.height} px \(7.* GB .* 0.01.*--force'
    with pytest.raises(ValueError, match=size):
        check_size(target, [WEST])
    check_size(target_grid([WEST], res=1), [WEST])


def test_a_crs_that_is_not_on_earth_is_refused() -> None:
    local = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    grid = Grid(local, Affine(1, 0, 0, 0, -1, 10), 10, 10)
    with pytest.raises(ValueError, match=r'nothing leads from .* to EPSG:32632'):
        target_grid([WEST, grid], UTM32)
    assert target_grid([grid]).shape == (10, 10)


def test_an_area_bounds_what_the_mosaic_shows(tmp_path: Path) -> None:
    source = probabilities(tmp_path / 'a.tif', WEST)
    left, bottom, right, top = WEST.bounds
    area = box(left + 100, bottom + 100, right - 100, top - 100)
    mosaic = assemble([source], WEST, area=area)
    assert (mosaic.source >= 0).sum() == 70 * 60


def bands_of(path: Path, nodata: int | None = None) -> MapSource:
    """An image, its bands as if they were probabilities of classes."""
    with rasterio.open(path) as source:
        return MapSource(
            path.stem, path, grid_of(source), source.count, True, nodata, 1 / 255
        )


@pytest.mark.real_data
def test_a_scene_in_metres_lies_on_its_copy_in_degrees(data: Path) -> None:
    folder = data / 'scenes_landsat8_montreal_overlap'
    metres, degrees = (bands_of(folder / f'mosaic_cog{i}.tif', 0) for i in (2, 3))
    footprint = mean_footprint(metres.grid, degrees.grid)
    stored = metres.read(footprint.window, footprint.step)
    valid = torch.from_numpy(metres.valid(stored[0]))
    total, share = warp(torch.from_numpy(stored).float(), valid, footprint)
    copy = degrees.read(Window(0, 0, degrees.grid.width, degrees.grid.height))[0]
    both = (share.numpy() > 0.99) & (copy != 0)

    def likeness(down: int, right: int) -> float:
        moved = np.roll(total[0].numpy(), (down, right), (0, 1))
        return float(np.corrcoef(moved[both], copy[both])[0, 1])

    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    assert max(shifts, key=lambda shift: likeness(*shift)) == (0, 0)
    assert likeness(0, 0) > 0.75


@pytest.mark.real_data
def test_tiles_of_an_orthophoto_are_the_whole(data: Path) -> None:
    folder = data / 'scenes_zurich_25tiles'
    whole = bands_of(folder / 'whole.tif')
    tiles = [bands_of(folder / 'tiles' / f'1091-322_{i:02}.tif') for i in range(25)]
    mosaic = assemble(tiles, whole.grid, feather=5, size=512)
    covered = mosaic.source >= 0
    assert covered.sum() == 600 * 175  # five of them lie in it
    expected = whole.read(Window(0, 0, 875, 600)).max(axis=0) / 255
    difference = np.abs(mosaic.confidence - expected)[covered] * 255
    assert difference.mean() < 1.5  # both are JPEG


@pytest.mark.real_data
def test_dates_on_shifted_grids_fill_one_grid(data: Path) -> None:
    paths = sorted((data / 'scenes_naip_northdakota').glob('*.tif'))
    dates = [bands_of(path, 0) for path in paths]
    target = target_grid([date.grid for date in dates])
    assert all(value % 5 == 0 for value in target.bounds)
    mosaic = assemble(dates, target, feather=100, mode=with_agreement(blend), size=512)
    assert (mosaic.source >= 0).mean() > 0.998
    assert set(np.unique(mosaic.source[mosaic.source >= 0])) == set(range(len(dates)))
    assert (mosaic.count == len(dates)).mean() > 0.9
