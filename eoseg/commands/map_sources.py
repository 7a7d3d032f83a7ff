"""Sources of a mosaic: what maps hold, and how much each counts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from eoseg_datasets.handles import handle
from eoseg_datasets.scene import grid_of

from ..inference.map_source import Finished, MapSource
from .maps import CLASSES, CONFIDENCE, PROBABILITIES
from .scene_weights import SceneFacts, parse_date, read_facts, weights


def read_sources(paths: Sequence[Path], num_classes: int) -> list[MapSource]:
    """Maps as sources of a mosaic.

    Args:
        paths: Maps of probabilities, or of classes.
        num_classes: Number of their classes.

    Raises:
        ValueError: If one has no CRS.
    """
    return [_source(path, num_classes) for path in paths]


def _source(path: Path, num_classes: int) -> MapSource:
    source = handle(path)
    if not source.crs:
        raise ValueError(
            f'{path} has no CRS, so nobody knows where it lies; assign one first: '
            f'rio edit-info --crs EPSG:32633 {path.name}'
        )
    kind = 'probabilities' if source.count == num_classes > 1 else 'classes'
    return MapSource(
        name=source.tags().get('SCENE', path.stem.removesuffix(f'_{kind}')),
        path=path,
        grid=grid_of(source),
        num_classes=num_classes,
        has_probabilities=kind == 'probabilities',
        nodata=source.nodata,
        scale=source.scales[0],
        finished=_finished(path) if kind == 'probabilities' else None,
    )


def _finished(path: Path) -> Finished | None:
    """Classes and confidence of the same scene as probabilities, if they lie there."""
    if not path.name.endswith(PROBABILITIES):
        return None
    classes, confidence = (
        path.with_name(path.name.replace(PROBABILITIES, ending))
        for ending in (CLASSES, CONFIDENCE)
    )
    same = [
        other.is_file() and _origin(other) == _origin(path)
        for other in (classes, confidence)
    ]
    return Finished(classes, confidence) if all(same) else None


def _origin(path: Path) -> tuple[object, ...]:
    """Where a map lies and what it is made of, as far as it says so."""
    source = handle(path)
    tags = source.tags()
    names = ('CHECKPOINT', 'SETTINGS', 'SCENE', 'SCENE_FILES')
    return grid_of(source), *(tags.get(name) for name in names)


def weighted(
    sources: Sequence[MapSource],
    mode: str,
    table: Path | None,
    half_life: float | None,
) -> list[MapSource]:
    """Sources with what they count, in the order in which they are to come.

    Args:
        sources: What the maps hold.
        mode: Name of one of :data:`eoseg.inference.modes.MODES`, or ``newest``.
        table: As :func:`eoseg.commands.scene_weights.read_facts` has it.
        half_life: Days in which a scene comes to count half.

    Raises:
        ValueError: If a date that matters is not known, or weights are of no use.
    """
    asked = table is not None or half_life is not None
    newest = mode == 'newest'
    if not asked and not newest:
        return list(sources)
    if mode in ('last', 'best') or (newest and half_life):
        raise ValueError(
            f'weights make no difference with --mode {mode}; use them with '
            'blend, or with first for the weightiest map'
        )
    facts = _facts(sources, table)
    if newest or half_life:
        _check_dates(sources, facts)
    if newest:
        return _sorted(sources, [scene.acquired for scene in facts])
    counts = weights(facts, half_life)
    weighed = [
        replace(source, priority=count)
        for source, count in zip(sources, counts, strict=True)
    ]
    return weighed if mode == 'blend' else _sorted(weighed, counts)


def _sorted(sources: Sequence[MapSource], keys: Sequence[Any]) -> list[MapSource]:
    """Sources from the largest key down; equal ones in the order in which they were."""
    order = sorted(range(len(keys)), key=keys.__getitem__, reverse=True)
    return [sources[i] for i in order]


def _facts(sources: Sequence[MapSource], path: Path | None) -> list[SceneFacts]:
    """What a table says of each source, and the maps themselves where it does not."""
    table = read_facts(path) if path else {}
    if table and not any(source.name in table for source in sources):
        raise ValueError(
            f'--weights {path} names none of the maps; its scenes are '
            f'{", ".join(list(table)[:3])} …, the maps are of '
            f'{", ".join(source.name for source in sources[:3])} …'
        )
    facts = [table.get(source.name, SceneFacts()) for source in sources]
    return [
        scene if scene.acquired else replace(scene, acquired=_acquired(source.path))
        for source, scene in zip(sources, facts, strict=True)
    ]


def _acquired(path: Path) -> datetime | None:
    text = handle(path).tags().get('ACQUIRED')
    return parse_date(text) if text else None


def _check_dates(sources: Sequence[MapSource], facts: Sequence[SceneFacts]) -> None:
    lacking = [
        source.name
        for source, scene in zip(sources, facts, strict=True)
        if scene.acquired is None
    ]
    if lacking:
        raise ValueError(
            f'nobody knows when {len(lacking)} of {len(facts)} scenes were acquired, '
            f'such as {lacking[0]}; give the dates with --weights FILE.csv, with columns '
            'scene and acquired'
        )
