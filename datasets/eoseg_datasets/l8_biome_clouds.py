"""L8 Biome clouds: clouds and their shadows in whole Landsat 8 scenes."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window

from .archives import Archive, obtain
from .arguments import chosen
from .classes import IGNORE_INDEX, Classes, Legend
from .compat import l8_biome_sources
from .handles import handle
from .labelled_images import open_or_explain, open_parallel, with_names
from .labels import RasterLabels, decoded
from .landsat import is_landsat_folder, open_landsat
from .scene import Scene
from .scene_dataset import SceneDataset

#: Landsat 8, path and row, year and day of the year, ground station, version.
_SCENE = re.compile(r'LC8\d{6}(?P<day>\d{7})[A-Z]{3}\d{2}')

#: What the masks store. Cloud is 255, which elsewhere means no label.
_FILL = 0
_MEANING = {128: 0, 64: 1, 192: 2, 255: 3}


class L8BiomeClouds(SceneDataset):
    """L8 Biome clouds dataset.

    The validation data of the USGS for cloud cover assessment (Foga et al., 2017): whole
    scenes of Landsat 8 with manual masks of clouds and of their shadows. It is
    :class:`torchgeo.datasets.L8Biome`, read by window on the grid of each scene, with the
    classes of KTDA (Zhang et al., 2025).

    Dataset features:

    * 96 scenes of Landsat 8 OLI and TIRS, level 1T before the collections, 12 of each of 8
      biomes, from April 2013 to October 2014
    * 11 bands at 30 m as they were delivered (uint16), in the UTM zone of each scene
    * the day of acquisition, from the name of the scene
    * no published split: divide it by scene

    Dataset format:

    .. code-block:: text

       root/                                      (any depth)
       ├── barren/
       │   ├── LC80420082013220LGN00/
       │   │   ├── LC80420082013220LGN00.TIF             11 bands
       │   │   └── LC80420082013220LGN00_fixedmask.TIF
       │   └── …
       ├── forest/
       └── …

    Folders as the USGS has them, one file a band, are read as well once their masks,
    which are in ENVI format there, are converted to GeoTIFF. They lack B8 then, as its
    pixels are of another size.

    Dataset classes:

    0. Clear (128 in the files)
    1. Cloud Shadow (64)
    2. Thin Cloud (192)
    3. Cloud (255)

    Fill (0) around the scene has no label, and its pixels are not valid. Shadows were
    drawn in a part of the scenes only; in the others they are Clear.

    The scenes are in the public domain (CC0).

    If you use this dataset in your research, please cite the following:

    * https://doi.org/10.5066/F7251GDH
    * https://doi.org/10.1016/j.rse.2017.03.026
    """

    all_bands = ('B1', 'B2', 'B3', 'B4', 'B5', 'B6', 'B7', 'B8', 'B9', 'B10', 'B11')
    rgb_bands = ('B4', 'B3', 'B2')
    biomes = (
        'barren', 'forest', 'grass_crops', 'shrubland', 'snow_ice', 'urban', 'water',
        'wetlands',
    )  # fmt: skip

    CLASSES: ClassVar[Classes] = Classes(
        (0, 1, 2, 3),
        Legend(
            ('Clear', 'Cloud Shadow', 'Thin Cloud', 'Cloud'),
            ('#4ffdc7', '#dd35df', '#fbff29', '#4d0273'),
        ),
    )

    def __init__(
        self,
        root: str | Path = 'data',
        bands: Sequence[str] | None = None,
        biomes: Sequence[str] | None = None,
        fill: Literal['ignore', 'clear'] = 'ignore',
        crs: CRS | None = None,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        """Initialize a new L8BiomeClouds instance.

        Args:
            root: Folder of the scenes, searched with all folders in it.
            bands: Some of B1 to B11; all of them by default.
            biomes: Which to read. By default those that are there; with *download*, all.
            fill: What pixels outside of the scene are: not valid and without a label, or,
                as in the experiments of the paper, valid zeros of the class Clear.
            crs: Warp everything to this coordinate reference system instead of reading
                each scene in its own. Masks are warped to the nearest pixel.
            res: Pixel size in units of *crs*; that of the first scene by default.
            transforms: Function applied to each sample.
            download: Whether archives that are not in *root* are downloaded.
            checksum: Whether archives in *root* are compared with their checksum.

        Raises:
            DatasetNotFoundError: If the data set is not there and *download* is false.
            FileNotFoundError: If a scene has no mask that can be read.
            ValueError: If a biome, a band or *fill* is unknown, or if a scene is there
                twice.
        """
        if biomes is not None:
            biomes = chosen('biome', biomes, self.biomes, 'L8BiomeClouds')
        names = chosen('band', bands, self.all_bands, 'L8BiomeClouds')
        if fill not in ('ignore', 'clear'):
            raise ValueError(f"fill must be 'ignore' or 'clear', got {fill!r}")
        self.paths = self.root = Path(root)
        self.fill = fill
        found = self._found(biomes, download=download, checksum=checksum)
        meaning = _MEANING | {_FILL: IGNORE_INDEX if fill == 'ignore' else 0}
        nodata = _FILL if fill == 'ignore' else None
        scenes = [
            _with_nodata(scene, nodata).select(names)
            for scene in open_parallel(self._open, found)
        ]
        labels = [
            _FixedMask(_mask_of(item.folder, item.name), self.CLASSES, meaning)
            for item in found
        ]
        super().__init__(scenes, labels, self.CLASSES, crs, res, transforms=transforms)

    def _found(
        self, biomes: Sequence[str] | None, *, download: bool, checksum: bool
    ) -> list['_Found']:
        """Where the scenes are, extracted if need be."""
        there = {item.biome for item in _find(self.root)}
        for biome in biomes or self.biomes:
            archive = _archive(biome)
            asked = download or biomes is not None
            if biome not in there and (asked or (self.root / archive.name).is_file()):
                obtain(archive, self.root, download=download, checksum=checksum)
        found = _find(self.root)
        if not found:
            obtain(_archive(self.biomes[0]), self.root)
        if biomes is not None:
            found = [item for item in found if item.biome in biomes]
        if not found:
            raise FileNotFoundError(
                f'{self.root} has no scene LC8…; delete the folders that were extracted '
                'there and extract the archives again'
            )
        _refuse_twins(found)
        return found

    def _open(self, found: '_Found') -> Scene:
        folder, name, biome = found
        _check_files(folder, name)
        image = folder / f'{name}.TIF'
        scene = (
            with_names(open_or_explain(image), self.all_bands)
            if image.is_file()
            else open_landsat(folder)
        )
        return replace(
            scene,
            name=f'{biome}/{name}' if biome else name,
            acquired=acquired(name),
        )


class _Found(NamedTuple):
    """Where a scene is."""

    folder: Path
    name: str
    biome: str | None


class _FixedMask(RasterLabels):
    """A manual mask. No value of it is nodata, whatever the file says."""

    def _classes_in(self, window: Window) -> NDArray[np.uint8]:
        stored = handle(self.path).read(1, window=window)
        return decoded(stored, self._meaning, self.path)


def acquired(name: str) -> datetime | None:
    """Day on which a scene was taken, by its name before the collections.

    >>> acquired('LC80420082013220LGN00')
    datetime.datetime(2013, 8, 8, 0, 0)

    Args:
        name: Has the name of the scene somewhere.

    Returns:
        The day; None if there is no such name.
    """
    match = _SCENE.search(name)
    return datetime.strptime(match['day'], '%Y%j') if match else None


def _find(root: Path) -> list[_Found]:
    """All scenes of which there is a file."""
    found = {
        (path.parent, match[0])
        for path in root.rglob('LC8*')
        if path.suffix.lower() in ('.tif', '.img')
        and (match := _SCENE.match(path.name))
    }
    # The folder given may be that of a biome. What it lies in is not looked at.
    above = root.resolve().name
    result = []
    for folder, name in sorted(found):
        inner = folder.relative_to(root).parts
        # Hidden folders are those of an extraction that is going on, or was killed.
        if not any(part.startswith('.') for part in inner):
            named = [p for p in (above, *inner) if p in L8BiomeClouds.biomes]
            result.append(_Found(folder, name, named[-1] if named else None))
    return result


def _archive(biome: str) -> Archive:
    source = l8_biome_sources()[biome]
    # Into a folder of its own, whatever the archive begins with.
    return Archive(
        name=f'{biome}.tar.gz',
        creates=biome,
        into=biome,
        url=source['url'],
        md5=source.get('md5'),
        sha256=source.get('sha256'),
    )


def _refuse_twins(found: Sequence[_Found]) -> None:
    name, count = Counter(item.name for item in found).most_common(1)[0]
    if count > 1:
        folders = [str(item.folder) for item in found if item.name == name]
        raise ValueError(
            f'scene {name} is there {count} times, in {" and ".join(folders)}; '
            'remove all but one'
        )


def _mask_of(folder: Path, name: str) -> Path:
    return folder / f'{name}_fixedmask.TIF'


def _check_files(folder: Path, name: str) -> None:
    mask = _mask_of(folder, name)
    if not mask.is_file() and mask.with_suffix('.img').is_file():
        raise FileNotFoundError(
            f'{mask.with_suffix(".img")} is in ENVI format, which is not read here; '
            f'convert it with rio convert --driver GTiff {mask.with_suffix(".img")} '
            f'{mask}'
        )
    if not mask.is_file():
        raise FileNotFoundError(
            f'scene {name} has no label {mask}; extract its archive again, or take the '
            'scene out'
        )
    if not (folder / f'{name}.TIF').is_file() and not is_landsat_folder(folder):
        raise FileNotFoundError(
            f'{folder} has the mask of scene {name} but not its bands, neither '
            f'{name}.TIF nor {name}_B1.TIF … with {name}_MTL.txt; extract its archive '
            'again'
        )


def _with_nodata(scene: Scene, nodata: float | None) -> Scene:
    bands = tuple(replace(band, nodata=nodata) for band in scene.bands)
    return replace(scene, bands=bands)
