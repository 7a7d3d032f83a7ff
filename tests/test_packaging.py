"""The shelves stay harmless, and the tree names no machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize('folder', ['datasets', 'recipes', 'tests', 'docs'])
def test_folder_is_not_an_import_package(folder: str) -> None:
    assert not (ROOT / folder / '__init__.py').exists()


@pytest.mark.parametrize('pins', ['py311', 'py313'])
def test_constraints_are_names_and_versions_only(pins: str) -> None:
    lines = (ROOT / 'constraints' / f'{pins}.txt').read_text().splitlines()
    assert len(lines) > 50
    assert [
        line for line in lines if not re.fullmatch(r'[\w.-]+==[\w.+!]+', line)
    ] == []


@pytest.mark.parametrize(
    'module, unwanted',
    [
        ('eoseg.main', ['numpy', 'torch', 'rasterio']),
        ('eoseg.recipes', ['numpy', 'torch', 'yaml']),
        ('eoseg_datasets', ['numpy', 'torch']),
        ('eoseg_datasets.inventory', ['torch', 'torchgeo', 'geopandas']),
        ('eoseg.checkpoint', ['lightning', 'torchgeo']),
        ('eoseg.commands.predict', ['torch', 'lightning']),
    ],
)
def test_importing_stays_light(module: str, unwanted: list[str]) -> None:
    code = f'import sys, {module}; print([m for m in {unwanted} if m in sys.modules])'
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == '[]'
