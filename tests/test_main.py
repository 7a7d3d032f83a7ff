"""The front door: quick, and clear about what it does not understand."""

import subprocess
import sys
from pathlib import Path

import pytest

from eoseg.main import COMMANDS, main


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['--help']) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


def test_without_a_command_it_is_called_wrongly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 2
    assert 'usage' in capsys.readouterr().out


def test_a_mistyped_command_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['pedict']) == 2
    assert 'Did you mean predict?' in capsys.readouterr().err


def test_recipes_are_listed_with_what_they_are_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(['recipes', 'list']) == 0
    assert 'scenes-ktda      KTDA on a folder' in capsys.readouterr().out


def test_an_unknown_recipe_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['recipes', 'show', 'nothing']) == 2
    message = capsys.readouterr().err
    assert "No recipe named 'nothing'. Recipes are: " in message
    assert 'Traceback' not in message


def test_a_recipe_is_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['recipes', 'copy', 'scenes-ktda', str(tmp_path)]) == 0
    assert (tmp_path / 'scenes_ktda' / 'fit.yaml').is_file()
    assert main(['recipes', 'copy', 'scenes-ktda', str(tmp_path)]) == 1
    assert 'exists' in capsys.readouterr().err


@pytest.mark.parametrize('words', [['--help'], ['recipes', 'list'], ['pedict']])
def test_the_light_commands_import_nothing_heavy(words: list[str]) -> None:
    code = (
        'import sys; from eoseg.main import main; '
        f'main({words}); assert not {{"torch", "numpy", "rasterio"}} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)
