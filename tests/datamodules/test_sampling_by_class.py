"""Patches are drawn by the labels that are asked for, not by others of the same file."""

from collections.abc import Mapping
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from shapely import box
from tiny import WriteRaster, ramp

from eoseg.datamodules.scenes import Part, SceneDataModule, Use, whole
from eoseg_datasets.classes import Classes
from eoseg_datasets.labels import Labels, RasterLabels, VectorLabels
from eoseg_datasets.scene import Scene, open_scene
from eoseg_datasets.scene_dataset import SceneDataset

CLASSES = Classes.named(['background', 'wood', 'water'])


class OneScene(SceneDataModule):
    """A scene to learn from."""

    def __init__(self, scene: Scene, labels: Labels) -> None:
        super().__init__('.', patch_size=16, sampling='balanced')
        self.part = whole(SceneDataset([scene], [labels], CLASSES))

    @property
    def parts(self) -> Mapping[Use, Part]:
        return {'train': self.part}


@pytest.fixture
def scene(
    write_raster: WriteRaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    monkeypatch.setenv('EOSEG_CACHE', str(tmp_path / 'cache'))
    return open_scene(write_raster('images/a.tif', ramp(1, 32, 32)))


def drawn(scene: Scene, labels: Labels) -> list[int]:
    """Rows of the boxes that patches are drawn from."""
    module = OneScene(scene, labels)
    density = module._density(module.part)
    assert density is not None
    return sorted(set(density.box[:, 0].tolist()))


def test_another_column_is_another_census(scene: Scene, tmp_path: Path) -> None:
    left, _, right, top = scene.grid.bounds
    path = tmp_path / 'a.gpkg'
    gpd.GeoDataFrame(
        {'now': ['wood'], 'then': [None]},
        geometry=[box(left, top - 160, right, top)],
        crs=scene.grid.crs,
    ).to_file(path, engine='pyogrio')
    assert drawn(scene, VectorLabels(path, 'now', CLASSES)) == [0, 16]
    assert drawn(scene, VectorLabels(path, 'then', CLASSES)) == [16]


def test_another_meaning_of_the_values_is_another_census(
    scene: Scene, write_raster: WriteRaster
) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[16:] = 1
    path = write_raster('labels/a.tif', mask)
    upper = RasterLabels(path, CLASSES, {0: 1, 1: 255})
    lower = RasterLabels(path, CLASSES, {0: 255, 1: 1})
    assert drawn(scene, upper) == [0]
    assert drawn(scene, lower) == [16]
