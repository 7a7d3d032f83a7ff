"""Data modules: what a task is trained, validated and tested on."""

from .bijie_landslide import BijieLandslideDataModule
from .dfc2020 import DFC2020DataModule
from .domain_pair import DomainPairDataModule
from .grass import GrassDataModule
from .l8_biome_cloud_patches import (
    L8BiomeCloudPatchesBySceneDataModule,
    L8BiomeCloudPatchesDataModule,
)
from .l8_biome_clouds import L8BiomeCloudsDataModule
from .landslide4sense import Landslide4SenseDataModule
from .loveda import LoveDADataModule
from .potsdam import PotsdamDataModule
from .radar_optical import RadarOpticalDataModule
from .scene_folder import SceneFolderDataModule
from .sen12ms import SEN12MSDataModule
from .spacenet6 import SpaceNet6DataModule
from .vaihingen import VaihingenDataModule
from .web_tiles import WebTilesDataModule

__all__ = [
    'BijieLandslideDataModule',
    'DFC2020DataModule',
    'DomainPairDataModule',
    'GrassDataModule',
    'L8BiomeCloudPatchesBySceneDataModule',
    'L8BiomeCloudPatchesDataModule',
    'L8BiomeCloudsDataModule',
    'Landslide4SenseDataModule',
    'LoveDADataModule',
    'PotsdamDataModule',
    'RadarOpticalDataModule',
    'SEN12MSDataModule',
    'SceneFolderDataModule',
    'SpaceNet6DataModule',
    'VaihingenDataModule',
    'WebTilesDataModule',
]
