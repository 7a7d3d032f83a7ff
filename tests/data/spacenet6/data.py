"""Fake data of SpaceNet 6, in the layout of its archives."""

import json
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

#: Pixels of 0.5 m; tiles follow each other every 12 m, so that each overlaps the next.
SIZE, STEP, TILES = 32, 12, 12
STRIP = '20190804111224_20190804111453'
AOI = 'AOI_11_Rotterdam'
ORIGIN = 591_550, 5_748_000


def write(root: Path) -> None:
    """Write a long strip of tiles with a building of 4 x 4 m in every second one.

    HH is the easting of the pixel beyond the origin in metres, HV, VH and VV are 2, 3
    and 4; the first column of the first tile is black in radar. Red, green, blue and
    near infrared are 10, 20, 30 and 40.
    """
    base = root / 'SN6_buildings' / 'train' / 'train' / AOI
    for i in range(TILES):
        place = Affine(0.5, 0, ORIGIN[0] + STEP * i, 0, -0.5, ORIGIN[1])
        radar = _radar(STEP * i)
        if i == 0:
            radar[:, :, 0] = 0
        _tif(base, 'SAR-Intensity', i, radar, place)
        optical = np.multiply.outer([10, 20, 30, 40], np.ones((SIZE, SIZE))).astype(
            np.uint8
        )
        _tif(base, 'PS-RGB', i, optical[:3], place)
        _tif(base, 'PS-RGBNIR', i, optical, place)
        coarse = optical[:, ::2, ::2].astype(np.uint16)
        _tif(base, 'RGBNIR', i, coarse, place @ Affine.scale(2))
        _tif(base, 'PAN', i, optical[:1].astype(np.uint16), place)
        path = base / 'geojson_buildings' / f'{_name("Train", "Buildings", i)}.geojson'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_buildings(i))
    test = root / 'SN6_buildings' / 'test' / 'test_public' / AOI / 'SAR-Intensity'
    name = _name('Test_Public', 'SAR-Intensity', 99)
    place = Affine(0.5, 0, ORIGIN[0], 0, -0.5, ORIGIN[1] + 1000)
    _write(test / f'{name}.tif', _radar(0), place)


def _radar(easting: int) -> NDArray[np.float32]:
    col = np.indices((SIZE, SIZE))[1]
    constant = [np.full((SIZE, SIZE), value) for value in (2, 3, 4)]
    return np.stack([1 + easting + col / 2, *constant]).astype(np.float32)


def _buildings(i: int) -> str:
    """A building in tiles of even number, else an empty collection or an empty file."""
    if i == 1:
        return ''
    left, top = ORIGIN[0] + STEP * i + 4, ORIGIN[1] - 4
    ring = [
        (left, top), (left, top - 4), (left + 4, top - 4), (left + 4, top), (left, top),
    ]  # fmt: skip
    building = {
        'type': 'Feature',
        'properties': {'TileBuildingId': 0},
        'geometry': {'type': 'Polygon', 'coordinates': [ring]},
    }
    return json.dumps(
        {
            'type': 'FeatureCollection',
            'crs': {
                'type': 'name',
                'properties': {'name': 'urn:ogc:def:crs:EPSG::32631'},
            },
            'features': [building] if i % 2 == 0 else [],
        }
    )


def _name(split: str, product: str, i: int) -> str:
    return f'SN6_{split}_{AOI}_{product}_{STRIP}_tile_{8000 + i}'


def _tif(
    base: Path, product: str, i: int, array: NDArray[np.generic], place: Affine
) -> None:
    _write(base / product / f'{_name("Train", product, i)}.tif', array, place)


def _write(path: Path, array: NDArray[np.generic], place: Affine) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, 'w', driver='GTiff', crs='EPSG:32631', transform=place, count=len(array),
        height=array.shape[1], width=array.shape[2], dtype=array.dtype,
    ) as target:  # fmt: skip
        target.write(array)
