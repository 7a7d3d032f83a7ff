"""Maps that are there: which, and of what classes."""

from collections.abc import Sequence
from pathlib import Path

from eoseg_datasets.classes import Legend

from ..io.cog import read_legend

#: Endings of the names of maps that predict writes.
CLASSES, CONFIDENCE, PROBABILITIES = (
    f'_{product}.tif' for product in ('classes', 'confidence', 'probabilities')
)


def find_maps(place: Path) -> list[Path]:
    """Maps in a folder: of each scene its probabilities if they are there, else classes.

    Args:
        place: The folder, or one map.

    Raises:
        FileNotFoundError: If there is none.
    """
    if place.is_file():
        return [place]
    classes = sorted(place.rglob(f'*{CLASSES}')) if place.is_dir() else []
    if not classes:
        raise FileNotFoundError(
            f'{place} has no *{CLASSES}; give the --out folder of eoseg predict'
        )
    siblings = [
        path.with_name(path.name.replace(CLASSES, PROBABILITIES)) for path in classes
    ]
    return [
        sibling if sibling.is_file() else path
        for path, sibling in zip(classes, siblings, strict=True)
    ]


def common_legend(paths: Sequence[Path]) -> Legend:
    """Classes that all maps have.

    Raises:
        ValueError: If they differ, or one does not say them.
    """
    classes = [
        path.with_name(path.name.replace(PROBABILITIES, CLASSES)) for path in paths
    ]
    first = _legend(classes[0])
    for path in classes[1:]:
        legend = _legend(path)
        if legend != first:
            raise ValueError(
                f'{path} has the classes {", ".join(legend.classes)}, '
                f'{classes[0]} has {", ".join(first.classes)}; only maps of the same '
                'classes can be mosaicked'
            )
    return first


def _legend(path: Path) -> Legend:
    """Classes of a map.

    Raises:
        ValueError: If the map does not say them.
    """
    legend = read_legend(path) if path.is_file() else None
    if legend is None:
        lacks = 'does not say what its classes are' if path.is_file() else 'is missing'
        raise ValueError(
            f'{path} {lacks}; give the --out folder of eoseg predict, or maps of classes '
            'with the tag CLASSES, a JSON list of their names'
        )
    return legend
