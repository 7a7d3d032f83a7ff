"""A unit counts as done if it reads as it was written, and only then."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from eoseg.io.journal import Journal, forget_others

UNIT = Window(512, 1024, 600, 400)


def values(seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 9, (2, 400, 600), np.uint8)
    values[:, :30] = 255
    return values


def kept(root: Path, key: str = 'a') -> Journal:
    journal = Journal(root, key, 2)
    assert journal.save((UNIT, values())) == UNIT
    return journal


def only_file(root: Path) -> Path:
    (path,) = (root / '.units').rglob('*.tif')
    return path


def test_a_later_run_finds_what_was_kept(tmp_path: Path) -> None:
    kept(tmp_path)
    again = Journal(tmp_path, 'a', 2)
    assert again.is_done(UNIT)
    np.testing.assert_array_equal(again.load(UNIT), values())
    assert not again.is_done(Window(0, 0, 600, 400))


def test_other_weights_or_settings_find_nothing(tmp_path: Path) -> None:
    kept(tmp_path)
    assert not Journal(tmp_path, 'b', 2).is_done(UNIT)


def test_a_line_that_was_cut_short_does_not_count(tmp_path: Path) -> None:
    journal = kept(tmp_path)
    text = journal.manifest.read_text()
    journal.manifest.write_text(text[:-10])
    again = Journal(tmp_path, 'a', 2)
    assert not again.is_done(UNIT)
    again.save((UNIT, values()))
    assert Journal(tmp_path, 'a', 2).is_done(UNIT)


@pytest.mark.parametrize('damage', ['short', 'empty', 'missing', 'nodata', 'other'])
def test_a_file_that_reads_otherwise_does_not_count(
    tmp_path: Path, damage: str
) -> None:
    kept(tmp_path)
    path = only_file(tmp_path)
    content = path.read_bytes()
    with rasterio.open(path) as source:
        profile = source.profile
    if damage == 'missing':
        path.unlink()
    elif damage in ('short', 'empty'):
        path.write_bytes(content[: len(content) // 2 if damage == 'short' else 0])
    else:
        with rasterio.open(path, 'w', **profile) as target:
            # A killed GeoTIFF opens well and has no pixel.
            target.write(values(1) if damage == 'other' else values() * 0 + 255)
    assert not Journal(tmp_path, 'a', 2).is_done(UNIT)


def test_a_disk_that_is_full_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, values: object) -> None:
        path.write_bytes(b'II*')
        raise OSError(28, 'No space left on device')

    journal = Journal(tmp_path, 'a', 2)
    monkeypatch.setattr('eoseg.io.journal._write', full)
    with pytest.raises(OSError, match='No space left'):
        journal.save((UNIT, values()))
    assert not journal.is_done(UNIT)
    assert not list(tmp_path.rglob('*.part*'))


def test_what_reads_otherwise_at_once_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eoseg.io import journal as module

    write = module._write
    monkeypatch.setattr(module, '_write', lambda path, v: write(path, v * 0))
    with pytest.raises(OSError, match='is the disk full'):
        Journal(tmp_path, 'a', 2).save((UNIT, values()))
    assert not list(tmp_path.rglob('*.tif'))


def test_the_manifest_has_a_line_for_each_unit(tmp_path: Path) -> None:
    journal = kept(tmp_path)
    (line,) = journal.manifest.read_text().strip().splitlines()
    entry = json.loads(line)
    assert entry['window'] == [512, 1024, 600, 400]
    assert entry['valid'] == 370 * 600


def test_units_of_finished_scenes_are_forgotten(tmp_path: Path) -> None:
    done, other = kept(tmp_path, 'a'), kept(tmp_path, 'b')
    done.forget()
    assert not done.folder.exists()
    forget_others(tmp_path, [other.key])
    assert Journal(tmp_path, 'b', 2).is_done(UNIT)
    forget_others(tmp_path, [])
    assert not list(tmp_path.iterdir())
