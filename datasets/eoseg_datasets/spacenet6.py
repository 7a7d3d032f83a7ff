"""SpaceNet 6: buildings of Rotterdam in airborne radar and optical images."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import geopandas as gpd
import pyogrio
from rasterio.crs import CRS
from torchgeo import datasets as torchgeo_datasets

from .archives import Archive, obtain
from .arguments import check_split, chosen
from .classes import Classes, Legend
from .handles import open_raster
from .labelled_images import explained, open_parallel, with_names
from .labels import VectorLabels, read_polygons
from .pairs import paired
from .scene import Scene, band_of, check_complete, grid_of
from .scene_dataset import SceneDataset

#: What TorchGeo says of the data set: names of the archives, checksums.
_TORCHGEO = torchgeo_datasets.SpaceNet6

#: Begin and end of a strip and number of a tile, at the end of a name.
_TILE = re.compile(r'_(\d{14}_\d{14}_tile_\d+)$')

#: Products of the optical satellite.
Optical = Literal['PS-RGB', 'PS-RGBNIR', 'RGBNIR', 'PAN']


class FootprintLabels(VectorLabels):
    """Buildings of a tile; many a tile has none, which is no error here."""

    @cached_property
    def _frame(self) -> gpd.GeoDataFrame:
        if self.path.stat().st_size and pyogrio.read_info(self.path)['features']:
            return read_polygons(self.path)
        return gpd.GeoDataFrame(geometry=[], crs='EPSG:4326')


class SpaceNet6(SceneDataset):
    r"""SpaceNet 6 dataset: Multi-Sensor All-Weather Mapping.

    `SpaceNet 6 <https://spacenet.ai/sn6-challenge/>`__ has radar and optical images of
    Rotterdam with the outlines of its buildings. It was made for a competition of 2020
    by CosmiQ Works, Capella Space, Maxar and others.

    Dataset features:

    * 3,401 tiles of 450 x 450 m to train, 48,000 buildings on 120 km\ :sup:`2`
    * radar: 4 polarizations in the X band from an aeroplane, 900 x 900 pixels of 0.5 m,
      intensity on a logarithmic scale; zero where nothing was measured
    * optical (WorldView-2, another day): sharpened RGB or RGB and near infrared of
      0.5 m, those before sharpening, or the panchromatic band
    * a tile that is published to test on has radar only, and no buildings

    Dataset format:

    .. code-block:: text

       root/
       └── SN6_buildings/
           ├── train/train/AOI_11_Rotterdam/
           │   ├── SAR-Intensity/
           │   │   └── SN6_Train_AOI_11_Rotterdam_SAR-Intensity_<strip>_tile_<id>.tif
           │   ├── PS-RGB/            and PS-RGBNIR/, RGBNIR/, PAN/
           │   │   └── SN6_Train_AOI_11_Rotterdam_PS-RGB_<strip>_tile_<id>.tif
           │   └── geojson_buildings/
           │       └── SN6_Train_AOI_11_Rotterdam_Buildings_<strip>_tile_<id>.geojson
           └── test/test_public/AOI_11_Rotterdam/
               └── SAR-Intensity/

    Dataset classes:

    0. background
    1. building

    In an image the radar bands come first, see ``sar_bands`` and
    ``optical_bands``. TorchGeo's class of this name reads one product by number;
    names of archives and checksums are taken from it.

    Tiles overlap, and strips of different flights cover the same ground, nearly six
    times on average: a random split leaks. Divide the ground, as
    :func:`~eoseg_datasets.strips.split_strips` does.

    The headers of all tiles are read, two each with optical bands.

    The licence is CC BY-SA 4.0. The archives have 39 GB (train) and 17 GB (test).

    If you use this dataset in your research, please cite the following paper:

    * https://arxiv.org/abs/2004.06500
    """

    #: Public without an account.
    url = (
        'https://spacenet-dataset.s3.amazonaws.com/spacenet/SN6_buildings/tarballs/'
        '{name}'
    )
    page = 'https://spacenet.ai/sn6-challenge/'

    #: Archive of each split.
    tarballs: ClassVar[dict[str, str]] = {
        split: names[11][0] for split, names in _TORCHGEO.tarballs.items()
    }
    md5s: ClassVar[dict[str, str]] = {
        split: sums[11][0] for split, sums in _TORCHGEO.md5s.items()
    }

    #: Polarizations: sent and received, horizontal and vertical.
    sar_bands: ClassVar[tuple[str, ...]] = ('HH', 'HV', 'VH', 'VV')

    #: Bands of each optical product.
    products: ClassVar[dict[str, tuple[str, ...]]] = {
        'PS-RGB': ('R', 'G', 'B'),
        'PS-RGBNIR': ('R', 'G', 'B', 'NIR'),
        'RGBNIR': ('R', 'G', 'B', 'NIR'),
        'PAN': ('PAN',),
    }

    #: Optical bands of the class' own product; an instance has those of its own.
    optical_bands: tuple[str, ...] = products['PS-RGB']

    rgb_bands = ('R', 'G', 'B')
    splits: ClassVar[tuple[str, ...]] = ('train', 'test')

    CLASSES: ClassVar[Classes] = Classes(
        (0, 1), Legend(('background', 'building'), ('#9aa5b1', '#d55e00'))
    )

    def __init__(
        self,
        root: str | Path = 'data',
        split: str = 'train',
        bands: Sequence[str] | None = None,
        optical: Optical = 'PS-RGB',
        crs: CRS | None = None,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        """Initialize a new SpaceNet6 instance.

        Args:
            root: Folder of the data set.
            split: 'train', or 'test' with radar only and without labels.
            bands: Names of the bands to read, such as ``sar_bands``; all those of
                the split by default.
            optical: The product that optical bands come from; one of other pixels is
                resampled to those of the radar.
            crs: Warp everything to this coordinate reference system instead of reading
                each tile in its own.
            res: Pixel size in units of *crs*; that of the first tile by default.
            transforms: Function applied to each sample.
            download: Whether the archive is downloaded if it is not there.
            checksum: Whether an archive that is there is compared with its checksum,
                which takes long.

        Raises:
            RuntimeError: If the archive is corrupt.
            DatasetNotFoundError: If neither tiles nor archive are there, and *download*
                is false.
            FileNotFoundError: If a tile lacks its optical image or its buildings.
            ValueError: If there is no such split, band or product, or if radar and
                optical image of a tile do not lie on one place.
        """
        self.paths = self.root = Path(root)
        self.split = split
        check_split(split, self.splits, 'SpaceNet6')
        chosen('product', [optical], tuple(self.products), 'SpaceNet6')
        self.optical_bands = () if split == 'test' else self.products[optical]
        all_bands = (*self.sar_bands, *self.optical_bands)
        names = chosen('band', bands, all_bands, f'SpaceNet6 ({split})')
        folder = self._folder(download, checksum)
        tiles = _tiles(folder / 'SAR-Intensity', '.tif')
        scenes = open_parallel(
            partial(_open, names=self.sar_bands), [tiles[tile] for tile in tiles]
        )
        if {*names} & {*self.optical_bands}:
            images = _of_tiles(tiles, folder / optical, '.tif')
            others = open_parallel(partial(_open, names=self.optical_bands), images)
            scenes = list(map(paired, scenes, others))
        labels: list[FootprintLabels] = []
        if split == 'train':
            files = _of_tiles(tiles, folder / 'geojson_buildings', '.geojson')
            labels = [FootprintLabels(path, None, self.CLASSES) for path in files]
        super().__init__(
            [scene.select(names) for scene in scenes],
            labels or [None] * len(scenes),
            self.CLASSES if labels else None,
            crs,
            res,
            transforms=transforms,
        )

    def _folder(self, download: bool, checksum: bool) -> Path:
        """Folder of the products."""
        base = self.root / 'SN6_buildings' / self.split
        # Wherever the archive was extracted: it has folders of its own above this one.
        found = sorted(base.glob('**/AOI_11_Rotterdam'))
        if found and not checksum:
            return found[0]
        name = self.tarballs[self.split]
        into = f'SN6_buildings/{self.split}'
        inner = {'train': 'train', 'test': 'test_public'}[self.split]
        place = f'{into}/{inner}/AOI_11_Rotterdam'
        archive = Archive(
            name=f'{into}/{name}',
            creates=found[0].relative_to(self.root).as_posix() if found else place,
            url=self.url.format(name=name),
            md5=self.md5s[self.split],
            page=self.page,
            into=into,
        )
        obtain(archive, self.root, download=download, checksum=checksum)
        return self.root / archive.creates


def _open(path: Path, names: Sequence[str]) -> Scene:
    with explained(path), open_raster(path) as source:
        check_complete(source, path)
        # All bands: the fourth of an 8-bit file is taken for transparency by GDAL, but
        # it is near infrared.
        bands = tuple(
            band_of(source, path, index, f'{index}') for index in source.indexes
        )
        scene = Scene(_tile(path), path, grid_of(source), bands)
    named = with_names(scene, names).bands
    # Black is what was not measured, in every product, though no file says it.
    return replace(scene, bands=tuple(replace(band, nodata=0) for band in named))


def _tiles(folder: Path, suffix: str) -> dict[str, Path]:
    """Files of a folder by their tile, sorted."""
    files = sorted(folder.glob(f'*{suffix}')) if folder.is_dir() else []
    tiles = {_tile(path): path for path in files if not path.name.startswith('.')}
    if not tiles:
        raise FileNotFoundError(
            f'{folder} has no file *{suffix}; extract the archive again, or get it '
            f'from {SpaceNet6.page}'
        )
    return tiles


def _of_tiles(
    tiles: Sequence[str] | dict[str, Path], folder: Path, suffix: str
) -> list[Path]:
    """The file of each tile in a folder."""
    there = _tiles(folder, suffix)
    if missing := [tile for tile in tiles if tile not in there]:
        raise FileNotFoundError(
            f'{len(missing)} tiles have no file in {folder}, such as {missing[0]}; '
            f'extract the archive again, or get it from {SpaceNet6.page}'
        )
    return [there[tile] for tile in tiles]


def _tile(path: Path) -> str:
    if (match := _TILE.search(path.stem)) is None:
        raise ValueError(
            f'{path} does not end in strip and tile, as in '
            '20190804111224_20190804111453_tile_8679; take it out'
        )
    return match[1]
