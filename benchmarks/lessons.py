"""Images, their masks and what a teacher says of them; patches of these to learn from."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eoseg.models import CachedTeacher, Teacher

from .pictures import jittered, normal, read_picture, stretched

TEACHER = 'vit_small_patch14_dinov2'

#: About half the patches of DINOv2, whose weights are resampled: clouds are small in
#: Landsat. A linear classifier does as well on these maps as on those of an enlarged
#: image, which cost more.
CELL = 8

#: Blocks of the teacher, chosen by that classifier: the last ones know least of clouds.
BLOCKS = (3, 5, 7, 8)

#: Side of a training patch, in cells of the teacher.
SIDE = 16

BATCH_SIZE = 8

#: Value of masks where there is no label.
IGNORED = 255


class Pair(NamedTuple):
    """An image and its mask."""

    name: str
    #: Values from 0 to 1, of shape (3, H, W).
    image: Tensor
    #: Classes, of shape (H, W).
    mask: Tensor

    @property
    def scene(self) -> str:
        """What the image was cut from."""
        return self.name.split('_')[0]


class Lesson(NamedTuple):
    """A training image and what the teacher says of it."""

    scene: str
    image: Tensor
    mask: Tensor
    #: Maps of shape (dim, H / CELL, W / CELL), one per block.
    maps: list[Tensor]


class Batch(NamedTuple):
    """Patches of training images, standardized."""

    #: Of shape (B, 3, h, w).
    image: Tensor
    #: Of shape (B, h, w).
    mask: Tensor
    #: Of shape (B, dim, SIDE, SIDE), one per block.
    maps: list[Tensor]


def read_pairs(root: Path) -> list[Pair]:
    """Read all images and their masks, as far as they are whole cells of the teacher.

    Args:
        root: Folder with ``images`` and ``masks``.

    Raises:
        FileNotFoundError: If there is no image.
    """
    paths = sorted((root / 'images').glob('*.png'))
    if not paths:
        raise FileNotFoundError(
            f'No images/*.png in {root}. Give the folder with images and masks.'
        )
    return [_read_pair(path, root / 'masks' / path.name) for path in paths]


def read_unlabelled(root: Path) -> list[Pair]:
    """Read images that have no masks; each is stretched by itself.

    Args:
        root: Folder of GeoTIFF files whose first bands are red, green and blue.

    Raises:
        FileNotFoundError: If there is none.
    """
    paths = sorted(root.glob('*.tif'))
    if not paths:
        raise FileNotFoundError(f'No *.tif in {root}. Give a folder of images.')
    images = [stretched(read_picture(path)[:3]) for path in paths]
    return [
        _whole_cells(Pair(path.stem, image, torch.full(image.shape[-2:], IGNORED)))
        for path, image in zip(paths, images, strict=True)
    ]


def _read_pair(image: Path, mask: Path) -> Pair:
    values = read_picture(image)[:3] / np.float32(255)
    classes = read_picture(mask)[0].astype(np.int64)
    return _whole_cells(
        Pair(image.stem, torch.from_numpy(values), torch.from_numpy(classes))
    )


def _whole_cells(pair: Pair) -> Pair:
    # Turned and flipped, an image of whole cells has cells at the same places.
    height, width = (side // CELL * CELL for side in pair.mask.shape)
    return Pair(pair.name, pair.image[:, :height, :width], pair.mask[:height, :width])


def maps_of(pairs: Iterable[Pair], weights: Path, cache: Path) -> list[list[Tensor]]:
    """Ask the teacher.

    Args:
        pairs: Images.
        weights: Weights of the teacher.
        cache: Folder that keeps what the teacher says.

    Returns:
        Maps of each image, of shape (dim, H / CELL, W / CELL), one per block.
    """
    teacher = CachedTeacher(Teacher(TEACHER, weights, BLOCKS, patch_size=CELL), cache)
    return [
        [level[0].half() for level in teacher(normal(pair.image)[None])]
        for pair in pairs
    ]


def taught(pairs: Sequence[Pair], maps: Sequence[Sequence[Tensor]]) -> list[Lesson]:
    """Put images and the maps of the teacher together.

    The maps of each channel are brought to mean 0 and standard deviation 1: a few
    channels of DINOv2 are many times as large as the others, and blocks differ.

    Args:
        pairs: Training images.
        maps: Maps of each image, as :func:`maps_of` gives them.
    """
    levels = [_standard(level) for level in zip(*maps, strict=True)]
    return [
        Lesson(pair.scene, pair.image, pair.mask, list(level))
        for pair, level in zip(pairs, zip(*levels, strict=True), strict=True)
    ]


def _standard(maps: Sequence[Tensor]) -> list[Tensor]:
    cells = torch.cat([one.flatten(1) for one in maps], dim=1).float()
    mean, std = (value[:, None, None] for value in (cells.mean(1), cells.std(1)))
    return [((one - mean) / std).half() for one in maps]


def draw(lessons: Sequence[Lesson], random: np.random.Generator) -> Batch:
    """Draw a batch of patches, turned, flipped, brighter or darker.

    The teacher's maps are those of the image as it is: what the student learns from
    them does not depend on brightness.

    Args:
        lessons: Images to draw from.
        random: Draws.

    Returns:
        The batch.
    """
    repeated = len(lessons) < BATCH_SIZE
    chosen = random.choice(len(lessons), BATCH_SIZE, replace=repeated)
    patches = [_patch(lessons[i], random) for i in chosen]
    images, masks, maps = zip(*patches, strict=True)
    return Batch(
        normal(jittered(torch.stack(images), random)),
        torch.stack(masks),
        [torch.stack(level).float() for level in zip(*maps, strict=True)],
    )


def _patch(lesson: Lesson, random: np.random.Generator) -> Batch:
    height, width = lesson.maps[0].shape[-2:]
    row = int(random.integers(height - SIDE + 1))
    col = int(random.integers(width - SIDE + 1))
    turns, flipped = int(random.integers(4)), bool(random.integers(2))

    def cut(values: Tensor, cell: int) -> Tensor:
        side = SIDE * cell
        top, left = row * cell, col * cell
        patch = values[..., top : top + side, left : left + side].rot90(turns, (-2, -1))
        return patch.flip(-1) if flipped else patch

    return Batch(
        cut(lesson.image, CELL),
        cut(lesson.mask, CELL),
        [cut(level, 1) for level in lesson.maps],
    )


def withheld(batch: Batch) -> Batch:
    """The same without labels.

    Args:
        batch: Patches.
    """
    return batch._replace(mask=torch.full_like(batch.mask, IGNORED))


def joined(one: Batch, other: Batch) -> Batch:
    """Both in one.

    Args:
        one: Patches.
        other: More of the same size.
    """
    return Batch(
        torch.cat([one.image, other.image]),
        torch.cat([one.mask, other.mask]),
        [torch.cat(level) for level in zip(one.maps, other.maps, strict=True)],
    )
