"""Maps of several scenes meet on one grid without a seam."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS

from eoseg.inference.mosaic import MapSource, bounds_in, mosaic_blocks, target_grid
from eoseg_datasets.grid import Grid

UTM32, UTM33 = CRS.from_epsg(32632), CRS.from_epsg(32633)
#: At 12 degrees east, where the two zones meet.
WEST = Grid(UTM32, Affine(10, 0, 718_003, 0, -10, 5_322_007), 90, 80)
EAST = Grid(UTM33, Affine(10, 0, 277_001, 0, -10, 5_322_009), 90, 80)

Field = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def plane(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth in the ground, from 0 to 1 over the two scenes."""
    return np.asarray(0.5 + 0.4 * np.sin((lon - 12) * 400) * np.cos((lat - 48) * 500))


def positions(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cols, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    t = grid.transform
    x, y = t.c + t.a * cols, t.f + t.e * rows
    lon, lat = Transformer.from_crs(grid.crs, 4326, always_xy=True).transform(x, y)
    return lon, lat


def write(path: Path, grid: Grid, bands: NDArray[np.uint8]) -> MapSource:
    with rasterio.open(
        path, 'w', driver='GTiff', dtype='uint8', nodata=255, count=len(bands),
        width=grid.width, height=grid.height, crs=grid.crs, transform=grid.transform,
    ) as target:  # fmt: skip
        target.write(bands)
    return MapSource(path.stem, path, grid, 2, has_probabilities=len(bands) == 2)


def probabilities(path: Path, grid: Grid, field: Field = plane) -> MapSource:
    share = np.rint(254 * field(*positions(grid)))
    return write(path, grid, np.stack([254 - share, share]).astype(np.uint8))


def assemble(
    sources: list[MapSource], target: Grid, feather: float = 16, size: int = 64
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int_]]:
    classes = np.full(target.shape, 99, np.uint8)
    confidence = np.full(target.shape, np.nan, np.float32)
    source = np.full(target.shape, -9)
    for block in mosaic_blocks(sources, target, feather, size):
        place = block.window.toslices()
        assert (classes[place] == 99).all()  # every pixel once
        classes[place], confidence[place] = block.classes, block.confidence
        source[place] = block.source
    return classes, confidence, source


def two_zones(folder: Path) -> list[MapSource]:
    """One field, seen by scenes in two UTM zones."""
    return [
        probabilities(folder / 'west.tif', WEST),
        probabilities(folder / 'east.tif', EAST),
    ]


def test_one_map_on_its_own_grid_comes_back(tmp_path: Path) -> None:
    source = probabilities(tmp_path / 'a.tif', WEST)
    classes, confidence, index = assemble([source], WEST)
    with rasterio.open(source.path) as stored:
        expected = stored.read().astype(np.float32) / 254
    np.testing.assert_array_equal(classes, expected.argmax(axis=0))
    np.testing.assert_allclose(confidence, expected.max(axis=0), atol=1e-6)
    assert (index == 0).all()


def test_two_zones_show_one_field_without_a_seam(tmp_path: Path) -> None:
    sources = two_zones(tmp_path)
    target = target_grid([WEST, EAST])
    classes, confidence, index = assemble(sources, target)
    covered = classes != 255
    assert set(np.unique(index)) == {-1, 0, 1}
    share = np.where(classes == 1, confidence, 1 - confidence)
    # Warped by bilinear interpolation and stored in 254 steps.
    assert np.abs(share - plane(*positions(target)))[covered].max() < 0.02


def test_the_mosaic_covers_what_the_scenes_cover(tmp_path: Path) -> None:
    sources = two_zones(tmp_path)
    target = target_grid([WEST, EAST])
    classes, _, index = assemble(sources, target)
    np.testing.assert_array_equal(classes == 255, index == -1)
    for grid in (WEST, EAST):
        lon, lat = positions(grid)
        to_target = Transformer.from_crs(4326, target.crs, always_xy=True)
        x, y = to_target.transform(lon[2:-2, 2:-2], lat[2:-2, 2:-2])
        cols, rows = ~target.transform @ (x, y)
        assert (classes[rows.astype(int), cols.astype(int)] != 255).all()


def test_nodata_does_not_bleed_into_its_neighbours(tmp_path: Path) -> None:
    bands = np.full((2, *WEST.shape), 0, np.uint8)
    bands[1] = 254
    bands[:, 30:50, 30:60] = 255
    source = write(tmp_path / 'hole.tif', WEST, bands)
    target = target_grid([WEST], crs=UTM33)
    classes, confidence, _ = assemble([source], target)
    assert set(np.unique(classes)) == {1, 255}
    np.testing.assert_allclose(confidence[classes == 1], 1, atol=1e-4)


def test_labels_alone_are_never_averaged(tmp_path: Path) -> None:
    rows, cols = np.indices(WEST.shape)
    labels = (((rows // 7 + cols // 5) % 2)[None]).astype(np.uint8)
    other = write(tmp_path / 'b.tif', EAST, np.zeros((1, *EAST.shape), np.uint8))
    source = write(tmp_path / 'a.tif', WEST, labels)
    classes, _, _ = assemble([source, other], target_grid([WEST, EAST]))
    assert set(np.unique(classes)) == {0, 1, 255}


def test_the_nearer_to_its_edge_a_scene_is_the_less_it_counts(tmp_path: Path) -> None:
    shifted = Grid(UTM32, WEST.transform @ Affine.translation(60, 0), 90, 80)
    zero = write(
        tmp_path / 'a.tif',
        WEST,
        np.stack([np.full(WEST.shape, v, np.uint8) for v in (254, 0)]),
    )
    one = write(
        tmp_path / 'b.tif',
        shifted,
        np.stack([np.full(WEST.shape, v, np.uint8) for v in (0, 254)]),
    )
    classes, _, index = assemble([zero, one], target_grid([WEST, shifted]), feather=30)
    middle = classes[40]
    assert middle[:70].max() == 0
    assert middle[81:].min() == 1
    covered = index >= 0
    np.testing.assert_array_equal(classes[covered], index[covered])


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


def test_the_user_may_choose_crs_and_resolution() -> None:
    target = target_grid([WEST, EAST], CRS.from_epsg(3035), 25)
    assert target.crs.to_epsg() == 3035
    assert target.res == (25, 25)


@pytest.mark.parametrize('size', [16, 50, 512])
def test_blocks_do_not_show(tmp_path: Path, size: int) -> None:
    sources = two_zones(tmp_path)
    target = target_grid([WEST, EAST])
    whole, sure, _ = assemble(sources, target, size=4096)
    classes, confidence, _ = assemble(sources, target, size=size)
    assert (whole == classes).mean() > 0.9995
    # GDAL approximates the warp of each block to an eighth of a pixel.
    assert np.abs(sure - confidence).max() < 0.02


def test_blocks_do_not_show_on_a_coarser_grid(tmp_path: Path) -> None:
    source = probabilities(tmp_path / 'west.tif', WEST)
    target = target_grid([WEST], UTM33, 40)
    whole, sure, _ = assemble([source], target, size=4096)
    classes, confidence, _ = assemble([source], target, size=8)
    np.testing.assert_array_equal(whole == 255, classes == 255)
    # GDAL approximates the warp of each block to an eighth of a source pixel.
    assert np.abs(sure - confidence).max() < 0.02


def test_scenes_on_two_sides_of_the_earth_are_refused_with_advice() -> None:
    far = Grid(
        CRS.from_epsg(32750), Affine(0.1, 0, 500_000, 0, -0.1, 9_000_000), 50, 50
    )
    with pytest.raises(ValueError, match=r'too far apart for one mosaic.*--no-mosaic'):
        target_grid([WEST, far])
