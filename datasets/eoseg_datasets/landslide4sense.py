"""Landslide4Sense: landslides around the world in Sentinel-2 images with terrain."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from affine import Affine

from .archives import Archive, obtain
from .arguments import check_split, chosen
from .classes import Classes, Legend
from .grid import Grid
from .hdf5 import HDF5Labels, HDF5Scene, require_h5py
from .scene import Band
from .scene_dataset import SceneDataset

#: Side of every patch in pixels, so that no file has to be opened to know it.
SIZE = 128

_NUMBER = re.compile(r'_(\d+)$')


class Landslide4Sense(SceneDataset):
    """Landslide4Sense dataset.

    `Landslide4Sense <https://github.com/iarai/Landslide4Sense-2022>`__ is a benchmark
    of landslide detection around the world, made for a competition of the Institute of
    Advanced Research in Artificial Intelligence in 2022.

    Dataset features:

    * 3,799 patches to train, 245 to validate and 800 to test
    * 128 x 128 pixels of about 10 m, without place or time
    * 12 bands of Sentinel-2 (B8A is left out), slope and elevation of ALOS PALSAR, all
      scaled by the authors: the numbers are no reflectances, degrees or metres

    Dataset format, that of the competition:

    .. code-block:: text

       root/
       ├── TrainData/
       │   ├── img/
       │   │   └── image_1.h5     key img, of shape (128, 128, 14)
       │   └── mask/
       │       └── mask_1.h5      key mask, of shape (128, 128)
       ├── ValidData/
       │   └── img/               (and mask/ since 2024)
       └── TestData/
           └── img/               (and mask/ since 2024)

    or that of `Hugging Face
    <https://huggingface.co/datasets/ibm-nasa-geospatial/Landslide4sense>`__:

    .. code-block:: text

       root/
       ├── images/
       │   └── train/             and validation/ and test/
       │       └── image_1.h5
       └── annotations/
           └── train/             and validation/ and test/
               └── mask_1.h5

    Dataset classes:

    0. non-landslide
    1. landslide

    A split without masks has no labels: its samples have no mask.

    The licence of the data is not stated with them. There is no single file to
    download: put the three archives of the first address into *root*, or get the
    folders of the second with ``hf download ibm-nasa-geospatial/Landslide4sense
    --repo-type dataset``.

    * https://zenodo.org/records/10463239
    * https://huggingface.co/datasets/ibm-nasa-geospatial/Landslide4sense

    If you use this dataset in your research, please cite the following paper:

    * https://arxiv.org/abs/2206.00515

    .. note::

       This dataset needs `h5py <https://www.h5py.org>`__: ``pip install 'eoseg[h5]'``.
    """

    url = 'https://zenodo.org/records/10463239'

    all_bands: ClassVar[tuple[str, ...]] = (
        *(f'B{i}' for i in range(1, 13)),
        'slope',
        'dem',
    )
    rgb_bands = ('B4', 'B3', 'B2')
    splits: ClassVar[tuple[str, ...]] = ('train', 'val', 'test')

    #: Mean and standard deviation of each band in the baseline of the authors.
    mean: ClassVar[tuple[float, ...]] = (
        -0.4914, -0.3074, -0.1277, -0.0625, 0.0439, 0.0803, 0.0644, 0.0802, 0.3000,
        0.4082, 0.0823, 0.0516, 0.3338, 0.7819,
    )  # fmt: skip
    std: ClassVar[tuple[float, ...]] = (
        0.9325, 0.8775, 0.8860, 0.8869, 0.8857, 0.8418, 0.8354, 0.8491, 0.9061, 1.6072,
        0.8848, 0.9232, 0.9018, 1.2913,
    )  # fmt: skip

    CLASSES: ClassVar[Classes] = Classes(
        (0, 1), Legend(('non-landslide', 'landslide'), ('#9aa5b1', '#d55e00'))
    )

    #: Folders of images and masks of each split, in either layout.
    folders: ClassVar[Mapping[str, tuple[tuple[str, str], ...]]] = {
        'train': (
            ('TrainData/img', 'TrainData/mask'),
            ('images/train', 'annotations/train'),
        ),
        'val': (
            ('ValidData/img', 'ValidData/mask'),
            ('images/validation', 'annotations/validation'),
        ),
        'test': (
            ('TestData/img', 'TestData/mask'),
            ('images/test', 'annotations/test'),
        ),
    }

    def __init__(
        self,
        root: str | Path = 'data',
        split: str = 'train',
        bands: Sequence[str] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        """Initialize a new Landslide4Sense instance.

        Args:
            root: Folder of the data set.
            split: 'train', 'val' or 'test'.
            bands: Names of the bands to read; all of them by default.
            transforms: Function applied to each sample.

        Raises:
            DatasetNotFoundError: If neither files nor archive of the split are there.
            FileNotFoundError: If some images have masks and others have none.
            ModuleNotFoundError: If h5py is not installed.
            ValueError: If there is no such split or band.
        """
        require_h5py()
        self.paths = self.root = Path(root)
        self.split = split
        check_split(split, self.splits, 'Landslide4Sense')
        names = chosen('band', bands, self.all_bands, 'Landslide4Sense')
        images, masks = _pairs(*self._folders())
        grid = Grid(None, Affine.identity(), SIZE, SIZE)
        scenes = [
            HDF5Scene(
                name=path.stem,
                path=path,
                grid=grid,
                bands=tuple(
                    Band(name, path, self.all_bands.index(name) + 1) for name in names
                ),
            )
            for path in images
        ]
        labels = [HDF5Labels(path, {0: 0, 1: 1}, 'mask') for path in masks]
        super().__init__(
            scenes,
            labels or [None] * len(scenes),
            self.CLASSES if labels else None,
            transforms=transforms,
        )

    def _folders(self) -> tuple[Path, Path]:
        """Folders of images and masks of the split; the second need not be there."""
        for images, masks in self.folders[self.split]:
            if (self.root / images).is_dir():
                return self.root / images, self.root / masks
        name = self.folders[self.split][0][0].split('/')[0]
        archive = Archive(name=f'{name}.zip', creates=name, page=self.url)
        obtain(archive, self.root)
        images, masks = self.folders[self.split][0]
        return self.root / images, self.root / masks


def _pairs(images: Path, masks: Path) -> tuple[list[Path], list[Path]]:
    """Images by their number, and the mask of each; none if no image has one."""
    numbered = {_number(path): path for path in images.glob('*.h5')}
    if not numbered:
        raise FileNotFoundError(
            f'{images} has no file image_1.h5, …; get the data again from '
            f'{Landslide4Sense.url}'
        )
    labels = {_number(path): path for path in masks.glob('*.h5')}
    order = sorted(numbered)
    missing = [numbered[number] for number in order if number not in labels]
    if labels and missing:
        raise FileNotFoundError(
            f'{len(missing)} images have no mask in {masks}, such as '
            f'{missing[0].name}; get them again from {Landslide4Sense.url}'
        )
    return [numbered[n] for n in order], [labels[n] for n in order] if labels else []


def _number(path: Path) -> int:
    if (match := _NUMBER.search(path.stem)) is None:
        raise ValueError(
            f'{path} has no number at its end, as image_1.h5 has; take it out'
        )
    return int(match[1])
