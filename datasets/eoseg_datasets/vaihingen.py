"""Vaihingen: six urban classes in aerial images of 9 cm."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from rasterio.crs import CRS
from torchgeo.datasets import Vaihingen2D

from .arguments import check_split, chosen
from .classes import Classes
from .isprs import CLASSES, Files, labels_of, locate, open_tile
from .scene_dataset import SceneDataset

#: Tiles of the contest without their suffix.
_ISPRS = {
    name: tuple(sorted(file.removesuffix('.tif') for file in files))
    for name, files in Vaihingen2D.splits.items()
}

#: Areas that work on domain adaptation holds out (ST-DASegNet and those it compares with).
_HELD_OUT = tuple(
    f'top_mosaic_09cm_area{area}' for area in (2, 5, 7, 8, 13, 20, 22, 24)
)


class Vaihingen(SceneDataset):
    """Vaihingen dataset.

    Aerial images of a small town with detached houses, published by the ISPRS for its 2D
    semantic labelling contest.

    Dataset features:

    * 33 true orthophotos of about 1900 x 2500 pixels of 9 cm: near infrared, red and
      green, 8 bit; no blue
    * every pixel has a label; in the eroded labels, a strip of three pixels on either
      side of each edge has none, and the contest counts without it

    Tiles are read by window; there is no need to cut them. They keep their coordinate
    reference system if the files have one. If none has, they are laid out in a plane that
    is nowhere on Earth, whatever their world files (.tfw) say.

    Dataset format:

    .. code-block:: text

       root/
       ├── top/                       or ISPRS_semantic_labeling_Vaihingen/top/
       │   ├── top_mosaic_09cm_area1.tif
       │   └── …
       ├── ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE/
       │   ├── top_mosaic_09cm_area1.tif          (or these files in root itself)
       │   └── …
       └── ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE/
           ├── top_mosaic_09cm_area1_noBoundary.tif
           └── …

    In place of a folder there may be the archive of its name, which is then extracted;
    ``top`` is in ``ISPRS_semantic_labeling_Vaihingen.zip``.

    Dataset classes:

    0. impervious surfaces (white)
    1. building (blue)
    2. low vegetation (cyan)
    3. tree (green)
    4. car (yellow)
    5. clutter (red)

    Black is no label (255). In TorchGeo's ``Vaihingen2D`` clutter is 0 and the others
    follow.

    There are two divisions of the tiles, and scores of one say nothing about the other:
    the contest has 16 for training and 17 for testing; work on domain adaptation has 25
    and 8 (areas 2, 5, 7, 8, 13, 20, 22 and 24).

    The data are for research, on the terms at the page they can be had from (about 15 GB in
    all, of which images and labels are a small part). Papers must name the provider, the
    German Society for Photogrammetry, Remote Sensing and Geoinformation (DGPF), and cite
    Cramer (2010), "The DGPF test on digital aerial camera evaluation", PFG 2/2010, 73-82:

    * https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/default.aspx

    If you use this dataset in your research, please cite the following paper:

    * https://doi.org/10.5194/isprsannals-I-3-293-2012
    """

    all_bands = ('IR', 'R', 'G')
    rgb_bands = all_bands

    #: Tiles of each split, for each division.
    divisions: ClassVar[dict[str, dict[str, tuple[str, ...]]]] = {
        'isprs': _ISPRS,
        'adaptation': {
            'train': tuple(sorted({*_ISPRS['train'], *_ISPRS['test']} - {*_HELD_OUT})),
            'test': _HELD_OUT,
        },
    }
    #: Tiles of each split, as the contest has them.
    splits: ClassVar[dict[str, tuple[str, ...]]] = _ISPRS

    CLASSES: ClassVar[Classes] = CLASSES

    _IMAGES = Files(
        'ISPRS_semantic_labeling_Vaihingen',
        (
            'top',
            'ISPRS_semantic_labeling_Vaihingen/top',
            'ISPRS_semantic_labeling_Vaihingen/ISPRS_semantic_labeling_Vaihingen/top',
        ),
        bands=all_bands,
        md5=Vaihingen2D.md5s[0],
    )
    _LABELS: ClassVar[dict[str, Files]] = {
        'full': Files(
            'ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE',
            (
                '',
                'gts_for_participants',
                'ISPRS_semantic_labeling_Vaihingen/gts_for_participants',
            ),
            md5=Vaihingen2D.md5s[1],
        ),
        'eroded': Files(
            'ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE',
            ('',),
            '_noBoundary',
        ),
    }

    def __init__(
        self,
        root: str | Path = 'data',
        split: str = 'train',
        bands: Sequence[str] | None = None,
        labels: Literal['full', 'eroded'] | None = None,
        division: Literal['isprs', 'adaptation'] = 'isprs',
        crs: CRS | None = None,
        res: float | tuple[float, float] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        checksum: bool = False,
    ) -> None:
        """Initialize a new Vaihingen instance.

        Args:
            root: Folder of the data set.
            split: One of 'train' and 'test'.
            bands: Some of IR, R and G, in any order; all of them by default.
            labels: 'full' or 'eroded'; by default those that are there, the full ones if
                both are.
            division: 'isprs' (16 tiles for training and 17 for testing) or 'adaptation'
                (25 and 8).
            crs: Warp everything to this coordinate reference system; only if the files
                have one.
            res: Pixel size in units of *crs*; that of the tiles by default.
            transforms: Function applied to each sample.
            checksum: Whether archives in *root* are compared with their checksums, as far
                as these are known.

        Raises:
            DatasetNotFoundError: If images or labels are not in *root*.
            FileNotFoundError: If some tiles of the split are not there, or lack labels.
            ValueError: If split, division, band or labels are unknown, or if some files
                have a CRS and others have none.
        """
        if division not in self.divisions:
            raise ValueError(
                f'division must be {" or ".join(self.divisions)}, got {division!r}'
            )
        check_split(split, self.splits, 'Vaihingen')
        names = chosen('band', bands, self.all_bands, 'Vaihingen')
        self.paths = self.root = Path(root)
        self.split = split
        self.division = division
        tiles = self.divisions[division][split]
        _, paths = locate([self._IMAGES], self.root, tiles, checksum=checksum)
        found = labels_of(self._LABELS, labels, self.root, tiles, checksum=checksum)
        scenes = [open_tile(path, self.all_bands) for path in paths]
        super().__init__(
            [scene.select(names) for scene in scenes],
            found,
            CLASSES,
            crs,
            res,
            transforms=transforms,
        )
