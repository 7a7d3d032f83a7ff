"""Arguments of data modules on the command line."""

import json
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from eoseg import datamodules
from eoseg.datamodules.scenes import SceneDataModule


@pytest.mark.parametrize(
    ('module', 'option', 'value'),
    [
        (datamodules.SEN12MSDataModule, 'seasons', ['fall']),
        (datamodules.DFC2020DataModule, 'download', True),
        (datamodules.SpaceNet6DataModule, 'optical', 'PAN'),
        (datamodules.BijieLandslideDataModule, 'non_landslide', True),
        (datamodules.Landslide4SenseDataModule, 'num_workers', 2),
        (datamodules.GrassDataModule, 'download', True),
        (datamodules.PotsdamDataModule, 'labels', 'eroded'),
        (datamodules.VaihingenDataModule, 'division', 'adaptation'),
        (datamodules.LoveDADataModule, 'scene', ['rural']),
        (datamodules.L8BiomeCloudsDataModule, 'fill', 'clear'),
        (datamodules.L8BiomeCloudPatchesBySceneDataModule, 'download', True),
        (datamodules.SceneFolderDataModule, 'class_field', 'kind'),
        (datamodules.WebTilesDataModule, 'class_field', 'kind'),
    ],
)
def test_own_and_shared_arguments_are_options_of_the_command_line(
    module: type[SceneDataModule], option: str, value: Any
) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(module, 'data')
    given = {option: value, 'sampling': 'balanced', 'bands': ['a', 'b'], 'seed': 3}
    words = [f'--data.{name}={json.dumps(x)}' for name, x in given.items()]
    words = [word.replace('"', '') for word in words]
    parsed = parser.parse_args(['--data.root=.', *words]).data
    assert {name: parsed[name] for name in given} == given
