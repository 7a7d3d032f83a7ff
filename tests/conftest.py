"""Tiny scenes that many tests read."""

import os
from pathlib import Path
from typing import Any

# As the command line does it: threads that wait by spinning stop each other on a busy
# machine. Before torch is imported.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
# Deprecations of jsonargparse 5 in Lightning 2.6, see eoseg.commands.fit.
os.environ.setdefault('JSONARGPARSE_DEPRECATION_WARNINGS', 'off')

import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from tiny import WriteRaster


@pytest.fixture(autouse=True, scope='session')
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the tests' own, not that of the user."""
    folder = tmp_path_factory.mktemp('cache')
    os.environ['EOSEG_CACHE'] = str(folder)
    return folder


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    """Write a GeoTIFF below the temporary folder of the test."""

    def write(
        name: str,
        array: NDArray[Any],
        crs: str | None = 'EPSG:32632',
        transform: Affine | None = None,
        bands: tuple[str, ...] = (),
        **profile: Any,
    ) -> Path:
        array = array if array.ndim == 3 else array[None]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        place = transform or Affine(10, 0, 600_000, 0, -10, 5_300_000)
        with rasterio.open(
            path, 'w', driver='GTiff', crs=crs, transform=place, count=len(array),
            height=array.shape[1], width=array.shape[2], dtype=array.dtype, **profile,
        ) as target:  # fmt: skip
            target.write(array)
            if bands:
                target.descriptions = bands
        return path

    return write


@pytest.fixture
def data() -> Path:
    """Folder of real scenes and weights, outside the repository."""
    beside = Path(__file__).parents[2] / 'shared' / 'data'
    folder = Path(os.environ.get('EOSEG_DATA', beside))
    if not folder.is_dir():
        pytest.skip(f'no real data: {folder} does not exist (set EOSEG_DATA)')
    return folder
