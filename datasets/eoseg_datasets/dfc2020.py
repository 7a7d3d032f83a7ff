"""DFC2020: radar and optical images with land cover mapped at 10 m."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rasterio.crs import CRS

from .archives import Archive, obtain
from .arguments import check_split, chosen
from .classes import IGNORE_INDEX
from .grids import grids_of
from .labels import RasterLabels
from .pairs import PairedScene, located
from .scene import Band
from .scene_dataset import SceneDataset
from .sen12ms import CLASSES, SEN12MS

#: Class index of each stored value; 0 is what nobody has mapped.
_MEANING = {0: IGNORE_INDEX} | {value: value - 1 for value in CLASSES.values}


class DFC2020(SceneDataset):
    """DFC2020 dataset.

    The data of the `IEEE GRSS Data Fusion Contest 2020
    <https://ieee-dataport.org/competitions/2020-ieee-grss-data-fusion-contest>`__ as
    they are divided in `Copernicus-Bench <https://arxiv.org/abs/2503.11849>`__: pairs
    of Sentinel-1 and Sentinel-2 images as in :class:`~eoseg_datasets.sen12ms.SEN12MS`,
    but with land cover that was mapped at 10 m.

    Dataset features:

    * 3,156 pairs to train, 986 to validate and 986 to test
    * 256 x 256 pixels of 10 m
    * Sentinel-1: 2 bands in decibel, not valid where NaN
    * Sentinel-2: 13 bands of Level-1C, reflectance x 10,000

    Dataset format:

    .. code-block:: text

       root/
       └── dfc2020_s1s2/
           ├── s1/
           │   └── ROIs0000_test_s1_0_p0.tif       VV, VH
           ├── s2/
           │   └── ROIs0000_test_s2_0_p0.tif       B01, …, B12
           ├── dfc/
           │   └── ROIs0000_test_dfc_0_p0.tif      0 to 10
           ├── dfc-train-new.csv                   names of files in dfc/, one a line
           ├── dfc-val-new.csv
           └── dfc-test-new.csv

    Dataset classes (the value in the files is one more; 0 there is no label):

    0. Forest
    1. Shrubland
    2. Savanna
    3. Grassland
    4. Wetlands
    5. Croplands
    6. Urban/Built-up
    7. Snow/Ice
    8. Barren
    9. Water

    Savanna and Snow/Ice do not occur or hardly; Copernicus-Bench leaves them out and
    reports the mean of the other eight. They are kept here, so that a model of
    :class:`~eoseg_datasets.sen12ms.SEN12MS` has the same classes.

    In an image the bands of Sentinel-1 come first, see ``sar_bands`` and
    ``optical_bands``. Only files that *bands* need have to be there.

    If you use this dataset in your research, please cite the following papers:

    * https://arxiv.org/abs/2503.11849
    * https://ieee-dataport.org/competitions/2020-ieee-grss-data-fusion-contest
    """

    CLASSES = CLASSES

    # That commit of the file is what the checksums are of.
    url = (
        'https://hf.co/datasets/wangyi111/Copernicus-Bench/resolve/'
        '9d252acd3aa0e3da3128e05c6f028647f0e48e5f/l2_dfc2020_s1s2/dfc2020.zip'
    )
    md5 = 'f10ba017dab6f38b7a6857b169ea924b'
    sha256 = '5fef94b3481489941f3d409db25615212cc17f906cee48fdbe29b7bccedbc9fd'

    #: Bands of Sentinel-1, in decibel.
    sar_bands: ClassVar[tuple[str, ...]] = SEN12MS.sar_bands

    #: Bands of Sentinel-2, reflectance x 10,000.
    optical_bands: ClassVar[tuple[str, ...]] = SEN12MS.optical_bands

    all_bands: ClassVar[tuple[str, ...]] = (*sar_bands, *optical_bands)
    rgb_bands = SEN12MS.rgb_bands
    splits: ClassVar[tuple[str, ...]] = ('train', 'val', 'test')

    #: Folder in the archive.
    directory = 'dfc2020_s1s2'

    def __init__(
        self,
        root: str | Path = 'data',
        split: str = 'train',
        bands: Sequence[str] | None = None,
        crs: CRS | None = None,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        """Initialize a new DFC2020 instance.

        Args:
            root: Folder of the data set.
            split: 'train', 'val' or 'test'.
            bands: Names of the bands to read, such as ``sar_bands``; all of them by
                default.
            crs: Warp everything to this coordinate reference system instead of reading
                each patch in its own.
            res: Pixel size in units of *crs*; that of the first patch by default.
            transforms: Function applied to each sample.
            download: Whether the archive is downloaded if it is not there.
            checksum: Whether an archive that is there is compared with its checksum.

        Raises:
            RuntimeError: If the archive is corrupt.
            DatasetNotFoundError: If neither files nor archive are there, and *download*
                is false.
            FileNotFoundError: If patches of the split are not there.
            ValueError: If there is no such split or band.
        """
        self.paths = self.root = Path(root)
        self.split = split
        check_split(split, self.splits, 'DFC2020')
        names = chosen('band', bands, self.all_bands, 'DFC2020')
        archive = Archive(
            name='dfc2020.zip',
            creates=self.directory,
            url=self.url,
            md5=self.md5,
            sha256=self.sha256,
        )
        obtain(archive, self.root, download=download, checksum=checksum)
        folder = self.root / self.directory
        table = folder / f'dfc-{split}-new.csv'
        files = [line.strip() for line in table.read_text().splitlines()]
        files = [file for file in files if file]
        scenes = _scenes(folder, files, names, table)
        labels = [
            RasterLabels(folder / 'dfc' / file, CLASSES, _MEANING) for file in files
        ]
        super().__init__(scenes, labels, CLASSES, crs, res, transforms=transforms)


def _scenes(
    folder: Path, files: Sequence[str], names: Sequence[str], table: Path
) -> list[PairedScene]:
    """A scene for each file of labels."""
    places = located(names, SEN12MS.sources)
    sources = sorted({source for _, source, _ in places})
    needed = [folder / s / _renamed(file, s) for file in files for s in sources]
    needed += [folder / 'dfc' / file for file in files]
    if missing := [path for path in needed if not path.is_file()]:
        raise FileNotFoundError(
            f'{len(missing)} files of {table} are not there, such as {missing[0]}; '
            f'extract the archive again, or get it from {DFC2020.url}'
        )
    first = [folder / sources[0] / _renamed(file, sources[0]) for file in files]
    return [
        PairedScene(
            name=Path(file).stem.replace('_dfc_', '_'),
            path=path,
            grid=grid,
            bands=tuple(
                Band(name, folder / source / _renamed(file, source), index)
                for name, source, index in places
            ),
            sar_bands=DFC2020.sar_bands,
        )
        for file, path, grid in zip(files, first, grids_of(first, folder), strict=True)
    ]


def _renamed(file: str, source: str) -> str:
    return file.replace('dfc', source)
