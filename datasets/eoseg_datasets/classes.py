"""Names, colours and stored values of classes."""

import colorsys
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Self

#: Value of pixels without a label, in masks and in maps.
IGNORE_INDEX = 255

#: Distinguishable for colour-blind readers (after Okabe and Ito), dark grey first: the
#: first class is most often the background.
_PALETTE = (
    '#4d4d4d', '#e69f00', '#56b4e9', '#009e73', '#f0e442', '#0072b2', '#d55e00',
    '#cc79a7',
)  # fmt: skip


@dataclass(frozen=True)
class Classes:
    """The classes of a data set; the index is the value in masks and maps."""

    names: tuple[str, ...]
    #: Each as '#rrggbb'.
    colors: tuple[str, ...]
    #: What stands for each class in label files.
    values: tuple[int, ...]

    def __len__(self) -> int:
        """Number of classes, K."""
        return len(self.names)

    @classmethod
    def named(cls, names: Sequence[str], values: Sequence[int] | None = None) -> Self:
        """Classes with colours chosen for them.

        Args:
            names: One name per class.
            values: What stands for each in label files, by default 0, 1, 2, ….
        """
        colors = tuple(islice(_colors(), len(names)))
        return cls(tuple(names), colors, tuple(values or range(len(names))))

    @classmethod
    def from_csv(cls, path: Path) -> Self:
        """Read a table with the columns value, name and, if wanted, color.

        Args:
            path: A file such as ``classes.csv``.

        Raises:
            ValueError: If a column is missing or a value is no number from 0 to 254.
        """
        with path.open(newline='') as file:
            rows = list(csv.DictReader(file))
        try:
            values = tuple(int(row['value']) for row in rows)
            names = tuple(row['name'].strip() for row in rows)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'{path}: cannot be read as classes ({error}); it needs the header '
                'value,name,color and one line per class, such as 1,forest,#1a7d3c'
            ) from error
        if not rows or len(set(values)) < len(values) or not _fit_uint8(values):
            raise ValueError(
                f'{path}: values must differ and lie from 0 to {IGNORE_INDEX - 1} '
                f'({IGNORE_INDEX} means no label), got {", ".join(map(str, values))}'
            )
        chosen = cls.named(names, values).colors
        colors = [
            row.get('color') or color for row, color in zip(rows, chosen, strict=True)
        ]
        return cls(names, tuple(colors), values)


def _fit_uint8(values: Sequence[int]) -> bool:
    return all(0 <= value < IGNORE_INDEX for value in values)


def _colors() -> Iterator[str]:
    """Without end: the palette, then hues that keep their distance."""
    yield from _PALETTE
    for i in count():
        # Steps of the golden ratio never come close to an earlier hue.
        red, green, blue = colorsys.hsv_to_rgb(
            i * 0.618034 % 1, 0.55, 0.85 - 0.3 * (i % 2)
        )
        yield f'#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}'
