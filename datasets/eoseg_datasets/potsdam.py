"""Potsdam: six urban classes in aerial images of 5 cm."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from rasterio.crs import CRS
from torchgeo.datasets import Potsdam2D

from .arguments import check_split, chosen
from .classes import Classes
from .isprs import CLASSES, Files, labels_of, locate, open_tile
from .scene_dataset import SceneDataset


class Potsdam(SceneDataset):
    """Potsdam dataset.

    Aerial images of a historic city with large blocks, published by the ISPRS for its 2D
    semantic labelling contest.

    Dataset features:

    * 38 true orthophotos of 6000 x 6000 pixels of 5 cm: near infrared, red, green and
      blue, 8 bit
    * published with four bands, as red, green and blue, and as near infrared, red and
      green
    * every pixel has a label; in the eroded labels, a strip of three pixels on either
      side of each edge has none, and the contest counts without it

    Tiles are read by window; there is no need to cut them. They keep their coordinate
    reference system if the files have one. If none has, they are laid out in a plane that
    is nowhere on Earth, whatever their world files (.tfw) say.

    Dataset format:

    .. code-block:: text

       root/
       ├── 4_Ortho_RGBIR/             or 3_Ortho_IRRG, 2_Ortho_RGB: one is enough
       │   ├── top_potsdam_2_10_RGBIR.tif
       │   └── …
       ├── 5_Labels_all/              or the files in root itself
       │   ├── top_potsdam_2_10_label.tif
       │   └── …
       └── 5_Labels_all_noBoundary/   eroded
           ├── top_potsdam_2_10_label_noBoundary.tif
           └── …

    In place of a folder there may be the archive, such as ``4_Ortho_RGBIR.zip``, which is
    then extracted.

    Dataset classes:

    0. impervious surfaces (white)
    1. building (blue)
    2. low vegetation (cyan)
    3. tree (green)
    4. car (yellow)
    5. clutter (red)

    Black is no label (255). In TorchGeo's ``Potsdam2D`` clutter is 0 and the others follow.

    The data are for research, on the terms at the page they can be had from (about 13 GB in
    all):

    * https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/default.aspx

    If you use this dataset in your research, please cite the following paper:

    * https://doi.org/10.5194/isprsannals-I-3-293-2012
    """

    all_bands = ('R', 'G', 'B', 'IR')
    rgb_bands = ('R', 'G', 'B')

    #: Tiles of each split, as the contest has them.
    splits: ClassVar[dict[str, tuple[str, ...]]] = {
        name: tuple(sorted(tiles)) for name, tiles in Potsdam2D.splits.items()
    }

    CLASSES: ClassVar[Classes] = CLASSES

    _IMAGES = (
        Files('4_Ortho_RGBIR', suffix='_RGBIR', bands=all_bands, md5=Potsdam2D.md5s[0]),
        Files('3_Ortho_IRRG', suffix='_IRRG', bands=('IR', 'R', 'G')),
        Files('2_Ortho_RGB', suffix='_RGB', bands=('R', 'G', 'B')),
    )
    _LABELS: ClassVar[dict[str, Files]] = {
        'full': Files('5_Labels_all', ('', '5_Labels_for_participants'), '_label'),
        'eroded': Files(
            '5_Labels_all_noBoundary',
            ('', '5_Labels_for_participants_no_Boundary'),
            '_label_noBoundary',
        ),
    }

    def __init__(
        self,
        root: str | Path = 'data',
        split: str = 'train',
        bands: Sequence[str] | None = None,
        labels: Literal['full', 'eroded'] | None = None,
        crs: CRS | None = None,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        checksum: bool = False,
    ) -> None:
        """Initialize a new Potsdam instance.

        Args:
            root: Folder of the data set.
            split: One of 'train' (24 tiles) and 'test' (14 tiles).
            bands: Some of R, G, B and IR, in any order; they are read from a folder that
                has them all. By default, all bands of the first folder that is there:
                4_Ortho_RGBIR, 3_Ortho_IRRG, 2_Ortho_RGB.
            labels: 'full' or 'eroded'; by default those that are there, the full ones if
                both are.
            crs: Warp everything to this coordinate reference system; only if the files
                have one.
            res: Pixel size in units of *crs*; that of the tiles by default.
            transforms: Function applied to each sample.
            checksum: Whether archives in *root* are compared with their checksums, as far
                as these are known.

        Raises:
            DatasetNotFoundError: If images or labels are not in *root*.
            FileNotFoundError: If some tiles of the split are not there, or lack labels.
            ValueError: If split, band or labels are unknown, or if some files have a CRS
                and others have none.
        """
        check_split(split, self.splits, 'Potsdam')
        self.paths = self.root = Path(root)
        self.split = split
        tiles = self.splits[split]
        kind, paths = locate(_with(bands), self.root, tiles, checksum=checksum)
        found = labels_of(self._LABELS, labels, self.root, tiles, checksum=checksum)
        scenes = [open_tile(path, kind.bands) for path in paths]
        super().__init__(
            [scene.select(bands or kind.bands) for scene in scenes],
            found,
            CLASSES,
            crs,
            res,
            transforms=transforms,
        )


def _with(bands: Sequence[str] | None) -> list[Files]:
    """Archives that have some bands.

    Raises:
        ValueError: If none has them.
    """
    if bands is None:
        return list(Potsdam._IMAGES)
    wanted = set(chosen('band', bands, Potsdam.all_bands, 'Potsdam'))
    return [kind for kind in Potsdam._IMAGES if wanted <= set(kind.bands)]
