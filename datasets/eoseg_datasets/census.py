"""What the labels of scenes hold and where: counted once, asked often."""

import hashlib
import logging
import os
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Self, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from .cache import cache_folder
from .classes import IGNORE_INDEX
from .inventory import states_of
from .labels import Labels
from .scene import Scene, ScenePatch

log = logging.getLogger(__name__)

_T = TypeVar('_T', bound=np.generic)

#: Rows and columns that a thread reads at once: whole rows of the usual blocks of 256 and
#: 512 pixels, and a million pixels, so that 13 bands in float32 take 55 MB a thread.
_ROWS, _COLS = 512, 2048

#: More threads wait for each other in Python, and take memory each.
_THREADS = 8

#: Part of the name of a file in the cache: another layout is another file.
_LAYOUT = 1


@dataclass(frozen=True)
class Density:
    """Where patches are drawn, and how likely: a pixel of a box is in the patch."""

    #: Position of the region of each box, of shape (N,).
    region: NDArray[np.int64]
    #: Top, left, height and width in pixels of the scene, of shape (N, 4).
    box: NDArray[np.int64]
    #: Positive, need not add up to 1, of shape (N,).
    weight: NDArray[np.float64]
    #: Least side of a patch that leaves no pixel undrawn.
    side: int = 1


@dataclass(frozen=True)
class Census:
    """Pixels of each class in the cells of regions.

    A cell is a square of *side* pixels, less at the right and bottom of its region. Only
    what occurs is stored: an entry says that a cell has some *pixels* of a *kind*, and
    where an *example* of them is, chosen at random. So a patch can be drawn that shows a
    class for certain, without a look at the labels. Kinds are the classes and, last,
    valid pixels without a label; pixels that are not valid are counted nowhere.
    """

    #: Scene, row, column, height and width of each region, of shape (R, 5).
    regions: NDArray[np.int64]
    side: int
    num_classes: int
    #: Region of each cell, then top, left, height and width, of shape (M, 5).
    cells: NDArray[np.int32]
    #: Of each entry, of shape (N,): its cell, …
    cell: NDArray[np.int32]
    #: … its kind, from 0 to *num_classes*, …
    kind: NDArray[np.int16]
    #: … the number of pixels of that kind in it, …
    pixels: NDArray[np.int32]
    #: … and row and column of one of them in the scene, of shape (N, 2).
    example: NDArray[np.int32]

    @property
    def totals(self) -> NDArray[np.int64]:
        """Pixels of each class and, last, valid pixels without a label."""
        return np.asarray(self.by_region().sum(axis=0))

    def by_region(self) -> NDArray[np.int64]:
        """Pixels of each kind in each region, of shape (R, num_classes + 1)."""
        kinds = self.num_classes + 1
        place = self.cells[self.cell, 0].astype(np.int64) * kinds + self.kind
        counts = np.bincount(place, self.pixels, len(self.regions) * kinds)
        return np.asarray(counts, np.int64).reshape(-1, kinds)

    def of(self, regions: Sequence[ScenePatch]) -> Self:
        """The part of a census that is about some of its regions, in their order.

        Args:
            regions: Regions that were counted.

        Raises:
            ValueError: If one was not counted.
        """
        wanted = windows_of(regions)
        known = {tuple(row): i for i, row in enumerate(self.regions.tolist())}
        places = [known.get(tuple(row)) for row in wanted.tolist()]
        if None in places:
            missing = regions[places.index(None)]
            raise ValueError(
                f'{missing} was not counted, {len(known)} other regions were; '
                'take a census of all regions that are asked for'
            )
        # New position of each region, each cell and so of each entry; -1 for none.
        region = np.full(len(self.regions), -1, np.int32)
        region[np.array(places, np.intp)] = np.arange(len(places), dtype=np.int32)
        cells = self.cells.copy()
        cells[:, 0] = region[cells[:, 0]]
        kept = cells[:, 0] >= 0
        cell = np.where(kept, np.cumsum(kept) - 1, -1)[self.cell].astype(np.int32)
        asked = cell >= 0
        return type(self)(
            regions=wanted,
            side=self.side,
            num_classes=self.num_classes,
            cells=cells[kept],
            cell=cell[asked],
            kind=self.kind[asked],
            pixels=self.pixels[asked],
            example=self.example[asked],
        )

    def even(self) -> Density:
        """Every valid pixel has the same chance, with or without a label.

        Raises:
            ValueError: If no pixel is valid.
        """
        if not len(self.pixels):
            raise ValueError(
                f'{len(self.regions)} regions have no valid pixel to draw patches '
                'from; check their nodata value (rio info)'
            )
        in_cell = np.bincount(self.cell, self.pixels, len(self.cells))
        full = in_cell[self.cell] == self._area[self.cell]
        return self._density(np.full(len(self.pixels), True), full, self.pixels)

    def balanced(self) -> Density:
        """Every class that occurs has the same chance to be why a patch is drawn.

        Within a class, its pixels have.

        Raises:
            ValueError: If no pixel has a label.
        """
        labelled = self.kind < self.num_classes
        if not labelled.any():
            raise ValueError(
                f'{len(self.regions)} regions have no labelled pixel to draw patches '
                'from; check that labels and scenes lie on each other'
            )
        full = self.pixels == self._area[self.cell]
        totals = np.bincount(self.kind, self.pixels, self.num_classes + 1)
        return self._density(labelled, full, self.pixels / totals[self.kind])

    @property
    def _area(self) -> NDArray[np.int64]:
        return self.cells[:, 3].astype(np.int64) * self.cells[:, 4]

    def _density(
        self,
        used: NDArray[np.bool_],
        full: NDArray[np.bool_],
        weight: NDArray[np.number],
    ) -> Density:
        """Boxes of entries: the cell where all of it will do, else the one pixel."""
        whole = self.cells[self.cell].astype(np.int64)
        one = np.concatenate([self.example, np.ones_like(self.example)], axis=1)
        box = np.where(full[:, None], whole[:, 1:], one)
        weights = np.asarray(weight, np.float64)
        return Density(whole[used, 0], box[used], weights[used], self.side)


class Entries(NamedTuple):
    """What cells hold, see :class:`Census`."""

    cell: NDArray[np.int32]
    kind: NDArray[np.int16]
    pixels: NDArray[np.int32]
    example: NDArray[np.int32]


class _Piece(NamedTuple):
    """What one thread reads at once."""

    region: int
    scene: int
    window: Window


_NO_ENTRIES = Entries(
    np.empty(0, np.int32),
    np.empty(0, np.int16),
    np.empty(0, np.int32),
    np.empty((0, 2), np.int32),
)


def take_census(
    scenes: Sequence[Scene],
    regions: Sequence[ScenePatch],
    labels: Callable[[int], Labels | None],
    num_classes: int,
    side: int = 64,
) -> Census:
    """Count the pixels of each class in regions of scenes.

    Several threads read a window each, so that memory does not depend on the size of
    the scenes. The same regions give the same census.

    Args:
        scenes: All scenes of a data set.
        regions: Windows of scenes, inside them.
        labels: Labels of the scene at a position, None for one without.
        num_classes: Number of classes.
        side: Side of a cell in pixels, at most that of a patch to be drawn.

    Raises:
        ValueError: If *side* is not positive, or labels have more classes.
    """
    if side < 1:
        raise ValueError(f'side must be at least 1 pixel, got {side}')
    pieces = [
        _Piece(i, region.scene, window)
        for i, region in enumerate(regions)
        for window in _pieces(region.window, side)
    ]

    def count(piece: _Piece) -> Entries:
        valid = scenes[piece.scene].valid(piece.window)
        classes = np.full(valid.shape, IGNORE_INDEX, np.uint8)
        source = labels(piece.scene)
        if source is not None and valid.any():
            classes = source.read(scenes[piece.scene].grid, piece.window)
        return count_classes(classes, valid, num_classes, side)

    number = min(os.cpu_count() or 1, _THREADS)
    # Each opening silences this warning, too, but threads restore each other's filters.
    with ThreadPoolExecutor(number) as threads, warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        found = list(threads.map(count, pieces))
    cells, entries = _joined(pieces, found, side)
    return Census(windows_of(regions), side, num_classes, cells, *entries)


def cached_census(
    scenes: Sequence[Scene],
    regions: Sequence[ScenePatch],
    labels: Callable[[int], Labels | None],
    num_classes: int,
    made_from: Sequence[object],
    side: int = 64,
) -> Census:
    """A census as :func:`take_census` takes it, kept in the cache for the next time.

    It is taken anew when a file of a scene, a file in *made_from*, a file beside one of
    them with the same stem or anything else it depends on has changed. A cache that cannot be written costs time and nothing else.

    Args:
        scenes: All scenes of a data set.
        regions: Windows of scenes, inside them.
        labels: Labels of the scene at a position, None for one without.
        num_classes: Number of classes.
        made_from: What the labels depend on: their files (as paths; of each, time and
            size count) and anything that prints what it is, such as the classes and the
            name of a column.
        side: Side of a cell in pixels.
    """
    used = [scenes[i] for i in sorted({region.scene for region in regions})]
    facts = [used, windows_of(regions).tolist(), num_classes, side, *made_from]
    files = [band.path for scene in used for band in scene.bands]
    files += [fact for fact in made_from if isinstance(fact, Path)]
    key = hashlib.sha256(repr((_LAYOUT, facts, states_of(files))).encode()).hexdigest()
    path = cache_folder() / 'census' / f'{key[:32]}.npz'
    try:
        return read_census(path)
    except FileNotFoundError:
        log.info('counting the classes of %d regions', len(regions))
    except (OSError, ValueError) as error:
        log.info('a census is taken anew: %s', error)
    census = take_census(scenes, regions, labels, num_classes, side)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_census(census, path)
    except OSError as error:
        log.info('the census is not kept: %s', error)
    return census


def write_census(census: Census, path: Path) -> None:
    """Write a census, complete or not at all.

    Args:
        census: What to write.
        path: A file that ends in .npz, in a folder that exists.
    """
    with tempfile.NamedTemporaryFile(
        dir=path.parent, suffix='.part', delete=False
    ) as f:
        part = Path(f.name)
        try:
            np.savez_compressed(f, **asdict(census))
            f.close()
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def read_census(path: Path) -> Census:
    """Read what :func:`write_census` has written.

    Args:
        path: A file that ends in .npz.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no census.
    """
    try:
        # numpy leaves a damaged file open if it opens it itself.
        with path.open('rb') as file, np.load(file, allow_pickle=False) as stored:
            numbers = {name: stored[name] for name in stored.files}
        for name in ('side', 'num_classes'):
            numbers[name] = int(numbers[name])
        return Census(**numbers)
    except (EOFError, KeyError, TypeError, BadZipFile, zlib.error) as error:
        raise ValueError(f'{path} is not a census: {error}') from error


def count_classes(
    classes: NDArray[np.uint8], valid: NDArray[np.bool_], num_classes: int, side: int
) -> Entries:
    """Count the pixels of each class in the cells of an array.

    Args:
        classes: Class of each pixel, 255 for none, of shape (H, W).
        valid: Whether a pixel is valid, of shape (H, W).
        num_classes: Number of classes.
        side: Side of a cell in pixels.

    Returns:
        What occurs. Cells are numbered from the top left, row by row; pixels are rows
        and columns of the array.

    Raises:
        ValueError: If there are more classes.
    """
    beyond = (classes >= num_classes) & (classes != IGNORE_INDEX)
    if beyond.any():
        raise ValueError(
            f'labels have class {classes[beyond].max()}, but there are {num_classes} classes, '
            f'0 to {num_classes - 1}'
        )
    bare = valid & (classes == IGNORE_INDEX)
    labelled = _by_cell(np.where(valid, classes, IGNORE_INDEX), side, IGNORE_INDEX)
    parts = [_entries(labelled == kind, kind) for kind in range(num_classes)]
    if bare.any():
        parts.append(_entries(_by_cell(bare, side, False), num_classes))
    cell, kind, pixels, place = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    across = -(-classes.shape[1] // side)
    inside = np.stack(np.divmod(_order(side)[place], side), axis=1)
    corner = np.stack(np.divmod(cell, across), axis=1) * side
    return Entries(cell, kind, pixels, (corner + inside).astype(np.int32))


def windows_of(regions: Sequence[ScenePatch]) -> NDArray[np.int64]:
    """Scene, row, column, height and width of each region, of shape (R, 5).

    Args:
        regions: Windows of scenes.
    """
    rows = [
        (scene, int(at.row_off), int(at.col_off), int(at.height), int(at.width))
        for scene, at, _ in regions
    ]
    return np.array(rows, np.int64).reshape(-1, 5)


def _pieces(window: Window, side: int) -> Iterator[Window]:
    """Cover a window with smaller ones of whole cells."""
    rows, cols = max(_ROWS // side, 1) * side, max(_COLS // side, 1) * side
    top, left = int(window.row_off), int(window.col_off)
    bottom, right = top + int(window.height), left + int(window.width)
    for row in range(top, bottom, rows):
        for col in range(left, right, cols):
            yield Window(col, row, min(cols, right - col), min(rows, bottom - row))


def _by_cell(array: NDArray[_T], side: int, fill: int | bool) -> NDArray[_T]:
    """Pixels of each cell in the order of :func:`_order`, of shape (M, side²)."""
    height, width = (-(-length // side) for length in array.shape)
    rest = (height * side - array.shape[0], width * side - array.shape[1])
    padded = np.pad(array, [(0, more) for more in rest], constant_values=fill)
    cells = padded.reshape(height, side, width, side).swapaxes(1, 2)
    return np.take(cells.reshape(-1, side * side), _order(side), axis=1)


@lru_cache
def _order(side: int) -> NDArray[np.int32]:
    """Pixels of a cell in random order: the first of a kind is one at random."""
    return np.random.default_rng(0).permutation(side * side).astype(np.int32)


def _entries(
    here: NDArray[np.bool_], kind: int
) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.int32], NDArray[np.intp]]:
    """Cell, kind, count and first place where a kind is *here*, of shape (M, side²)."""
    # Counting bits is ten times as fast as adding booleans.
    counts = np.bitwise_count(np.packbits(here, axis=1)).sum(axis=1, dtype=np.int32)
    cell = np.flatnonzero(counts).astype(np.int32)
    kinds = np.full(len(cell), kind, np.int16)
    return cell, kinds, counts[cell], here[cell].argmax(axis=1)


def _cells(piece: _Piece, side: int) -> NDArray[np.int32]:
    """Region, top, left, height and width of each cell, row by row, of shape (M, 5)."""
    top, left = int(piece.window.row_off), int(piece.window.col_off)
    bottom, right = top + int(piece.window.height), left + int(piece.window.width)
    rows, cols = np.mgrid[top:bottom:side, left:right:side]
    heights, widths = np.minimum(side, bottom - rows), np.minimum(side, right - cols)
    regions = np.full_like(rows, piece.region)
    columns = [regions, rows, cols, heights, widths]
    return np.stack([column.ravel() for column in columns], axis=1).astype(np.int32)


def _joined(
    pieces: Sequence[_Piece], found: Sequence[Entries], side: int
) -> tuple[NDArray[np.int32], Entries]:
    """Cells and entries of all pieces, in pixels of the scenes."""
    cells = [np.empty((0, 5), np.int32)]
    parts = [_NO_ENTRIES]
    first = 0
    for piece, part in zip(pieces, found, strict=True):
        cells.append(_cells(piece, side))
        corner = np.array([piece.window.row_off, piece.window.col_off], np.int32)
        parts.append(
            part._replace(
                cell=part.cell + np.int32(first), example=part.example + corner
            )
        )
        first += len(cells[-1])
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return np.concatenate(cells), Entries(*columns)
