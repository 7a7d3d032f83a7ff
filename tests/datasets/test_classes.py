"""Tests of eoseg.io.legend."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eoseg_datasets.classes import Classes, Legend


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 255),
    fixed=st.dictionaries(st.integers(0, 254), st.integers(0, 2**24 - 1), max_size=9),
)
def test_chosen_colours_differ_and_given_ones_stay(
    count: int, fixed: dict[int, int]
) -> None:
    colors = [f'#{fixed[i]:06x}' if i in fixed else None for i in range(count)]
    legend = Legend.of([f'class {i}' for i in range(count)], colors)
    for wanted, got in zip(colors, legend.colors, strict=True):
        assert wanted is None or got == wanted
    chosen = [legend.colors[i] for i in range(count) if i not in fixed]
    assert len(set(chosen)) == len(chosen)


def test_the_same_classes_always_get_the_same_colours() -> None:
    names = [f'class {i}' for i in range(40)]
    assert Legend.of(names) == Legend.of(names, [])
    assert Legend.of(names[:5]).colors == Legend.of(names).colors[:5]


def test_a_chosen_colour_keeps_away_from_a_given_one() -> None:
    legend = Legend.of(['water', 'forest'], [None, '#0072b3'])
    blue, given_blue = legend.rgb(0), legend.rgb(1)
    assert np.abs(np.subtract(blue, given_blue)).sum() > 100


def test_a_colormap_has_every_class_and_a_transparent_nodata() -> None:
    legend = Legend(('a', 'b'), ('#010203', '#FFfe00'))
    assert legend.colormap() == {
        0: (1, 2, 3, 255),
        1: (255, 254, 0, 255),
        255: (0, 0, 0, 0),
    }


def test_shares_are_those_of_valid_pixels() -> None:
    counts = np.zeros(256, np.int64)
    counts[[0, 1, 255]] = [1, 3, 96]
    legend = Legend.of(['a', 'b', 'c'])
    assert legend.shares(counts) == {'a': 0.25, 'b': 0.75, 'c': 0.0}
    assert legend.shares(np.zeros(256, np.int64))['a'] == 0


@pytest.mark.parametrize(
    ('classes', 'colors', 'message'),
    [
        (('a', 'b'), ('#000000',), '2 classes and 1 colours'),
        (('a',), ('blue',), "class 'a' must be of the form #rrggbb.*got 'blue'"),
        (('a',), ('#12345',), 'got'),
        (('a', 'a'), ('#000000', '#111111'), "0 and 1 are both named 'a'"),
        ((' ',), ('#000000',), 'class 0 needs a printable name'),
        (('a\x00',), ('#000000',), r"got 'a\\x00'"),
    ],
)
def test_a_legend_that_cannot_be_written_is_refused(
    classes: tuple[str, ...], colors: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Legend(classes, colors)


def test_256_classes_are_too_many() -> None:
    with pytest.raises(ValueError, match='at most 255'):
        Legend.of(map(str, range(256)))


def test_a_table_of_classes_is_read_in_the_order_of_its_values(tmp_path: Path) -> None:
    path = tmp_path / 'classes.csv'
    path.write_text('value,name,color\n7,forest,#00ff00\n\n0,"lake, river",\n')
    table = Classes.from_csv(path)
    assert table.values == (0, 7)
    assert table.legend.classes == ('lake, river', 'forest')
    assert table.legend.colors[1] == '#00ff00'


def test_a_table_may_come_from_a_spreadsheet_and_without_colours(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'classes.csv'
    path.write_bytes(b'\xef\xbb\xbfvalue,name\r\n1,a\r\n2,b\r\n')
    assert Classes.from_csv(path).legend == Legend.of(['a', 'b'])


def test_a_table_keeps_names_with_commas_and_accents(tmp_path: Path) -> None:
    path = tmp_path / 'classes.csv'
    path.write_text('value,name\n0,Wälder\n64,"a, ""b"""\n255,c\n', encoding='utf-8')
    table = Classes.from_csv(path)
    assert table == Classes((0, 64, 255), Legend.of(['Wälder', 'a, "b"', 'c']))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'line 1: the header must be value,name,color .*got nothing'),
        ('id;name\n', 'line 1: the header'),
        ('value,name\n', 'names no class'),
        ('value,name\n0,a\nx,b\n', "line 3: the value must be a whole number, got 'x'"),
        ('value,name,color\n0,a,red\n', "line 2: the colour.*got 'red'"),
        ('value,name\n0,a\n0,b\n', 'line 3: value 0 has a name already'),
        ('value,name\n0,a\n1,a\n', "line 3: 'a' names two values"),
        ('value,name\n0,\n', 'line 2: value 0 needs a printable name'),
        ('value,name,color\n0,a,#000000,b\n', 'line 2: three columns at most, got 4'),
    ],
)
def test_a_mistake_in_a_table_is_named_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / 'classes.csv'
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Classes.from_csv(path)


def test_a_table_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'classes.csv'
    path.write_bytes('value,name\n0,Wälder\n'.encode('latin-1'))
    with pytest.raises(ValueError, match=r'classes\.csv is no table.*UTF-8'):
        Classes.from_csv(path)


def test_classes_can_be_renamed_one_by_one() -> None:
    found = Classes.named(['background', 'foreground'], [0, 255])
    renamed = found.renamed(['clear', 'cloud'])
    assert (renamed.names, renamed.values) == (('clear', 'cloud'), (0, 255))
    with pytest.raises(ValueError, match='3 class names were given'):
        found.renamed(['a', 'b', 'c'])
