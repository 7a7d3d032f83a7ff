"""What the tiles of the ISPRS 2D semantic labelling benchmarks have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from .archives import Archive, obtain
from .classes import IGNORE_INDEX, Classes, Legend
from .handles import handle, open_raster
from .labels import RasterLabels
from .scene import Scene, band_of, check_complete, grid_of

#: Where a person gets the archives.
PAGE = 'https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/default.aspx'

#: The order of the benchmark and of most papers. In TorchGeo's classes clutter is 0.
CLASSES = Classes(
    tuple(range(6)),
    Legend(
        (
            'impervious surfaces', 'building', 'low vegetation', 'tree', 'car',
            'clutter',
        ),
        ('#ffffff', '#0000ff', '#00ffff', '#00ff00', '#ffff00', '#ff0000'),
    ),
)  # fmt: skip

#: Up to the first, a component of a colour is 0; above the second it is 255. Two of the
#: published labels are not pure: in Potsdam's 4_12 no colour is, as it went through lossy
#: compression, and most cars of 6_7 are (252, 255, 0). No component is in between.
_STEPS = (85, 170)

#: In a table of classes: a colour that is none.
_UNKNOWN = 254


@dataclass(frozen=True)
class Files:
    """Files of one archive: where they may lie and what they are called."""

    #: The archive without its suffix, and the folder it is extracted into.
    archive: str
    #: Other folders below the root where they may lie; '' is the root itself.
    folders: tuple[str, ...] = ()
    #: What follows the name of a tile.
    suffix: str = ''
    #: Bands in their order; empty for labels.
    bands: tuple[str, ...] = ()
    md5: str | None = None

    def find(self, root: Path, tiles: Sequence[str]) -> dict[str, Path]:
        """Files that are there, by the name of the tile.

        Args:
            root: Folder of the data set.
            tiles: Names of tiles.
        """
        # Some programs extract an archive into a folder of its name, which is in it, too.
        own = (self.archive, f'{self.archive}/{self.archive}')
        found: dict[str, Path] = {}
        for folder, tile in product((*own, *self.folders), tiles):
            path = root / folder / f'{tile}{self.suffix}.tif'
            if tile not in found and path.is_file():
                found[tile] = path
        return found


class IsprsLabels(RasterLabels):
    """Labels of a tile: a picture with a colour per class, black for no label.

    Colours need not be pure, as some of the published ones are not; each component has
    to be clearly low or high.
    """

    def __init__(self, path: Path, table: NDArray[np.uint8]) -> None:
        """Initialize a new IsprsLabels instance.

        Args:
            path: The picture.
            table: :data:`FULL`, or :data:`ERODED` if black lines run along the objects.
        """
        super().__init__(path, CLASSES)
        self._table = table

    def _classes_in(self, window: Window) -> NDArray[np.uint8]:
        source = handle(self.path)
        if source.count < 3 or source.dtypes[0] != 'uint8':
            raise ValueError(
                f'{self.path} has {source.count} bands of {source.dtypes[0]}; labels are '
                'the published pictures with a colour per class (3 bands of uint8), not '
                'converted to numbers'
            )
        colors = source.read([1, 2, 3], window=window)
        low, high = _STEPS
        red, green, blue = (colors > low).astype(np.uint8) + (colors > high)
        classes = np.asarray(self._table[red, green, blue])
        if (unknown := classes == _UNKNOWN).any():
            found = np.unique(colors[:, unknown], axis=1).T[:3].tolist()
            raise ValueError(
                f'{self.path} has the colour {", ".join(str(tuple(c)) for c in found)}, '
                'which is of no class; get the file again from the archive, and do not '
                'resample it or save it as JPEG'
            )
        return classes


def _table(between: int) -> NDArray[np.uint8]:
    """Class of each colour, by whether red, green and blue are low, between or high."""
    table = np.full((3, 3, 3), _UNKNOWN, np.uint8)
    table[1, :, :] = table[:, 1, :] = table[:, :, 1] = between
    table[0, 0, 0] = IGNORE_INDEX
    for index in range(len(CLASSES)):
        red, green, blue = (2 if value else 0 for value in CLASSES.legend.rgb(index))
        table[red, green, blue] = index
    return table


#: Classes of the full labels.
FULL = _table(between=_UNKNOWN)

#: Classes of the eroded labels. A blurred colour lies beside a black line and is no label
#: either.
ERODED = _table(between=IGNORE_INDEX)


class _Tile(Scene):
    """A tile whose near infrared is marked as transparency, which it is not."""

    def _read_file(
        self, path: Path, positions: Sequence[int], window: Window
    ) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        stored, mask = super()._read_file(path, positions, window)
        return stored, np.ones_like(mask)


def open_tile(path: Path, bands: Sequence[str]) -> Scene:
    """A tile as a scene. Only the header is read.

    Args:
        path: The picture.
        bands: Names of all its bands, in order.

    Raises:
        RasterioIOError: If the file cannot be opened.
        ValueError: If it has another number of bands, or if its end is missing.
    """
    with open_raster(path) as source:
        check_complete(source, path)
        if source.count != len(bands):
            raise ValueError(
                f'{path} has {source.count} bands, expected are {len(bands)} '
                f'({", ".join(bands)}); it is not a file of this data set'
            )
        # A fourth band is taken for transparency by many programs that write a TIFF.
        kind = _Tile if ColorInterp.alpha in source.colorinterp else Scene
        named = enumerate(bands, 1)
        return kind(
            name=path.stem,
            path=path,
            grid=grid_of(source),
            bands=tuple(band_of(source, path, i, name) for i, name in named),
        )


def locate(
    kinds: Sequence[Files], root: Path, tiles: Sequence[str], *, checksum: bool
) -> tuple[Files, list[Path]]:
    """The kind of files that is there, and the file of each tile.

    Archives in *root* are extracted if their files are not there yet.

    Args:
        kinds: Kinds that would do, the best first.
        root: Folder of the data set.
        tiles: Names of the tiles of a split.
        checksum: Whether an archive that is there is compared with its checksum.

    Raises:
        DatasetNotFoundError: If there is neither a file nor an archive.
        FileNotFoundError: If the file of a tile is missing.
        ArchiveError: If the archive is broken.
    """
    kind = max(kinds, key=lambda kind: len(kind.find(root, tiles)))
    found = kind.find(root, tiles)
    if not found:
        there = (kind for kind in kinds if (root / f'{kind.archive}.zip').is_file())
        kind = next(there, kinds[0])
    archive = Archive(
        name=f'{kind.archive}.zip',
        creates=kind.archive,
        into=kind.archive,
        page=PAGE,
        md5=kind.md5,
    )
    if not found or (checksum and (root / archive.name).is_file()):
        obtain(archive, root, checksum=checksum)
        found = kind.find(root, tiles)
    missing = [f'{tile}{kind.suffix}.tif' for tile in tiles if tile not in found]
    if missing:
        raise FileNotFoundError(
            f'{root} has {len(found)} of the {len(tiles)} tiles of this split below '
            f'{kind.archive}; {", ".join(missing[:3])} and {max(len(missing) - 3, 0)} more '
            f'are missing: extract {archive.name} again, which is at {PAGE}'
        )
    return kind, [found[tile] for tile in tiles]


def labels_of(
    kinds: Mapping[str, Files],
    asked: str | None,
    root: Path,
    tiles: Sequence[str],
    *,
    checksum: bool,
) -> list[IsprsLabels]:
    """Labels of each tile.

    Args:
        kinds: The labels there are, ``full`` and ``eroded``.
        asked: One of them; None for those that are there.
        root: Folder of the data set.
        tiles: Names of the tiles of a split.
        checksum: Whether an archive that is there is compared with its checksum.

    Raises:
        ValueError: If *asked* is neither of the two.
        FileNotFoundError: If labels are missing, see :func:`locate`.
    """
    if asked not in (None, *kinds):
        raise ValueError(f'labels must be {" or ".join(kinds)}, got {asked!r}')
    wanted = [kind for name, kind in kinds.items() if asked in (None, name)]
    kind, paths = locate(wanted, root, tiles, checksum=checksum)
    table = ERODED if kind == kinds['eroded'] else FULL
    return [IsprsLabels(path, table) for path in paths]
