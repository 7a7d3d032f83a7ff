"""Tables of results: a spread over seeds, lines of markdown, and a CSV that grows."""

import csv
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar, get_type_hints

#: A dataclass or named tuple whose fields are text and numbers.
Row = TypeVar('Row')


def spread(values: Sequence[float], sign: str = '') -> str:
    """Mean and standard deviation of shares, in percent; of one alone, just that.

    Args:
        values: From 0 to 1, at least one.
        sign: ``+`` for differences, which then tell gains from losses.
    """
    mean = f'{100 * statistics.mean(values):{sign}.1f}'
    if len(values) == 1:
        return mean
    return f'{mean} ± {100 * statistics.stdev(values):.1f}'


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in markdown.

    Args:
        header: Names of the columns.
        rows: Their cells, line by line.
    """
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Read what :func:`write_rows` wrote; nothing if there is no such file.

    Args:
        path: CSV.
        kind: What a line is.
    """
    if not path.exists():
        return []
    types = get_type_hints(kind)
    with path.open(newline='', encoding='utf-8') as file:
        return [
            kind(**{name: of(line[name]) for name, of in types.items()})
            for line in csv.DictReader(file)
        ]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write results so far, so that a run that is stopped can go on.

    Args:
        path: CSV, replaced as a whole if there is one.
        rows: At least one.
    """
    names = list(get_type_hints(type(rows[0])))
    beside = path.with_name(f'{path.name}.part')
    with beside.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([getattr(row, name) for name in names] for row in rows)
    beside.replace(path)
