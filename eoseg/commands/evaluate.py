"""Compare maps with their truth: rasters or polygons, in any CRS."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from eoseg_datasets.classes import IGNORE_INDEX, Classes
from eoseg_datasets.handles import handle, open_raster
from eoseg_datasets.labels import Labels, is_label, is_vector, open_labels
from eoseg_datasets.scene import grid_of

from ..io.atomic import write_text
from ..io.cog import read_legend
from ..metrics import confusion_csv, confusion_matrix, scores
from .console import say

#: Rows read at once.
ROWS = 512


def run(word: str, arguments: Sequence[str]) -> int:
    """Run ``eoseg evaluate``."""
    options = _parser().parse_args(arguments)
    pairs = _pairs(options.maps, options.truth)
    classes = _classes(next(iter(pairs)), options.truth)
    for truth in set(pairs.values()):
        _check_values(truth, classes)
    total = np.zeros((len(classes), len(classes)), np.int64)
    for path, truth in pairs.items():
        confusion = compare(
            path, open_labels(truth, classes, options.class_field), classes
        )
        total += confusion
        table = scores(confusion, classes.names)
        print(f'{path.name}: mIoU {table["miou"]:.3f}, OA {table["oa"]:.3f}')
    if not total.any():
        raise ValueError(
            f'no pixel of {options.maps} has a label in {options.truth}: they do not '
            'overlap, or the labels are all nodata'
        )
    print(_table(total, classes))
    if options.out:
        table = scores(total, classes.names)
        defined = {k: None if np.isnan(v) else v for k, v in table.items()}
        write_text(options.out, json.dumps(defined, indent=2) + '\n')
        write_text(options.out.with_suffix('.csv'), confusion_csv(total, classes.names))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('eoseg evaluate', description=__doc__)
    add = parser.add_argument
    add('maps', metavar='MAPS', type=Path, help='folder of eoseg predict, or one map')
    add(
        'truth',
        metavar='TRUTH',
        type=Path,
        help='folder of the same names, or one file',
    )
    add('--class-field', metavar='NAME', help='column with the class of a polygon')
    add('--out', metavar='FILE', type=Path, help='scores as JSON, confusion as CSV')
    return parser


def _pairs(maps: Path, truth: Path) -> dict[Path, Path]:
    """Each map with its truth."""
    if not truth.exists():
        raise FileNotFoundError(f'{truth} does not exist; give rasters or polygons')
    found = [maps] if maps.is_file() else sorted(maps.rglob('*_classes.tif'))
    if not found:
        raise FileNotFoundError(
            f'{maps} has no *_classes.tif; give the --out folder of eoseg predict'
        )
    if truth.is_file():
        return dict.fromkeys(found, truth)
    by_name = {
        path.relative_to(truth).with_suffix('').as_posix(): path
        for path in sorted(truth.rglob('*'))
        if is_label(path)
    }
    base = maps if maps.is_dir() else maps.parent
    names = {
        path: path.relative_to(base)
        .as_posix()
        .removesuffix('.tif')
        .removesuffix('_classes')
        for path in found
    }
    pairs = {path: by_name[name] for path, name in names.items() if name in by_name}
    for path in names.keys() - pairs.keys():
        say(f'skipped {path}: no truth of the name {names[path]} in {truth}')
    if not pairs:
        raise FileNotFoundError(
            f'no map in {maps} has a truth of the same name in {truth}; '
            f'{found[0].name} would need {names[found[0]]}.tif or .gpkg'
        )
    return pairs


def _classes(path: Path, truth: Path) -> Classes:
    """Names of the map's classes, and what stands for them in the truth.

    A ``classes.csv`` beside the truth says it, by the names of the classes; else the
    values are those of the labels that the model was trained on.
    """
    legend = read_legend(path)
    if legend is None:
        raise ValueError(
            f'{path} does not name its classes; give a map of eoseg predict'
        )
    table = (truth if truth.is_dir() else truth.parent) / 'classes.csv'
    if table.is_file():
        given = Classes.from_csv(table)
        if set(given.names) != set(legend.classes):
            raise ValueError(
                f'{table} names {", ".join(given.names)}, the map has '
                f'{", ".join(legend.classes)}; give the same names'
            )
        value_of = dict(zip(given.names, given.values, strict=True))
        return Classes(tuple(value_of[name] for name in legend.classes), legend)
    with open_raster(path) as source:
        values = json.loads(source.tags().get('LABEL_VALUES', '[]'))
    return Classes(tuple(values or range(len(legend.classes))), legend)


def _check_values(truth: Path, classes: Classes) -> None:
    """Refuse labels that no class stands for: they would be left out in silence."""
    if is_vector(truth):
        return
    with open_raster(truth) as source:
        known = {*classes.values, IGNORE_INDEX, source.nodata}
        found = {
            int(value)
            for _, window in source.block_windows(1)
            for value in np.unique(source.read(1, window=window))
        }
    if unknown := sorted(found - known):
        raise ValueError(
            f'{truth} has the values {", ".join(map(str, unknown[:10]))}, which stand '
            f'for no class of the map ({", ".join(map(str, classes.values))} do). Say '
            'in a classes.csv beside it which values stand for which classes'
        )


def compare(path: Path, truth: Labels, classes: Classes) -> NDArray[np.int64]:
    """Confusion matrix of a map, on its own grid.

    Args:
        path: Map of classes.
        truth: Labels, which are brought to the grid of the map.
        classes: Classes of both.

    Returns:
        Counts, of shape (K, K): rows are the truth.
    """
    total = np.zeros((len(classes), len(classes)), np.int64)
    for window in _strips(path):
        expected = truth.read(grid_of(handle(path)), window)
        total += confusion_matrix(
            expected, handle(path).read(1, window=window), len(classes)
        )
    return total


def _strips(path: Path) -> Iterator[Window]:
    source = handle(path)
    for row in range(0, source.height, ROWS):
        yield Window(0, row, source.width, min(ROWS, source.height - row))


def _table(confusion: NDArray[np.int64], classes: Classes) -> str:
    table = scores(confusion, classes.names)
    width = max(len(name) for name in (*classes.names, 'F1, undefined left out'))
    rows = [(f'IoU {name}', table[f'iou_{name}']) for name in classes.names]
    rows += [
        ('mIoU', table['miou']),
        ('overall accuracy', table['oa']),
        ('F1', table['f1']),
        ('F1, undefined left out', table['f1_nanmean']),
    ]
    return '\n'.join(f'{name:<{width + 4}} {value:6.3f}' for name, value in rows)
