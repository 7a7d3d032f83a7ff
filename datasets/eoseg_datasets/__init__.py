"""Datasets for any TorchGeo project."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bijie_landslide import BijieLandslide
    from .census import take_census
    from .compat import stack_samples
    from .dfc2020 import DFC2020
    from .grass import Grass
    from .index import scene_table
    from .l8_biome_cloud_patches import L8BiomeCloudPatches
    from .l8_biome_clouds import L8BiomeClouds
    from .landslide4sense import Landslide4Sense
    from .loveda import LoveDA
    from .pairs import paired
    from .potsdam import Potsdam
    from .radar import RadarOpticalFolder
    from .samplers import GridSceneSampler, RandomSceneSampler
    from .scene import ScenePatch
    from .scene_dataset import NonGeoScenes, SceneDataset
    from .scene_folder import SceneFolder
    from .sen12ms import SEN12MS
    from .spacenet6 import SpaceNet6
    from .splits import split_scenes
    from .stretch import MinMaxStretch
    from .vaihingen import Vaihingen
    from .web_tiles import WebTiles

__all__ = [
    'DFC2020',
    'SEN12MS',
    'BijieLandslide',
    'Grass',
    'GridSceneSampler',
    'L8BiomeCloudPatches',
    'L8BiomeClouds',
    'Landslide4Sense',
    'LoveDA',
    'MinMaxStretch',
    'NonGeoScenes',
    'Potsdam',
    'RadarOpticalFolder',
    'RandomSceneSampler',
    'SceneDataset',
    'SceneFolder',
    'ScenePatch',
    'SpaceNet6',
    'Vaihingen',
    'WebTiles',
    'paired',
    'scene_table',
    'split_scenes',
    'stack_samples',
    'take_census',
]

_MODULES = {
    'BijieLandslide': 'bijie_landslide',
    'DFC2020': 'dfc2020',
    'Grass': 'grass',
    'GridSceneSampler': 'samplers',
    'L8BiomeCloudPatches': 'l8_biome_cloud_patches',
    'L8BiomeClouds': 'l8_biome_clouds',
    'Landslide4Sense': 'landslide4sense',
    'LoveDA': 'loveda',
    'MinMaxStretch': 'stretch',
    'NonGeoScenes': 'scene_dataset',
    'Potsdam': 'potsdam',
    'RadarOpticalFolder': 'radar',
    'RandomSceneSampler': 'samplers',
    'SEN12MS': 'sen12ms',
    'SceneDataset': 'scene_dataset',
    'SceneFolder': 'scene_folder',
    'ScenePatch': 'scene',
    'SpaceNet6': 'spacenet6',
    'Vaihingen': 'vaihingen',
    'paired': 'pairs',
    'WebTiles': 'web_tiles',
    'scene_table': 'index',
    'split_scenes': 'splits',
    'take_census': 'census',
    'stack_samples': 'compat',
}


# On first use: TorchGeo takes ten seconds to import, and the readers beside it (scenes,
# grids, labels) serve commands that do without it.
def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{_MODULES[name]}', __name__), name)
