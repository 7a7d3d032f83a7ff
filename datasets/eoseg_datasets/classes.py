"""Names, colours and stored values of classes."""

import colorsys
import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

#: Value of pixels without a label in masks, and without a class in maps.
IGNORE_INDEX = 255
NODATA = IGNORE_INDEX

_COLOR = re.compile(r'#[0-9a-fA-F]{6}')

# Apart for most kinds of colour vision, and none of them close to white (paper) or to
# black (the outside of a scene in many viewers).
_PALETTE = (
    '#0072b2',
    '#e69f00',
    '#009e73',
    '#cc79a7',
    '#56b4e9',
    '#d55e00',
    '#f0e442',
    '#882255',
    '#44aa99',
    '#332288',
    '#999933',
    '#aa4466',
)


# What more colours are chosen from: none too pale or too dark to be told apart.
_HUES = tuple(step / 36 for step in range(36))
_LIGHTNESSES = (0.3, 0.42, 0.54, 0.66, 0.78)
_SATURATIONS = (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Legend:
    """Names and colours of the classes of a map.

    Raises:
        ValueError: If the legend cannot be written: a class without a printable name,
            two of one name, a colour that is not '#rrggbb', more than 255 classes.
    """

    #: Names of the classes; the index is the value in the map.
    classes: tuple[str, ...]
    #: Colour of each class as '#rrggbb'.
    colors: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the legend."""
        if len(self.classes) != len(self.colors):
            raise ValueError(
                f'every class has one colour, got {len(self.classes)} classes and '
                f'{len(self.colors)} colours; Legend.of() chooses missing colours'
            )
        if len(self.classes) > IGNORE_INDEX:
            raise ValueError(
                f'a map holds at most {IGNORE_INDEX} classes ({IGNORE_INDEX} is nodata), '
                f'got {len(self.classes)}'
            )
        for index, (name, color) in enumerate(
            zip(self.classes, self.colors, strict=True)
        ):
            if not name.strip() or not name.isprintable():
                raise ValueError(f'class {index} needs a printable name, got {name!r}')
            if name in self.classes[:index]:
                raise ValueError(
                    f'classes {self.classes.index(name)} and {index} are both named '
                    f'{name!r}; rename one of them'
                )
            if not _COLOR.fullmatch(color):
                raise ValueError(
                    f'the colour of class {name!r} must be of the form #rrggbb, '
                    f'such as #0072b2, got {color!r}'
                )

    @classmethod
    def of(
        cls, classes: Iterable[str], colors: Iterable[str | None] | None = None
    ) -> Self:
        """A legend in which the classes without a colour get one.

        The same classes always get the same colours.

        Args:
            classes: Names of the classes; the index is the value in the map.
            colors: Colour of each class; None or '' to have one chosen. None or empty
                to have all of them chosen.

        Raises:
            ValueError: If there are not as many colours as classes.
        """
        names = tuple(classes)
        given = tuple(color or None for color in colors or ()) or (None,) * len(names)
        if len(given) != len(names):
            raise ValueError(
                f'give a colour (or None) for each of the {len(names)} classes, or '
                f'none at all; got {len(given)} colours'
            )
        taken = [color for color in given if color]
        fresh = iter(_distinct_colors(len(names) - len(taken), taken))
        return cls(names, tuple(color or next(fresh) for color in given))

    def rgb(self, index: int) -> tuple[int, int, int]:
        """Red, green and blue of a class, from 0 to 255."""
        return _rgb(self.colors[index])

    def colormap(self) -> dict[int, tuple[int, int, int, int]]:
        """Red, green, blue and alpha by value, as rasterio writes them.

        Nodata is transparent.
        """
        colormap = {i: (*self.rgb(i), 255) for i in range(len(self.classes))}
        return {**colormap, IGNORE_INDEX: (0, 0, 0, 0)}

    def shares(self, counts: NDArray[np.int64]) -> dict[str, float]:
        """Share of each class of the valid pixels, from 0 to 1.

        Args:
            counts: Number of pixels of each value, of shape (256,).
        """
        known = counts[: len(self.classes)]
        total = max(int(known.sum()), 1)
        return {
            name: int(count) / total
            for name, count in zip(self.classes, known, strict=True)
        }


@dataclass(frozen=True)
class Classes:
    """What the values of a mask mean: the contents of a `classes.csv`.

    ::

        value,name,color
        0,water,#0072b2
        7,forest,

    The values may be any whole numbers. The order of the values is the order of the
    classes: here a model answers 0 for water and 1 for forest.
    """

    #: Value of each class in the masks, in rising order.
    values: tuple[int, ...]
    #: Name and colour of each class, in the same order.
    legend: Legend

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes; the index is the value in samples and maps."""
        return self.legend.classes

    def __len__(self) -> int:
        """Number of classes, K."""
        return len(self.values)

    @classmethod
    def named(cls, names: Sequence[str], values: Sequence[int] | None = None) -> Self:
        """Classes with colours chosen for them.

        Args:
            names: One name per class.
            values: What stands for each in the masks, by default 0, 1, 2, ….
        """
        given = range(len(names)) if values is None else values
        return cls(tuple(given), Legend.of(names))

    def renamed(self, names: Sequence[str]) -> 'Classes':
        """The same values under other names.

        Args:
            names: One per class, in the order of the values.

        Raises:
            ValueError: If there are not as many names as classes.
        """
        if len(names) != len(self):
            raise ValueError(
                f'{len(names)} class names were given ({", ".join(names)}), the labels '
                f'have {len(self)} classes ({", ".join(self.names)})'
            )
        return Classes.named(names, self.values)

    @classmethod
    def from_csv(cls, path: Path) -> Self:
        """Read a table of classes.

        Args:
            path: File with the columns value and name, and color if wanted. Colours
                that are missing are chosen.

        Raises:
            ValueError: If a line cannot be understood; the message names it.
        """
        try:
            rows = sorted(_read_rows(path))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f'{path} is no table of text ({error}); save it as CSV in UTF-8'
            ) from error
        values, names, colors = zip(*rows, strict=True)
        return cls(values, Legend.of(names, colors))


def _read_rows(path: Path) -> list[tuple[int, str, str]]:
    """Value, name and colour ('' if not given) of each line."""
    # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
    with path.open(encoding='utf-8-sig', newline='') as file:
        lines = csv.reader(file)
        header = [column.strip() for column in next(lines, [])]
        if header not in (['value', 'name'], ['value', 'name', 'color']):
            raise ValueError(
                f'{path}, line 1: the header must be value,name,color '
                f'(color may be left out), got {",".join(header) or "nothing"}'
            )
        rows: list[tuple[int, str, str]] = []
        for cells in lines:
            if any(cell.strip() for cell in cells):
                row = _parse_row(cells, f'{path}, line {lines.line_num}')
                _check_new(row, rows, f'{path}, line {lines.line_num}')
                rows.append(row)
    if not rows:
        raise ValueError(
            f'{path} names no class; add one line per class, such as 0,water,#0072b2'
        )
    return rows


def _parse_row(cells: Sequence[str], place: str) -> tuple[int, str, str]:
    value, name, color, *rest = [cell.strip() for cell in [*cells, '', '']]
    if any(rest):
        raise ValueError(
            f'{place}: three columns at most, got {len(cells)}; put a name with a '
            'comma in double quotes'
        )
    try:
        number = int(value)
    except ValueError:
        raise ValueError(
            f'{place}: the value must be a whole number, got {value!r}; write a line '
            'as 0,water,#0072b2'
        ) from None
    if not name or not name.isprintable():
        raise ValueError(f'{place}: value {number} needs a printable name')
    if color and not _COLOR.fullmatch(color):
        raise ValueError(
            f'{place}: the colour must be of the form #rrggbb, such as #0072b2, '
            f'got {color!r}; leave it empty to have one chosen'
        )
    return number, name, color


def _check_new(
    row: tuple[int, str, str], rows: Sequence[tuple[int, str, str]], place: str
) -> None:
    if row[0] in [value for value, _, _ in rows]:
        raise ValueError(f'{place}: value {row[0]} has a name already; remove one')
    if row[1] in [name for _, name, _ in rows]:
        raise ValueError(
            f'{place}: {row[1]!r} names two values; classes are told apart by name'
        )


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _distinct_colors(count: int, taken: Sequence[str]) -> list[str]:
    """As many colours, far from one another and from those already taken.

    First those of the palette that are not too near to one taken, then those of a fixed
    set, each time the one that is farthest from all others.
    """
    chosen: list[str] = []
    used = [_perceived(color) for color in taken if _COLOR.fullmatch(color)]
    for color in _PALETTE:
        apart = all(np.linalg.norm(_perceived(color) - c) > 0.1 for c in used)
        if apart and len(chosen) < count:
            chosen.append(color)
            used.append(_perceived(color))
    if len(chosen) == count:
        return chosen
    candidates = _candidates()
    points = np.stack([_perceived(color) for color in candidates])
    nearest = np.full(len(candidates), np.inf)
    for point in used:
        nearest = np.minimum(nearest, np.linalg.norm(points - point, axis=1))
    while len(chosen) < count:
        best = int(nearest.argmax())
        chosen.append(candidates[best])
        nearest = np.minimum(nearest, np.linalg.norm(points - points[best], axis=1))
    return chosen


def _candidates() -> list[str]:
    return [
        '#' + ''.join(f'{round(c * 255):02x}' for c in colorsys.hls_to_rgb(*hls))
        for hls in product(_HUES, _LIGHTNESSES, _SATURATIONS)
    ]


def _perceived(color: str) -> NDArray[np.float64]:
    """The colour where equal distances look equal (Oklab)."""
    value = np.array(_rgb(color)) / 255
    linear = np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)
    return np.asarray(_FROM_CONES @ np.cbrt(_TO_CONES @ linear))


# Oklab: https://bottosson.github.io/posts/oklab/
_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_FROM_CONES = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
