"""`eoseg datasets` answers from the docstrings, without importing TorchGeo."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny import write_fake

import eoseg_datasets
from eoseg.main import main


def test_the_list_has_every_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['datasets', 'list']) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0] for line in lines}
    public = set(eoseg_datasets.__all__)
    assert {'Grass', 'SceneFolder', 'WebTiles'} <= listed
    assert listed <= public
    assert all(line.endswith('.') for line in lines)


def test_info_is_the_docstring_in_plain_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(['datasets', 'info', 'Grass']) == 0
    out = capsys.readouterr().out
    assert 'middle-low' in out and 'CC BY-NC 4.0' in out
    assert '``' not in out and ':class:' not in out and 'code-block' not in out


def test_the_list_says_what_patches_of_clouds_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(['datasets', 'list'])
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith('L8BiomeCloudPatches ')]
    assert 'Landsat 8' in line


def test_info_shows_links_and_units_without_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(['datasets', 'info', 'SpaceNet6']) == 0
    assert main(['datasets', 'info', 'Landslide4Sense']) == 0
    out = capsys.readouterr().out
    assert 'SpaceNet 6 (https://spacenet.ai/sn6-challenge/) has' in out
    assert 'Landslide4Sense (https://github.com/' in out
    assert '120 km2' in out
    assert '`' not in out and '\\' not in out


@pytest.mark.parametrize('action', ['info', 'prepare'])
def test_an_unknown_name_is_answered_by_the_nearest(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['a', 'b'] if action == 'prepare' else []
    assert main(['datasets', action, 'Gras', *words]) == 2
    assert 'Did you mean Grass?' in capsys.readouterr().err


def test_a_data_set_read_as_it_comes_needs_no_preparing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(['datasets', 'prepare', 'Grass', 'a', 'b']) == 2
    assert 'read as it comes' in capsys.readouterr().err


def test_scenes_of_clouds_are_cut_into_patches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from eoseg_datasets import l8_biome_cloud_patches

    source = write_fake('l8_biome_clouds', tmp_path / 'scenes')
    cut = l8_biome_cloud_patches.cut_patches
    # The fake scenes are smaller than a published patch.
    monkeypatch.setattr(
        l8_biome_cloud_patches,
        'cut_patches',
        lambda scenes, target: cut(scenes, target, size=16, drop_clear=False),
    )
    target = tmp_path / 'patches'
    assert main(['datasets', 'prepare', 'L8BiomeClouds', str(source), str(target)]) == 0
    assert 'train' in capsys.readouterr().out
    assert list(target.rglob('img_dir/train/*.png'))


def test_scenes_that_are_too_small_to_be_cut_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_fake('l8_biome_clouds', tmp_path / 'scenes')
    words = ['datasets', 'prepare', 'L8BiomeClouds', str(source), str(tmp_path / 'out')]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert 'no patch could be cut' in captured.err and '512' in captured.err
    assert not captured.out


def test_a_folder_without_scenes_is_answered_by_what_is_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / 'nowhere', tmp_path / 'out'
    assert main(['datasets', 'prepare', 'L8BiomeClouds', str(source), str(target)]) == 1
    error = capsys.readouterr().err
    assert f'{source} has no scenes; give the folder' in error
    assert 'download' not in error


def test_the_list_does_not_wait_for_torch() -> None:
    code = (
        'import sys; from eoseg.main import main; main(["datasets", "list"]); '
        'assert not {"torch", "torchgeo"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True, stdout=subprocess.DEVNULL)
