"""LoveDA: land cover of towns and countryside in images of 0.3 m."""

import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal

import torchgeo.datasets
from affine import Affine

from .archives import Archive, obtain
from .arguments import check_split, chosen
from .classes import IGNORE_INDEX, Classes, Legend
from .grid import Grid
from .labels import Labels, RasterLabels
from .scene import Band, Scene
from .scene_dataset import SceneDataset

#: First bytes of a PNG file, before its width and height.
_PNG = b'\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR'


class LoveDA(SceneDataset):
    """LoveDA dataset.

    Land cover of urban and rural areas of Nanjing, Changzhou and Wuhan, published by
    Wuhan University for segmentation and for adaptation from one domain to the other.

    Dataset features:

    * 5,987 images of 1024 x 1024 pixels of 0.3 m from Google Earth, red, green and blue,
      8 bit, without georeference
    * training: 1,156 urban and 1,366 rural; validation: 677 and 992; test: 820 and 976
    * the test split has no masks; its scores come from the authors' server

    The images are laid out side by side in a plane that is nowhere on Earth.

    Dataset format:

    .. code-block:: text

       root/
       ├── Train/
       │   ├── Urban/
       │   │   ├── images_png/
       │   │   │   ├── 1366.png
       │   │   │   └── …
       │   │   └── masks_png/
       │   │       ├── 1366.png       0 to 7
       │   │       └── …
       │   └── Rural/
       ├── Val/
       └── Test/                      without masks_png

    Dataset classes, by what stands for them in the masks:

    1. background
    2. building
    3. road
    4. water
    5. barren
    6. forest
    7. agriculture

    In samples they are 0 to 6. What is 0 in the masks has no label (255); in TorchGeo's
    ``LoveDA`` it stays 0, like a class.

    The licence is CC BY-NC-SA 4.0; the images are Google's, for academic use only. The
    download has about 9.5 GB.

    If you use this dataset in your research, please cite the following paper:

    * https://arxiv.org/abs/2110.08733
    """

    #: Archives by split: url, filename and md5, as TorchGeo has them.
    info_dict: ClassVar[dict[str, dict[str, str]]] = torchgeo.datasets.LoveDA.info_dict

    all_bands = ('R', 'G', 'B')
    rgb_bands = all_bands
    splits = ('train', 'val', 'test')
    #: The two domains. (What is read is ``scenes``, as in every data set here.)
    domains = ('urban', 'rural')

    CLASSES: ClassVar[Classes] = Classes(
        (1, 2, 3, 4, 5, 6, 7),
        Legend(
            (
                'background', 'building', 'road', 'water', 'barren', 'forest',
                'agriculture',
            ),
            (
                '#ffffff', '#ff0000', '#ffff00', '#0000ff', '#9f81b7', '#00ff00',
                '#ffc380',
            ),
        ),
    )  # fmt: skip

    def __init__(
        self,
        root: str | Path = 'data',
        split: str = 'train',
        scene: Sequence[Literal['urban', 'rural']] = ('urban', 'rural'),
        bands: Sequence[str] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        """Initialize a new LoveDA instance.

        Args:
            root: Folder of the data set.
            split: One of 'train', 'val' and 'test'.
            scene: The domains to read, 'urban', 'rural' or both.
            bands: Some of R, G and B; all of them by default.
            transforms: Function applied to each sample.
            download: Whether the archive of the split is downloaded if it is not in
                *root*.
            checksum: Whether an archive in *root* is compared with its checksum.

        Raises:
            DatasetNotFoundError: If the split is not there and *download* is false.
            FileNotFoundError: If a folder of the split is missing, or a mask.
            ValueError: If split, scene or band are unknown, or if an image is no PNG.
        """
        check_split(split, self.splits, 'LoveDA')
        asked = chosen('scene', scene, self.domains, 'LoveDA')
        names = chosen('band', bands, self.all_bands, 'LoveDA')
        self.paths = self.root = Path(root)
        self.split = split
        info = self.info_dict[split]
        archive = Archive(
            name=info['filename'],
            creates=split.capitalize(),
            url=info['url'],
            md5=info['md5'],
        )
        obtain(archive, self.root, download=download, checksum=checksum)
        folders = [self.root / archive.creates / name.capitalize() for name in asked]
        images = [path for folder in folders for path in _images(folder)]
        labelled = split != 'test'
        super().__init__(
            [scene.select(names) for scene in _open(images)],
            [_labels(path) if labelled else None for path in images],
            self.CLASSES if labelled else None,
            transforms=transforms,
        )


#: Class of each value in a mask; 0 is what was not annotated.
_MEANING = {0: IGNORE_INDEX} | {value: value - 1 for value in LoveDA.CLASSES.values}


def _images(folder: Path) -> list[Path]:
    """Images of a domain, in the order of their numbers; each has its mask.

    Raises:
        FileNotFoundError: If there is none, or if one has no mask.
    """
    images = sorted((folder / 'images_png').glob('*.png'), key=_number)
    again = f'extract {folder.parent.name}.zip again'
    if not images:
        raise FileNotFoundError(f'{folder / "images_png"} has no image; {again}')
    masks = {path.name for path in (folder / 'masks_png').glob('*.png')}
    lacking = [path for path in images if path.name not in masks]
    if lacking and folder.parent.name != 'Test':
        raise FileNotFoundError(
            f'{lacking[0]} has no mask in {folder / "masks_png"} (and '
            f'{len(lacking) - 1} more have none); {again}'
        )
    return images


def _number(path: Path) -> tuple[int, str]:
    """Key by which 9.png comes before 10.png."""
    return (int(path.stem) if path.stem.isdecimal() else 0), path.stem


def _labels(image: Path) -> Labels:
    mask = image.parents[1] / 'masks_png' / image.name
    return RasterLabels(mask, LoveDA.CLASSES, _MEANING)


def _open(paths: Sequence[Path]) -> list[Scene]:
    """Scenes, of whose files the first 26 bytes are read, which say all there is to know.

    Thousands of files opened with GDAL would take seconds.
    """
    # At the same time: a disk across the network answers late, not slowly.
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(_open_one, paths))


def _open_one(path: Path) -> Scene:
    width, height = _size(path)
    names = enumerate(LoveDA.all_bands, 1)
    return Scene(
        name=f'{path.parents[1].name}/{path.stem}',
        path=path,
        grid=Grid(None, Affine.identity(), width, height),
        bands=tuple(Band(name, path, i, dtype='uint8') for i, name in names),
    )


def _size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG file with red, green and blue of 8 bit.

    Raises:
        ValueError: If the file is none.
    """
    with path.open('rb') as file:
        head = file.read(26)
    # Depth 8 and colour type 2, which is red, green and blue.
    if head[:16] != _PNG or head[24:] != b'\x08\x02':
        raise ValueError(
            f'{path} is no PNG file with red, green and blue of 8 bit; extract the '
            'archive again'
        )
    width, height = struct.unpack('>II', head[16:24])
    return width, height
