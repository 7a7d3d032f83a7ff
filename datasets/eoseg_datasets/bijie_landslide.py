"""Bijie landslides: satellite images of single landslides, each of its own size."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from .archives import Archive, obtain
from .arguments import chosen
from .classes import Classes, Legend
from .grid import Grid
from .labelled_images import open_or_explain, open_parallel, with_names
from .labels import Labels, RasterLabels
from .scene import Scene
from .scene_dataset import SceneDataset

#: What images, elevation and masks may end in.
_SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff')


#: Class index of each stored value; copies of the data have 0 and 1.
_MEANING = {0: 0, 1: 1, 255: 1}


class ConstantLabels:
    """The same class everywhere in a scene."""

    def __init__(self, index: int) -> None:
        """Initialize a new ConstantLabels instance.

        Args:
            index: Index of the class.
        """
        self.index = index

    def read(self, grid: Grid, window: Window) -> NDArray[np.uint8]:
        """Classes in a window, as :class:`~eoseg_datasets.labels.Labels` says."""
        return np.full((int(window.height), int(window.width)), self.index, np.uint8)


class BijieLandslide(SceneDataset):
    """Bijie landslide dataset.

    The `Bijie landslide dataset <https://doi.org/10.1007/s10346-020-01353-2>`__ has
    landslides of the mountains of Bijie in the province of Guizhou, China, in TripleSat
    images of 2018. It was made by S. Ji, D. Yu, C. Shen, W. Li and Q. Xu of Wuhan
    University and Chengdu University of Technology.

    Dataset features:

    * 770 images of landslides with masks, 2,003 of places without one
    * RGB of 0.8 m, 8 bit, of sizes from 61 to 349 pixels, without place
    * elevation of 2 m, resampled to the pixels of the images

    Dataset format:

    .. code-block:: text

       root/                     (or Bijie-landslide-dataset/ in it)
       ├── landslide/
       │   ├── image/
       │   │   └── df001.png
       │   ├── dem/
       │   │   └── df001.png
       │   └── mask/
       │       └── df001.png      0 and 255
       └── non-landslide/
           ├── image/
           └── dem/

    or, as TransLandSeg has it, without elevation and without other places:

    .. code-block:: text

       root/
       ├── image/
       │   └── df001.png
       └── label/
           └── df001.png

    Dataset classes:

    0. background (stored as 0)
    1. landslide (stored as 255)

    There is no published split; TransLandSeg draws 70 % to train and 30 % to validate.
    Pictures lie side by side in a plane that is nowhere on Earth. Each header is read,
    as no two sizes are alike: 770 or 2,773 small files.

    The licence is not stated with the copies that this follows. The data are downloaded
    by hand, see ``url``.

    If you use this dataset in your research, please cite the following paper:

    * https://doi.org/10.1007/s10346-020-01353-2
    """

    #: Where a person gets the data.
    url = 'http://gpcv.whu.edu.cn/data/Bijie_pages.html'

    all_bands: ClassVar[tuple[str, ...]] = ('R', 'G', 'B', 'dem')
    rgb_bands = ('R', 'G', 'B')

    CLASSES: ClassVar[Classes] = Classes(
        (0, 255), Legend(('background', 'landslide'), ('#9aa5b1', '#d55e00'))
    )

    #: Folder in the archive.
    directory = 'Bijie-landslide-dataset'

    def __init__(
        self,
        root: str | Path = 'data',
        bands: Sequence[str] | None = None,
        non_landslide: bool = False,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        """Initialize a new BijieLandslide instance.

        Args:
            root: Folder of the data set.
            bands: Names of the bands to read; red, green and blue by default. With
                ``dem``, each image needs its elevation.
            non_landslide: Whether images of places without a landslide are read, too;
                all of their pixels are background.
            transforms: Function applied to each sample.

        Raises:
            DatasetNotFoundError: If neither files nor archive are there.
            FileNotFoundError: If an image has no mask, or lacks an elevation that
                *bands* asks for.
            ValueError: If there is no such band, or an image is not of three.
        """
        self.paths = self.root = Path(root)
        names = chosen(
            'band', bands or self.rgb_bands, self.all_bands, 'BijieLandslide'
        )
        folder = self._folder()
        plain = (folder / 'image').is_dir()
        places = folder if plain else folder / 'landslide'
        files = _images(places / 'image')
        masks = _beside(files, places / ('label' if plain else 'mask'))
        labels: list[Labels] = [
            RasterLabels(path, self.CLASSES, _MEANING) for path in masks
        ]
        if non_landslide:
            others = _images(folder / 'non-landslide' / 'image')
            files += others
            labels += [ConstantLabels(0) for _ in others]
        scenes = [
            with_names(scene, self.rgb_bands)
            for scene in open_parallel(partial(open_or_explain, root=folder), files)
        ]
        if 'dem' in names:
            elevations = open_parallel(open_or_explain, _elevations(files))
            scenes = list(map(_with_elevation, scenes, elevations))
        super().__init__(
            [scene.select(names) for scene in scenes],
            labels,
            self.CLASSES,
            transforms=transforms,
        )

    def _folder(self) -> Path:
        for folder in (self.root, self.root / self.directory):
            if (folder / 'landslide').is_dir() or (folder / 'image').is_dir():
                return folder
        archive = Archive(
            name=f'{self.directory}.zip', creates=self.directory, page=self.url
        )
        obtain(archive, self.root)
        return self.root / self.directory


def _images(folder: Path) -> list[Path]:
    """Images of a folder, sorted; hidden files are notes of a Mac."""
    files = _by_stem(folder)
    if not files:
        raise FileNotFoundError(
            f'{folder} has no images; get the data again from {BijieLandslide.url}'
        )
    return [files[stem] for stem in sorted(files)]


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {
        path.stem: path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith('.')
    }


def _beside(files: Sequence[Path], folder: Path) -> list[Path]:
    """The file of the same name for each, in another folder."""
    there = _by_stem(folder)
    if missing := [path for path in files if path.stem not in there]:
        raise FileNotFoundError(
            f'{len(missing)} images have no file of their name in {folder}, such as '
            f'{missing[0]}; get the data again from {BijieLandslide.url}, or take them '
            'out'
        )
    return [there[path.stem] for path in files]


def _elevations(files: Sequence[Path]) -> list[Path]:
    """The elevation of each image, from the folder dem beside that of the images."""
    folders = dict.fromkeys(path.parents[1] for path in files)
    return [
        elevation
        for folder in folders
        for elevation in _beside(
            [path for path in files if path.parents[1] == folder], folder / 'dem'
        )
    ]


def _with_elevation(scene: Scene, elevation: Scene) -> Scene:
    """A scene with the first band of another file as its last."""
    band = replace(elevation.bands[0], name='dem')
    return replace(scene, bands=(*scene.bands, band))
