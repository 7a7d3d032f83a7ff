"""How much each scene counts in a mosaic: its priority, its date and its clouds."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

#: The least that a scene counts of what the weightiest does: where it is alone, it is
#: shown nevertheless.
LEAST = 1e-3

#: What a table may say of a scene, each in a column of this name.
COLUMNS = ('priority', 'acquired', 'cloud_cover')


@dataclass(frozen=True)
class SceneFacts:
    """What is known of a scene, beside its map."""

    #: How much it counts, above 0.
    priority: float = 1.0
    #: In UTC; None if nobody knows.
    acquired: datetime | None = None
    #: Percent of the scene.
    cloud_cover: float = 0.0


def read_facts(path: Path) -> dict[str, SceneFacts]:
    """Read a table of scenes.

    Args:
        path: CSV with the column ``scene`` and any of :data:`COLUMNS`; others are not
            read, and an empty cell says nothing.

    Returns:
        What it says, by the name of the scene.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it lacks columns, or has values that make no sense: all of these.
    """
    if not path.is_file():
        raise FileNotFoundError(f'--weights {path} does not exist; give a CSV file')
    with path.open(encoding='utf-8-sig', newline='') as file:
        rows = csv.DictReader(file)
        names = list(rows.fieldnames or ())
        if 'scene' not in names or not set(COLUMNS) & set(names):
            raise ValueError(
                f'--weights {path} needs the column scene and at least one of '
                f'{", ".join(COLUMNS)}, separated by commas; it has {", ".join(names)}'
            )
        facts, mistakes = {}, []
        for row in rows:
            try:
                facts[row['scene']] = _facts(row)
            except ValueError as error:
                mistakes.append(f'line {rows.line_num}: {error}')
    if mistakes:
        raise ValueError(f'--weights {path}, {"; ".join(mistakes)}')
    return facts


def parse_date(text: str) -> datetime:
    """A date or a time as ISO 8601 writes it; in UTC if it names no zone.

    Raises:
        ValueError: If it is none.
    """
    try:
        date = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f'acquired must be a date such as 2024-07-01, got {text}'
        ) from error
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _facts(row: dict[str, Any]) -> SceneFacts:
    cells = {name: (row.get(name) or '').strip() for name in COLUMNS}
    facts: dict[str, Any] = {}
    if text := cells['acquired']:
        facts['acquired'] = parse_date(text)
    for name, most in (('priority', 1e9), ('cloud_cover', 100.0)):
        if text := cells[name]:
            facts[name] = _number(name, text, most)
    if facts.get('priority') == 0:
        raise ValueError('priority must be above 0; leave the map out instead')
    return SceneFacts(**facts)


def _number(name: str, text: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise ValueError(f'{name} must be from 0 to {most:g}, got {text}')
    return value


def weights(facts: Sequence[SceneFacts], half_life: float | None = None) -> list[float]:
    """How much scenes count: priority x freshness x share without clouds.

    Args:
        facts: What is known of each scene; of all of them the date if *half_life* is
            given.
        half_life: Days in which a scene comes to count half; None if age is no matter.

    Returns:
        A weight for each, 1 for the largest and no less than :data:`LEAST`.
    """
    products = [
        scene.priority * (1 - scene.cloud_cover / 100) * freshness
        for scene, freshness in zip(facts, _freshness(facts, half_life), strict=True)
    ]
    # All of them may be cloudy all over.
    largest = max(products) or 1.0
    return [max(product / largest, LEAST) for product in products]


def _freshness(facts: Sequence[SceneFacts], half_life: float | None) -> list[float]:
    if half_life is None:
        return [1.0] * len(facts)
    dates = [scene.acquired for scene in facts if scene.acquired is not None]
    newest = max(dates)
    days = [(newest - date).total_seconds() / 86400 for date in dates]
    return [float(0.5 ** (day / half_life)) for day in days]
