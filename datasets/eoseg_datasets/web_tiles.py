"""Tiles of a web map, placed by their names."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from affine import Affine
from rasterio.crs import CRS
from torchgeo.datasets import DatasetNotFoundError

from .classes import Classes
from .grid import Grid
from .labelled_images import open_or_explain, open_parallel
from .labels import Labels, find_classes, is_label, is_vector, open_labels
from .scene import Scene
from .scene_dataset import SceneDataset

#: Half the width of the square that web maps divide into tiles, in metres: the earth's
#: equatorial radius times pi.
HALF_WIDTH = 20037508.342789244

#: x-y-z at the end of a name, as tools for OpenAerialMap write it.
_NAMED = re.compile(r'(?:^|[-_])(\d+)[-_](\d+)[-_](\d+)$')

_SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif')


class WebTiles(SceneDataset):
    """Tiles of a web map with polygons as labels.

    Images of OpenAerialMap and others come as the tiles of a web map: pictures without
    georeference, whose place follows from zoom level, column and row.

    Dataset format:

    .. code-block:: text

       root/
       ├── OAM-1238424-1046544-21.png    column, row and zoom level at the end; or
       ├── 21/1238424/1046544.png        in folders, zoom level first
       └── labels.geojson                polygons in any CRS, one file for all

    Tiles of several zoom levels may lie in one folder; those of one place stay in one
    part of a split. A sample is as :class:`SceneDataset` says.
    """

    def __init__(
        self,
        root: str | Path = 'data',
        bands: Sequence[str] | None = None,
        class_field: str | None = None,
        crs: CRS | None = None,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        """Initialize a new WebTiles instance.

        Args:
            root: Folder of tiles and labels.
            bands: Names of the bands to read; all of them by default.
            class_field: Column with the class of the polygons.
            crs: Warp everything to this coordinate reference system instead of reading
                each tile in that of web maps.
            res: Pixel size in units of *crs*; that of the first tile by default.
            transforms: Function applied to each sample.

        Raises:
            DatasetNotFoundError: If there is no tile in *root*.
            ValueError: If there are several files of labels, a tile cannot be opened or
                lies outside of its zoom level, or tiles differ in their number of bands.
        """
        self.paths = self.root = Path(root)
        tiles = sorted(
            (path, place)
            for path in self.root.rglob('*')
            if path.suffix.lower() in _SUFFIXES and (place := tile_of(path)) is not None
        )
        if not tiles:
            raise DatasetNotFoundError(self)
        # Names relative to the root: in folders, tiles of many columns have one row.
        opened = open_parallel(
            partial(open_or_explain, root=self.root), [path for path, _ in tiles]
        )
        if bands is None:
            _check_bands(opened)
        scenes = [
            _placed(scene, *place)
            for scene, (_, place) in zip(opened, tiles, strict=True)
        ]
        labels, classes = _labels_in(self.root, class_field)
        super().__init__(
            [scene.select(bands) if bands else scene for scene in scenes],
            [labels] * len(scenes),
            classes,
            crs,
            res,
            transforms=transforms,
        )


def tile_of(path: Path) -> tuple[int, int, int] | None:
    """Column, row and zoom level of a tile by its name; None if it says none.

    >>> tile_of(Path('OAM-1238424-1046544-21.png'))
    (1238424, 1046544, 21)
    >>> tile_of(Path('21/1238424/1046544.png'))
    (1238424, 1046544, 21)
    >>> tile_of(Path('map.png')) is None
    True
    """
    if match := _NAMED.search(path.stem):
        column, row, zoom = map(int, match.groups())
        return column, row, zoom
    parts = (*path.parent.parts[-2:], path.stem)
    if len(parts) == 3 and all(part.isdecimal() for part in parts):
        zoom, column, row = map(int, parts)
        return column, row, zoom
    return None


def tile_grid(column: int, row: int, zoom: int, size: int = 256) -> Grid:
    """Where the pixels of a tile lie, in the projection of web maps.

    Args:
        column: Counted from the antimeridian to the east.
        row: Counted from the north.
        zoom: Level; 0 is the world in one tile.
        size: Side of the tile in pixels.

    Raises:
        ValueError: If there is no such tile at that level.
    """
    if not (0 <= column < 2**zoom and 0 <= row < 2**zoom):
        raise ValueError(
            f'zoom level {zoom} has {2**zoom} columns and rows, got column {column} and '
            f'row {row}; names end in column, row and zoom level'
        )
    side = 2 * HALF_WIDTH / 2**zoom
    west, north = column * side - HALF_WIDTH, HALF_WIDTH - row * side
    transform = Affine(side / size, 0, west, 0, -side / size, north)
    return Grid(CRS.from_epsg(3857), transform, size, size)


def _check_bands(scenes: Sequence[Scene]) -> None:
    first = scenes[0]
    for scene in scenes:
        if len(scene.bands) != len(first.bands):
            raise ValueError(
                'tiles must have the same number of bands; '
                f'{first.path} has {len(first.bands)}, {scene.path} has '
                f'{len(scene.bands)}. Name those that all of them have in bands, or '
                'take the others out'
            )


def _placed(scene: Scene, column: int, row: int, zoom: int) -> Scene:
    height, width = scene.grid.shape
    if height != width:
        raise ValueError(
            f'{scene.path} has {width} x {height} pixels; tiles of a web map are square'
        )
    return replace(scene, grid=tile_grid(column, row, zoom, width))


def _labels_in(
    root: Path, class_field: str | None
) -> tuple[Labels | None, Classes | None]:
    """The labels of all tiles and their classes, if there are any."""
    files = sorted(
        path for path in root.iterdir() if is_label(path) and is_vector(path)
    )
    if len(files) > 1:
        raise ValueError(
            f'{root} has {len(files)} files of polygons, '
            f'{" and ".join(path.name for path in files)}; keep one of them'
        )
    if not files:
        return None, None
    classes = find_classes(files, class_field)
    return open_labels(files[0], classes, class_field), classes
