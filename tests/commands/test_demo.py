"""The demo replaces its own folder and nothing else."""

from pathlib import Path

import pytest

from eoseg.main import main


def test_a_folder_of_somebody_else_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'scenes').mkdir()
    mine = tmp_path / 'scenes' / 'mine.tif'
    mine.write_bytes(b'precious')
    assert main(['demo', '--out', str(tmp_path)]) == 1
    assert mine.read_bytes() == b'precious'
    assert 'give --out ANOTHER' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_story_ends_with_a_map_and_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'demo'
    assert main(['demo', '--out', str(out)]) == 0
    shown = capsys.readouterr().out
    assert 'IoU cloud shadow' in shown
    for name in ('maps/report.html', 'maps/mosaic.tif', 'scores.json'):
        assert (out / name).is_file()
