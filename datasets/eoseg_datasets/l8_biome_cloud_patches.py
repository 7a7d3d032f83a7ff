"""L8 Biome cloud patches: pictures cut from Landsat 8 scenes, as published or anew."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from rasterio.windows import Window

from .archives import Archive
from .arguments import check_split, chosen
from .classes import IGNORE_INDEX, Classes
from .l8_biome_clouds import L8BiomeClouds, acquired
from .labelled_images import (
    alike,
    find_pairs,
    obtain_pairs,
    open_or_explain,
    with_names,
)
from .labels import RasterLabels
from .scene import ScenePatch
from .scene_dataset import SceneDataset
from .splits import Split, source_scene, split_scenes
from .stretch import stretched

_SPLITS = ('train', 'val', 'test')


class L8BiomeCloudPatches(SceneDataset):
    """L8 Biome cloud patches dataset.

    Patches cut from :class:`L8BiomeClouds`, as the authors of KTDA (Zhang et al., 2025)
    published them.

    Dataset features:

    * RGB pictures of 512 x 512 pixels (B4, B3, B2), 8 bit; each is stretched between its
      own least and greatest value, see
      :class:`~eoseg_datasets.stretch.MinMaxStretch`
    * cut without overlap from the top left of a scene; those that are all Clear were
      dropped, so that clear ground is rarer than in the scenes
    * about 13,200 pairs, as the evaluation log of the authors suggests; 60 % for
      training, 20 % for validation, 20 % for testing

    The pictures lie nowhere: they are laid out in a plane that is not on Earth. Their
    names have the scene that they were cut from. Whether one scene is in several of the
    published splits is not stated: :meth:`shared_scenes` tells.

    Dataset format:

    .. code-block:: text

       root/                  (or root/cloud/, root/l8_biome/)
       ├── img_dir/
       │   ├── train/
       │   │   ├── barren_LC80420082013220LGN00_patch_512_1024.png
       │   │   └── …          biome, scene, row and column of the upper left pixel
       │   ├── val/
       │   └── test/
       └── ann_dir/           the same, 0 to 3

    Dataset classes:

    0. Clear
    1. Cloud Shadow
    2. Thin Cloud
    3. Cloud

    Fill around the scene is Clear here, and valid.

    The licence is CC BY-NC 4.0, the scenes are in the public domain. The download has
    2.8 GB.

    If you use this dataset in your research, please cite the following:

    * https://doi.org/10.1109/ICME59968.2025.11209838
    * https://doi.org/10.5066/F7251GDH
    * https://doi.org/10.1016/j.rse.2017.03.026
    """

    url = 'https://huggingface.co/datasets/XavierJiezou/ktda-datasets/resolve/main/cloud.zip'
    sha256 = 'e8ca500c5708e5e95d0c1dc4a62c224ffa09978701d60822f9a17a957985c5e5'

    # Into a folder of its own, whatever the archive begins with.
    archive = Archive(
        name='cloud.zip',
        creates='cloud',
        into='cloud',
        url=url,
        size=2_800_950_839,
        sha256=sha256,
    )

    all_bands = ('B4', 'B3', 'B2')
    rgb_bands = all_bands
    splits = _SPLITS

    CLASSES: ClassVar[Classes] = L8BiomeClouds.CLASSES

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
        """Initialize a new L8BiomeCloudPatches instance.

        All pictures are of one size, so that the header of the first is read and no
        other.

        Args:
            root: Folder of the data set, or the folder it lies in.
            split: One of 'train', 'val' and 'test', or 'all' for the three together.
            bands: Some of B4, B3 and B2; all of them by default.
            crs: No use here, as the pictures lie nowhere; TorchGeo's data sets have it.
            res: The same.
            transforms: Function applied to each sample.
            download: Whether the archive is downloaded if it is not in *root*.
            checksum: Whether an archive in *root* is compared with its checksum.

        Raises:
            DatasetNotFoundError: If the data set is not there and *download* is false.
            FileNotFoundError: If a picture has no label.
            ValueError: If split or band is unknown.
        """
        check_split(split, (*self.splits, 'all'), 'L8BiomeCloudPatches')
        names = chosen('band', bands, self.all_bands, 'L8BiomeCloudPatches')
        self.paths = self.root = Path(root)
        self.split = split
        self.folder = obtain_pairs(
            self.archive,
            self.root,
            ('cloud', 'l8_biome'),
            download=download,
            checksum=checksum,
        )
        pairs = [
            pair
            for name in (self.splits if split == 'all' else (split,))
            for pair in find_pairs(
                self.folder / 'img_dir' / name, self.folder / 'ann_dir' / name, '.png'
            )
        ]
        first = with_names(open_or_explain(pairs[0][0]), self.all_bands)
        first = first.select(names)
        super().__init__(
            [
                replace(alike(first, image), acquired=acquired(image.stem))
                for image, _ in pairs
            ],
            [RasterLabels(label, self.CLASSES) for _, label in pairs],
            self.CLASSES,
            crs,
            res,
            transforms=transforms,
        )

    def shared_scenes(self) -> dict[str, tuple[str, ...]]:
        """Source scenes of which patches are in more than one split.

        A model that has seen a part of a scene knows its light, its ground and its
        clouds: scores on another part of it are too bright.

        Returns:
            The splits of each such scene; empty if scenes were kept apart.
        """
        splits: dict[str, list[str]] = {}
        for split in self.splits:
            images = (self.folder / 'img_dir' / split).glob('*.png')
            for scene in sorted({source_scene(path.stem) for path in images}):
                splits.setdefault(scene, []).append(split)
        return {
            scene: tuple(where) for scene, where in splits.items() if len(where) > 1
        }


def cut_patches(
    dataset: L8BiomeClouds,
    out: Path,
    size: int = 512,
    drop_clear: bool = True,
    split: Split | None = None,
) -> dict[str, int]:
    """Cut scenes into pictures, in the layout of :class:`L8BiomeCloudPatches`.

    Patches do not overlap and begin at the top left; incomplete ones are dropped. Each
    is stretched as :func:`~eoseg_datasets.stretch.stretched` does. Files appear when they
    are complete, images after their labels, and a run that was stopped can be repeated.

    To repeat what was published, open the data set with ``bands=('B4', 'B3', 'B2')`` and
    ``fill='clear'``; else fill is 255 in the labels, which is no label.

    Args:
        dataset: Scenes, with three bands.
        out: Folder that gets ``img_dir`` and ``ann_dir``.
        size: Side of a patch in pixels.
        drop_clear: Whether patches without cloud and shadow are left out.
        split: Regions for training, validation and testing. By default scenes are drawn
            as :func:`~eoseg_datasets.splits.split_scenes` does; the published lists are
            not known.

    Returns:
        Number of patches of each split.

    Raises:
        FileExistsError: If *out* has one of the patches in another split.
        ValueError: If the data set has not three bands or has transforms, or if its
            scenes cannot be divided.
    """
    _check_can_be_cut(dataset)
    split = split or split_scenes(dataset.scenes, dataset.labelled, size)
    plan = _plan(dataset, split, size)
    _refuse_moved(plan, out)
    counts = dict.fromkeys(_SPLITS, 0)
    for item in plan:
        sample = dataset[item.patch]
        mask = sample['mask'].numpy().astype(np.uint8)
        if drop_clear and np.isin(mask, (0, IGNORE_INDEX)).all():
            continue
        image = stretched(sample['image'].numpy(), sample['valid'].numpy())
        # The label first: who finds the image finds both.
        _write_png(out / 'ann_dir' / item.use / f'{item.name}.png', mask)
        _write_png(
            out / 'img_dir' / item.use / f'{item.name}.png', image.transpose(1, 2, 0)
        )
        counts[item.use] += 1
    return counts


class _Cut(NamedTuple):
    """A patch that is to be cut."""

    use: str
    name: str
    patch: ScenePatch


def _check_can_be_cut(dataset: L8BiomeClouds) -> None:
    if len(dataset.bands) != 3:
        raise ValueError(
            f'a picture has three bands, the data set has {len(dataset.bands)} '
            f"({', '.join(dataset.bands)}); open it with bands=('B4', 'B3', 'B2')"
        )
    if dataset.transforms is not None:
        raise ValueError(
            'patches are stretched when they are cut; open the data set without transforms'
        )


def _plan(dataset: L8BiomeClouds, split: Split, size: int) -> list[_Cut]:
    """Complete patches of each region, side by side from its top left."""
    parts = zip(_SPLITS, (split.train, split.val, split.test), strict=True)
    regions = [(use, region) for use, part in parts for region in part]
    plan = []
    for use, (scene, window, _) in regions:
        rows = range(0, int(window.height) - size + 1, size)
        cols = range(0, int(window.width) - size + 1, size)
        for row, col in product(rows, cols):
            top, left = int(window.row_off) + row, int(window.col_off) + col
            source = dataset.scenes[scene].name.replace('/', '_')
            patch = ScenePatch(scene, Window(left, top, size, size))
            plan.append(_Cut(use, f'{source}_patch_{top}_{left}', patch))
    return plan


def _refuse_moved(plan: Sequence[_Cut], out: Path) -> None:
    """A patch left from another split would be both learned and scored."""
    there = {path.stem: path.parent.name for path in out.glob('img_dir/*/*.png')}
    moved = [item for item in plan if there.get(item.name, item.use) != item.use]
    if moved:
        raise FileExistsError(
            f'{out} has {moved[0].name} in {there[moved[0].name]}, it belongs to '
            f'{moved[0].use} now (and {len(moved) - 1} more have moved); give another '
            'folder, or the split that these were cut with'
        )


def _write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture, which appears when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    Image.fromarray(picture).save(part, 'PNG')
    part.replace(path)
