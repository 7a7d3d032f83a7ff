"""SEN12MS: radar, optical images and coarse land cover of all continents."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from rasterio.crs import CRS
from torchgeo import datasets as torchgeo_datasets

from .archives import Archive, obtain
from .arguments import check_split, chosen
from .classes import IGNORE_INDEX, Classes, Legend
from .grids import grids_of
from .labels import Labels, RasterLabels
from .pairs import PairedScene, located
from .scene import Band
from .scene_dataset import SceneDataset

#: What TorchGeo says of the data set: names of bands and files, checksums.
_TORCHGEO = torchgeo_datasets.SEN12MS

#: Classes of the Data Fusion Contest 2020, in colours of the IGBP legend.
CLASSES = Classes(
    tuple(range(1, 11)),
    Legend(
        (
            'Forest',
            'Shrubland',
            'Savanna',
            'Grassland',
            'Wetlands',
            'Croplands',
            'Urban/Built-up',
            'Snow/Ice',
            'Barren',
            'Water',
        ),
        (
            '#009900',
            '#c6b044',
            '#fbff13',
            '#b6ff05',
            '#27ff87',
            '#c24f44',
            '#a5a5a5',
            '#69fff8',
            '#f9ffa4',
            '#1c0dff',
        ),
    ),
)

#: Class of each IGBP value from 1 to 17, counted from 1 as in the contest: five forests
#: are one class, as are two shrublands, two savannas, and croplands with their mosaic.
_SIMPLIFIED = (1, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 6, 8, 9, 10)

#: Class index of each value of the MODIS product. It has 255 where it was not computed
#: and 254 where the algorithm found no class.
_MEANING = {value: IGNORE_INDEX for value in (0, 254, 255)} | {
    value: simple - 1 for value, simple in enumerate(_SIMPLIFIED, 1)
}

#: Its radar image is damaged (NaN). The authors took it out of their lists.
_BROKEN = ('ROIs1868_summer', '146', '202')


class _Patch(NamedTuple):
    """A patch by the parts of its file names."""

    season: str
    scene: str
    number: str

    def file(self, source: str) -> str:
        """Its file of a source, ``s1``, ``s2`` or ``lc``, below the root."""
        folder = f'{source}_{self.scene}'
        return f'{self.season}/{folder}/{self.season}_{folder}_p{self.number}.tif'


class SEN12MS(SceneDataset):
    """SEN12MS dataset.

    The `SEN12MS <https://doi.org/10.14459/2019mp1474000>`__ dataset has 180,662
    triplets of Sentinel-1 images, Sentinel-2 images and MODIS land cover from all
    continents and seasons. It was made by M. Schmitt, L. H. Hughes, C. Qiu and X. X.
    Zhu at the Technical University of Munich.

    Dataset features:

    * 256 x 256 pixels of 10 m in UTM, each shared by neighbours: patches were cut every
      128 pixels
    * Sentinel-1: 2 bands in decibel, not valid where NaN
    * Sentinel-2: 13 bands of Level-1C, reflectance x 10,000
    * labels of 500 m, resampled to 10 m: coarse, and often wrong at a border

    Dataset format:

    .. code-block:: text

       root/
       ├── ROIs1158_spring/       and ROIs1868_summer, ROIs1970_fall, ROIs2017_winter
       │   ├── s1_1/
       │   │   └── ROIs1158_spring_s1_1_p30.tif     VV, VH
       │   ├── s2_1/
       │   │   └── ROIs1158_spring_s2_1_p30.tif     B01, …, B12
       │   └── lc_1/
       │       └── ROIs1158_spring_lc_1_p30.tif     IGBP and three LCCS layers
       ├── train_list.txt
       └── test_list.txt

    Dataset classes: the ten of the Data Fusion Contest 2020, each of some IGBP values:

    0. Forest (1 to 5)
    1. Shrubland (6, 7)
    2. Savanna (8, 9)
    3. Grassland (10)
    4. Wetlands (11)
    5. Croplands (12, 14)
    6. Urban/Built-up (13)
    7. Snow/Ice (15)
    8. Barren (16)
    9. Water (17)

    Pixels with 0, 254 or 255 have no label.

    In an image the bands of Sentinel-1 come first, see ``sar_bands`` and
    ``optical_bands``. TorchGeo's class of this name reads whole patches by number
    and raw IGBP values; names, lists and checksums are taken from it, but it is no
    parent: this one is a GeoDataset.

    Only files that *bands* need have to be there. At the first opening the header of
    one file of each patch is read, which takes minutes for all of them and a minute
    from then on, see :func:`~eoseg_datasets.grids.grids_of`; all patches with all bands
    take 1 GB of memory. The files of a triplet are taken to lie on one grid.

    The data are under CC BY 4.0. They take about 510 GB, and are downloaded by hand;
    the lists can be downloaded automatically.

    If you use this dataset in your research, please cite the following paper:

    * https://doi.org/10.5194/isprs-annals-IV-2-W7-153-2019
    """

    CLASSES = CLASSES

    #: Where a person gets the archives.
    url = 'https://mediatum.ub.tum.de/1474000'

    #: Where the lists are.
    list_url = (
        'https://raw.githubusercontent.com/schmitt-muc/SEN12MS/'
        '3a41236a28d08d253ebe2fa1a081e5e32aa7eab4/splits/'
    )

    #: Checksum of each archive and list.
    md5s: ClassVar[dict[str, str]] = dict(
        zip(_TORCHGEO.filenames, _TORCHGEO.md5s, strict=True)
    )

    #: Bands of Sentinel-1, in decibel.
    sar_bands: ClassVar[tuple[str, ...]] = _TORCHGEO.BAND_SETS['s1']

    #: Bands of Sentinel-2, reflectance x 10,000.
    optical_bands: ClassVar[tuple[str, ...]] = _TORCHGEO.BAND_SETS['s2-all']

    #: Bands of each source, in the order of its files.
    sources: ClassVar[dict[str, tuple[str, ...]]] = {
        's1': sar_bands,
        's2': optical_bands,
    }

    all_bands: ClassVar[tuple[str, ...]] = (*sar_bands, *optical_bands)
    rgb_bands = _TORCHGEO.rgb_bands
    splits: ClassVar[tuple[str, ...]] = ('train', 'test')

    #: Folder of each season.
    seasons: ClassVar[dict[str, str]] = {
        'spring': 'ROIs1158_spring',
        'summer': 'ROIs1868_summer',
        'fall': 'ROIs1970_fall',
        'winter': 'ROIs2017_winter',
    }

    def __init__(
        self,
        root: str | Path = 'data',
        split: str = 'train',
        bands: Sequence[str] | None = None,
        seasons: Sequence[str] | None = None,
        crs: CRS | None = None,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        """Initialize a new SEN12MS instance.

        Args:
            root: Folder of the data set.
            split: 'train' or 'test'.
            bands: Names of the bands to read, such as ``sar_bands``; all of them by
                default.
            seasons: Those of *spring*, *summer*, *fall* and *winter* to read; all of
                them by default.
            crs: Warp everything to this coordinate reference system instead of reading
                each patch in its own.
            res: Pixel size in units of *crs*; that of the first patch by default.
            transforms: Function applied to each sample.
            download: Whether the lists are downloaded if they are not there; the
                archives must be downloaded by hand.
            checksum: Whether archives and lists that are there are compared with their
                checksums, which takes long.

        Raises:
            RuntimeError: If an archive or a list is corrupt.
            DatasetNotFoundError: If neither the files of a season nor their archive are
                there.
            FileNotFoundError: If patches of the list are not there.
            ValueError: If there is no such split, band or season, or if the split has
                no patch of *seasons*.
        """
        self.paths = self.root = Path(root)
        self.split = split
        check_split(split, self.splits, 'SEN12MS')
        names = chosen('band', bands, self.all_bands, 'SEN12MS')
        folders = [
            self.seasons[season]
            for season in chosen('season', seasons, tuple(self.seasons), 'SEN12MS')
        ]
        listed = self._listed(download, checksum)
        self._patches = [
            patch for patch in listed if patch.season in folders and patch != _BROKEN
        ]
        if not self._patches:
            raise ValueError(self._without(folders, listed))
        sensors = sorted({source for _, source, _ in located(names, self.sources)})
        self._require([*sensors, 'lc'], checksum)
        scenes = self._scenes(names, sensors)
        super().__init__(scenes, (), CLASSES, crs, res, transforms=transforms)

    def labels_of(self, scene: int) -> Labels:
        """Labels of a patch.

        Args:
            scene: Its position in ``scenes``.
        """
        # Made on demand: 160,000 of them would take some 100 MB.
        path = self.root / self._patches[scene].file('lc')
        return RasterLabels(path, CLASSES, _MEANING)

    @property
    def labelled(self) -> list[int]:
        """Positions of the patches that have labels: all of them."""
        return list(range(len(self.scenes)))

    def _listed(self, download: bool, checksum: bool) -> list[_Patch]:
        """Patches of the split, as its list has them."""
        name = f'{self.split}_list.txt'
        archive = Archive(
            name=name, creates=name, url=self.list_url + name, md5=self.md5s[name]
        )
        obtain(archive, self.root, download=download, checksum=checksum)
        lines = (self.root / name).read_text().split()
        return [_patch(line, self.root / name) for line in lines]

    def _without(self, folders: Sequence[str], listed: Sequence[_Patch]) -> str:
        """That no patch is left of those that the list has."""
        named = {folder: season for season, folder in self.seasons.items()}
        there = {patch.season for patch in listed}
        others = [season for folder, season in named.items() if folder in there]
        return (
            f'SEN12MS {self.split} has no patch of '
            f'{", ".join(named[folder] for folder in folders)}; '
            f'{self.root / f"{self.split}_list.txt"} has patches of '
            f'{", ".join(others) or "no season"}'
        )

    def _require(self, sources: Sequence[str], checksum: bool) -> None:
        """Make sure that the files of all patches are there, without opening one."""
        first: dict[str, _Patch] = {}
        for patch in self._patches:
            first.setdefault(patch.season, patch)
        for season, patch in first.items():
            for source in sources:
                name = f'{season}_{source}.tar.gz'
                archive = Archive(
                    name=name,
                    creates=f'{season}/{source}_{patch.scene}',
                    md5=self.md5s[name],
                    page=self.url,
                )
                obtain(archive, self.root, checksum=checksum)
        folders = {
            f'{patch.season}/{source}_{patch.scene}'
            for patch in self._patches
            for source in sources
        }
        there = _files_in(self.root / folder for folder in folders)
        missing = [
            file
            for patch in self._patches
            for source in sources
            if os.path.basename(file := patch.file(source)) not in there
        ]
        if missing:
            raise FileNotFoundError(
                f'{self.root} lacks {len(missing)} files of {self.split}_list.txt, '
                f'such as {missing[0]}; extract the archives of {self.url} again, or '
                'give the seasons that are there'
            )

    def _scenes(
        self, names: Sequence[str], sensors: Sequence[str]
    ) -> list[PairedScene]:
        paths = [
            {source: self.root / patch.file(source) for source in sensors}
            for patch in self._patches
        ]
        grids = grids_of([files[sensors[0]] for files in paths], self.root)
        places = located(names, self.sources)
        return [
            PairedScene(
                # By such names a split keeps patches of a scene together.
                name=f'{patch.season}_{patch.scene}_patch_{patch.number}',
                path=files[sensors[0]],
                grid=grid,
                bands=tuple(
                    Band(name, files[source], index) for name, source, index in places
                ),
                sar_bands=self.sar_bands,
            )
            for patch, files, grid in zip(self._patches, paths, grids, strict=True)
        ]


def _patch(line: str, path: Path) -> _Patch:
    """A patch of a line such as ``ROIs1868_summer_s2_146_p202.tif``."""
    try:
        rois, season, _, scene, number = line.removesuffix('.tif').split('_')
    except ValueError:
        raise ValueError(
            f'{path} has the line {line!r}, which names no patch; download it again '
            f'from {SEN12MS.list_url}'
        ) from None
    return _Patch(f'{rois}_{season}', scene, number.removeprefix('p'))


def _files_in(folders: Iterable[Path]) -> set[str]:
    """Names of the files in folders; those that are not there have none."""
    names: set[str] = set()
    for folder in folders:
        if folder.is_dir():
            names.update(os.listdir(folder))
    return names
