"""Grass: coverage of grassland in five levels."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rasterio.crs import CRS

from .archives import Archive
from .arguments import check_split, chosen
from .classes import Classes, Legend
from .labelled_images import (
    find_pairs,
    obtain_pairs,
    open_or_explain,
    open_parallel,
    with_names,
)
from .labels import RasterLabels
from .scene_dataset import SceneDataset


class Grass(SceneDataset):
    """Grass dataset.

    Satellite images of grassland with its coverage in five levels, published with KTDA
    (Zhang et al., 2025).

    Dataset features:

    * RGB images of 256 x 256 pixels, 8 bit
    * manual polygons, drawn as masks of the same size
    * about 1,150 pairs, as the schedule of the authors suggests; four fifths for training

    Sensor, pixel size and region are not stated with the files. Those that have a
    coordinate reference system keep it; if none has one, they are laid out in a plane
    that is nowhere on Earth.

    Dataset format:

    .. code-block:: text

       root/                  (or root/grass/)
       ├── img_dir/
       │   ├── train/
       │   │   ├── 81.tif     numbers, with gaps
       │   │   └── …
       │   └── val/
       └── ann_dir/
           ├── train/
           │   ├── 81.png     indexed, 0 to 4
           │   └── …
           └── val/

    Dataset classes:

    0. low
    1. middle-low
    2. middle
    3. middle-high
    4. high

    Class 0 is also what was not annotated: background, roads, buildings, bare rock, and
    the gaps between polygons. No pixel is without a label.

    The licence is CC BY-NC 4.0. The download has about 180 MB; its checksum is not known,
    so that it cannot be told whether the file is the one that was meant.

    If you use this dataset in your research, please cite the following paper:

    * https://doi.org/10.1109/ICME59968.2025.11209838
    """

    url = 'https://huggingface.co/datasets/XavierJiezou/ktda-datasets/resolve/main/grass.zip'

    # Into a folder of its own, whatever the archive begins with. No checksum is known.
    archive = Archive(name='grass.zip', creates='grass', into='grass', url=url)

    all_bands = ('R', 'G', 'B')
    rgb_bands = all_bands
    splits = ('train', 'val')

    CLASSES: ClassVar[Classes] = Classes(
        (0, 1, 2, 3, 4),
        Legend(
            ('low', 'middle-low', 'middle', 'middle-high', 'high'),
            ('#b96547', '#f8ca9b', '#d3e89e', '#8abf68', '#5c904d'),
        ),
    )

    def __init__(
        self,
        root: str | Path = 'data',
        split: str = 'train',
        bands: Sequence[str] | None = None,
        crs: CRS | None = None,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        download: bool = False,
    ) -> None:
        """Initialize a new Grass instance.

        Args:
            root: Folder of the data set, or the folder it lies in.
            split: One of 'train' and 'val'. What others call test is 'val' here.
            bands: Some of R, G and B; all of them by default.
            crs: Warp everything to this coordinate reference system; only if the files
                have one.
            res: Pixel size in units of *crs*; that of the first image by default.
            transforms: Function applied to each sample.
            download: Whether the archive is downloaded if it is not in *root*.

        Raises:
            DatasetNotFoundError: If the data set is not there and *download* is false.
            FileNotFoundError: If an image has no label.
            ValueError: If split or band is unknown, or if some files have a CRS and
                others have none.
        """
        check_split(split, self.splits, 'Grass')
        names = chosen('band', bands, self.all_bands, 'Grass')
        self.paths = self.root = Path(root)
        self.split = split
        folder = obtain_pairs(self.archive, self.root, ('grass',), download=download)
        pairs = find_pairs(
            folder / 'img_dir' / split, folder / 'ann_dir' / split, '.tif'
        )
        # A header for each: any of them may say where it lies.
        opened = open_parallel(open_or_explain, [image for image, _ in pairs])
        scenes = [with_names(scene, self.all_bands) for scene in opened]
        labels = [RasterLabels(label, self.CLASSES) for _, label in pairs]
        super().__init__(
            [scene.select(names) for scene in scenes],
            labels,
            self.CLASSES,
            crs,
            res,
            transforms=transforms,
        )
