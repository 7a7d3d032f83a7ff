"""Training, validation and test regions that share no pixel and, if possible, no scene."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from rasterio.windows import Window

from .scene import Scene, ScenePatch

#: Names of pictures cut from one scene: what precedes the suffix is the scene.
_CUT = re.compile(r'[_-](?:patch|tile|chip|crop)[_-]?\d.*$', re.IGNORECASE)

#: With fewer scenes than these, scenes are divided; each part would get one or none.
_ENOUGH_SCENES = 5


@dataclass(frozen=True)
class Split:
    """Regions of scenes for each use."""

    train: tuple[ScenePatch, ...]
    val: tuple[ScenePatch, ...]
    test: tuple[ScenePatch, ...]
    #: How it was made, in words for the log.
    rule: str


def source_scene(name: str) -> str:
    """Scene that a picture was cut from, by its name.

    >>> source_scene('LC80160502014041LGN00_patch_62_4_by_5')
    'LC80160502014041LGN00'
    >>> source_scene('2024/m_4709963_se')
    '2024/m_4709963_se'
    """
    return _CUT.sub('', name)


def split_scenes(
    scenes: Sequence[Scene],
    labelled: Sequence[int],
    patch_size: int,
    val: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
) -> Split:
    """Divide labelled scenes into training, validation and test regions.

    Pictures cut from one scene stay together. A folder of fewer than five scenes is
    divided within the scenes, into blocks with a gap between them.

    Args:
        scenes: All scenes of a folder.
        labelled: Positions of those with labels.
        patch_size: Side of a patch in pixels, the least side of a block.
        val: Share for validation.
        test: Share for testing; may be 0.
        seed: Chooses which are drawn.

    Raises:
        ValueError: If the scenes are too small to be divided.
    """
    groups: dict[str, list[ScenePatch]] = {}
    for i in labelled:
        grid = scenes[i].grid
        whole = ScenePatch(i, Window(0, 0, grid.width, grid.height))
        groups.setdefault(source_scene(scenes[i].name), []).append(whole)
    if len(groups) >= _ENOUGH_SCENES:
        rule = f'by scene ({len(groups)} scenes)'
        return _draw(list(groups.values()), val, test, seed, rule)
    blocks = [
        [block]
        for group in groups.values()
        for region in group
        for block in _blocks(region, patch_size)
    ]
    if len(blocks) < 3:
        largest = max(max(scenes[i].grid.shape) for i in labelled)
        raise ValueError(
            f'{len(labelled)} labelled scenes of at most {largest} px a side cannot be '
            f'divided into training, validation and test blocks of {patch_size} px; '
            f'give a smaller --data.patch_size (at most {largest // 2}) or more scenes'
        )
    rule = f'by blocks within {len(groups)} scenes ({len(blocks)} blocks)'
    return _draw(blocks, val, test, seed, rule)


def _draw(
    groups: Sequence[Sequence[ScenePatch]],
    val: float,
    test: float,
    seed: int,
    rule: str,
) -> Split:
    order = np.random.default_rng(seed).permutation(len(groups))
    num_val = max(round(val * len(groups)), 1)
    num_test = max(round(test * len(groups)), 1) if test else 0
    parts = np.split(order, [num_val, num_val + num_test])
    val_part, test_part, train_part = (
        tuple(region for i in sorted(part) for region in groups[i]) for part in parts
    )
    return Split(train_part, val_part, test_part, rule)


def _blocks(region: ScenePatch, patch_size: int) -> list[ScenePatch]:
    """At most 4 x 4 blocks that hold a patch each, with a gap between them."""
    gap = patch_size // 8
    window = region.window
    rows = _cuts(int(window.height), patch_size, gap)
    cols = _cuts(int(window.width), patch_size, gap)
    return [
        ScenePatch(region.scene, Window(col, row, width, height))
        for (row, height), (col, width) in product(rows, cols)
    ]


def _cuts(length: int, size: int, gap: int) -> list[tuple[int, int]]:
    """Start and length of up to four parts of a line."""
    number = min(max((length + gap) // (size + gap), 1), 4)
    part = (length - (number - 1) * gap) // number
    return [(i * (part + gap), part) for i in range(number)]
