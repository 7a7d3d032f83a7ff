"""Tests of eoseg.io.atomic."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from eoseg.io.atomic import complete, remove_leftovers, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, '-c', ''])
    process.wait()
    return process.pid


def test_a_file_has_no_name_before_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'map.tif'
    with complete(path) as part:
        part.write_text('half')
        assert not path.exists()
        assert part.suffix == '.tif'
        part.write_text('whole')
    assert path.read_text() == 'whole'
    assert names(path.parent) == ['map.tif']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_exception_nothing_new_remains(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / 'map.tif'
    path.write_text('old')
    with pytest.raises(error), complete(path) as part:
        part.write_text('half')
        Path(f'{part}.aux.xml').write_text('half')
        Path(f'{part}-journal').write_text('half')
        raise error
    assert names(tmp_path) == ['map.tif']
    assert path.read_text() == 'old'


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / 'map.tif'
    path.write_text('old')
    with pytest.raises(FileNotFoundError), complete(path):
        pass
    assert path.read_text() == 'old'


def test_sidecars_travel_with_their_file_and_replace_those_of_the_old_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'map.tif'
    for ending in ('', '.aux.xml', '.ovr'):
        Path(f'{path}{ending}').write_text('old')
    with complete(path) as part:
        part.write_text('new')
        Path(f'{part}.aux.xml').write_text('new')
    assert names(tmp_path) == ['map.tif', 'map.tif.aux.xml']
    assert Path(f'{path}.aux.xml').read_text() == 'new'


def test_what_a_killed_run_of_the_same_process_id_left_is_not_taken_over(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'map.tif'
    stale = tmp_path / f'.map.tif.{os.getpid()}.part.tif.aux.xml'
    stale.write_text('stale')
    with complete(path) as part:
        assert part.with_name(part.name + '.aux.xml') == stale
        part.write_text('new')
    assert names(tmp_path) == ['map.tif']


@pytest.mark.parametrize(
    'name', ['a b.txt', 'ä#%20?.txt', '-x', 'new\nline.txt', 'n' * 251 + '.txt']
)
def test_any_file_name_can_be_written(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, 'text')
    assert names(tmp_path) == [name]


def test_text_that_is_no_unicode_is_escaped_and_stays_json(tmp_path: Path) -> None:
    name = os.fsdecode(b'caf\xe9.tif')
    write_json(tmp_path / 'a.json', {'path': name, 'class': 'Wälder'})
    text = (tmp_path / 'a.json').read_text('utf-8')
    assert 'Wälder' in text
    assert json.loads(text)['path'] == name


def test_json_without_a_word_for_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='JSON'):
        write_json(tmp_path / 'a.json', [float('nan')])
    assert names(tmp_path) == []


def test_leftovers_of_the_dead_are_removed_and_files_of_the_living_are_not(
    tmp_path: Path,
) -> None:
    folder = tmp_path / 'deep'
    folder.mkdir()
    dead = [
        folder / f'.map.tif.{dead_pid()}.part.tif',
        folder / f'.map.tif.{dead_pid()}.part.tif.ovr.tmp',
        folder / f'.log.{dead_pid()}.part',
    ]
    alive = [
        folder / f'.map.tif.{os.getpid()}.part.tif',
        folder / 'map.tif',
        folder / f'.config.{dead_pid()}.partial',
    ]
    for path in [*dead, *alive]:
        path.write_text('')
    assert sorted(remove_leftovers(tmp_path)) == sorted(dead)
    assert names(folder) == sorted(path.name for path in alive)


def test_a_killed_process_leaves_no_file_of_that_name(tmp_path: Path) -> None:
    script = f"""
        import time
        from pathlib import Path
        from eoseg.io.atomic import complete
        with complete(Path({str(tmp_path / 'map.tif')!r})) as part:
            part.write_text('half')
            print('ready', flush=True)
            time.sleep(60)
    """
    command = [sys.executable, '-c', textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == 'ready\n'
        process.send_signal(signal.SIGKILL)
    assert names(tmp_path) == [f'.map.tif.{process.pid}.part.tif']
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_io_is_light_to_import() -> None:
    modules = ['atomic', 'cog', 'quicklook', 'report', 'stac', 'style']
    script = (
        f'import {", ".join(f"eoseg.io.{name}" for name in [*modules, "vector"])}, sys;'
        'heavy = {"torch", "lightning", "torchgeo", "geopandas", "matplotlib.pyplot"};'
        'print(*sorted(heavy & set(sys.modules)))'
    )
    command = [sys.executable, '-c', script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ''
