"""Strips of ground to train, validate and test on, for scenes that all overlap."""

from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from .grid import Grid
from .scene import Scene, ScenePatch
from .splits import Split

#: Part of a pixel that is rounding.
_ROUNDING = 1e-3


def split_strips(
    scenes: Sequence[Scene],
    labelled: Sequence[int],
    patch_size: int,
    number: int = 5,
    val: Iterable[int] = (3,),
    test: Iterable[int] = (4,),
) -> Split:
    """Divide the ground into strips from west to east, and scenes at their borders.

    Where every scene overlaps others, also through a third,
    :func:`~eoseg_datasets.splits.split_scenes` finds one group only and cannot divide
    it. Here the ground is divided instead: each strip has as many centres of scenes as
    the others, and a scene on a border is cut there, so that no pixel of the ground is
    in two parts. What a cut leaves narrower than a patch is left out.

    Args:
        scenes: All scenes, in one CRS and with north up.
        labelled: Positions of those with labels.
        patch_size: Side of a patch in pixels.
        number: How many strips.
        val: Those for validation, counted from 0 in the west.
        test: Those for testing; may be none.

    Raises:
        ValueError: If the scenes cannot be divided so, or if a part is empty.
    """
    grids = [scenes[i].grid for i in labelled]
    _check(grids)
    uses = _uses(number, frozenset(val), frozenset(test))
    borders = _borders(grids, number)
    parts: dict[str, list[ScenePatch]] = {'train': [], 'val': [], 'test': []}
    # Strips of one use side by side are one: no scene is cut between them.
    for use, strips in groupby(range(number), uses.__getitem__):
        first, *_, last = *(these := list(strips)), these[-1]
        for i in labelled:
            window = _between(scenes[i].grid, borders[first], borders[last + 1])
            if window.width >= min(patch_size, scenes[i].grid.width):
                parts[use].append(ScenePatch(i, window))
    if empty := [use for use in dict.fromkeys(uses) if not parts[use]]:
        raise ValueError(
            f'{len(labelled)} scenes in {number} strips leave nothing of {patch_size} '
            f'pixels for {" and ".join(empty)}; give fewer strips, smaller patches or '
            'more scenes'
        )
    return Split(
        train=tuple(parts['train']),
        val=tuple(parts['val']),
        test=tuple(parts['test']),
        rule=f'by {number} strips from west to east ({"-".join(uses)})',
    )


def _check(grids: Sequence[Grid]) -> None:
    if not grids:
        raise ValueError('there is no scene with labels to divide')
    systems = {grid.crs for grid in grids}
    if len(systems) > 1 or any(g.transform.b or g.transform.d for g in grids):
        raise ValueError(
            'only scenes in one CRS and with north up can be divided into strips; give '
            'crs to the data set, or divide by scene'
        )


def _uses(number: int, val: frozenset[int], test: frozenset[int]) -> list[str]:
    """What each strip is for."""
    named = val | test
    if not named <= frozenset(range(number)) or val & test or len(named) >= number:
        raise ValueError(
            f'val and test name different strips from 0 to {number - 1} and leave at '
            f'least one for training, got {sorted(val)} and {sorted(test)}'
        )
    return [
        'val' if i in val else 'test' if i in test else 'train' for i in range(number)
    ]


def _borders(grids: Sequence[Grid], number: int) -> NDArray[np.float64]:
    """Left and right end of the strips, in units of the CRS."""
    centres = [(grid.bounds[0] + grid.bounds[2]) / 2 for grid in grids]
    inner = np.quantile(centres, np.arange(1, number) / number)
    return np.concatenate([[-np.inf], inner, [np.inf]])


def _between(grid: Grid, left: float, right: float) -> Window:
    """Whole pixels of a grid between two meridians of its CRS; may be empty."""
    start, width = grid.transform.c, grid.transform.a
    cols = np.array([left - start, right - start]) / width
    first, last = np.clip(
        [np.ceil(cols[0] - _ROUNDING), np.floor(cols[1] + _ROUNDING)], 0, grid.width
    )
    return Window(int(first), 0, max(int(last - first), 0), grid.height)
