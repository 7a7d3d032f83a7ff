"""Any folder of scenes with their labels."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyproj
import torch
from affine import Affine
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.windows import Window
from shapely import Polygon, box
from torch import Tensor
from torchgeo.datasets import DatasetNotFoundError, GeoDataset

from .classes import IGNORE_INDEX, Classes
from .compat import place_of
from .grid import Grid
from .inventory import Inventory, Rejected, find_scenes
from .labels import Labels, find_classes, is_label, is_vector, open_labels
from .scene import Scene, ScenePatch
from .warp import aligned_window, source_window, warp_labels, warp_values

#: Pictures without georeference lie side by side in a plane that is nowhere on Earth.
NOWHERE = CRS.from_wkt(
    'LOCAL_CS["Pictures without georeference",UNIT["metre",1],'
    'AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)

#: Shortest time there is between two timestamps of pandas.
ONE_TICK = pd.Timedelta(1, 'us')

#: Pixels between two pictures of that plane.
GAP = 64

#: Folders that labels are looked for in, the first that there is.
_LABEL_FOLDERS = ('labels', 'masks')


class SceneFolder(GeoDataset):
    """Any folder of scenes, with raster or polygon labels if there are some.

    Dataset features:

    * every scene keeps its own coordinate reference system and grid: patches are read
      as windows, nothing is warped unless *crs* is given
    * GeoTIFF, COG, JPEG 2000, PNG, JPEG; Landsat folders; Sentinel-2 SAFE folders
    * a validity mask from nodata value, NaN, mask band and alpha band
    * pictures without georeference are laid out side by side in a local plane

    Dataset format:

    .. code-block:: text

       root/
       ├── images/            (or the scenes lie in root itself)
       │   ├── a.tif
       │   └── b.tif
       ├── labels/            (or masks/): same names, rasters or polygons;
       │   ├── a.tif          one file of polygons may cover all scenes
       │   └── b.gpkg
       └── classes.csv        (optional) value,name,color

    A sample has the keys ``image`` (float32, of shape (C, H, W)), ``valid`` (bool, of
    shape (H, W)), with labels ``mask`` (int64, of shape (H, W), 255 = no label) and
    those by which TorchGeo says where it lies. These are not exact in every version;
    ours are: ``scene`` (position in :attr:`scenes`) and ``scene_transform`` (float64,
    the six numbers of an affine transform), see :meth:`grid_of`.
    """

    def __init__(
        self,
        root: str | Path = 'data',
        crs: CRS | None = None,
        res: float | tuple[float, float] | None = None,
        bands: Sequence[str] | None = None,
        class_field: str | None = None,
        class_names: Sequence[str] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        """Initialize a new SceneFolder instance.

        Args:
            root: Folder of scenes.
            crs: Warp everything to this coordinate reference system (images bilinear,
                masks nearest) instead of reading each scene in its own.
            res: Pixel size in units of *crs*; that of the first scene by default.
            bands: Names of the bands to read; all of them by default.
            class_field: Column with the class of polygon labels.
            class_names: Names of the classes in the order of their values, where the
                folder has no ``classes.csv``.
            transforms: Function applied to each sample.

        Raises:
            DatasetNotFoundError: If there is no scene in *root*.
            ValueError: If no scene has all *bands*.
        """
        self.paths = self.root = Path(root)
        self.transforms = transforms
        self.class_field = class_field
        self.class_names = class_names
        inventory = _inventory(self.root)
        if not inventory.scenes:
            raise _no_scenes(self, inventory)
        scenes, refused = _alike(inventory.scenes, bands)
        scenes, lost = _place(scenes)
        label_paths = _label_paths(self.root, scenes)
        #: Scenes that samples are read from.
        self.scenes = scenes
        #: Every other file, and why it is not used.
        self.rejected = (*inventory.rejected, *refused, *lost)
        #: File of labels of each scene, None for those without.
        self.label_paths = [label_paths.get(scene.name) for scene in scenes]
        first = _most_common_grid(scenes)
        self.index = _index(scenes, first.crs)
        self._res = first.res
        self._warps = False
        if crs is not None or res is not None:
            self._warp_to(crs or first.crs, res)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in the order of the channels."""
        return self.scenes[0].band_names

    @cached_property
    def classes(self) -> Classes | None:
        """Classes of the labels: those of ``classes.csv``, else those that occur.

        Raises:
            ValueError: If the labels cannot be read as classes.
        """
        files = sorted({path for path in self.label_paths if path})
        table = self.root / 'classes.csv'
        if table.is_file():
            return Classes.from_csv(table)
        if not files:
            return None
        found = find_classes(files, self.class_field)
        return found if self.class_names is None else found.renamed(self.class_names)

    @property
    def crs(self) -> pyproj.CRS:
        """CRS of the index and of the queries."""
        crs: pyproj.CRS = self.index.crs
        return crs

    @crs.setter
    def crs(self, new_crs: pyproj.CRS) -> None:
        # Called by TorchGeo's `&`, which needs one grid for both its datasets.
        self._warp_to(CRS.from_user_input(new_crs), None)

    def _warp_to(self, crs: CRS, res: float | tuple[float, float] | None) -> None:
        self._warps = True
        if pyproj.CRS.from_user_input(crs) != self.index.crs:
            self.index = self.index.to_crs(pyproj.CRS.from_user_input(crs))
        if res is not None:
            self._res = (res, res) if isinstance(res, int | float) else res

    def __getitem__(self, query: Any) -> dict[str, Any]:
        """Read a sample.

        Args:
            query: ``[xmin:xmax:xres, ymin:ymax:yres, tmin:tmax]`` in units of
                :attr:`crs`, or a :class:`ScenePatch`. Unless a CRS was asked for, a
                patch of the same size around the same centre is read from the grid of
                the scene that covers most of it; other scenes fill what it lacks. Of
                a :class:`ScenePatch` only the fresh part has labels.

        Returns:
            A sample as the class describes it.

        Raises:
            IndexError: If no scene touches *query*.
        """
        if isinstance(query, ScenePatch):
            grid = self.scenes[query.scene].grid.crop(query.window)
            sample = self._sample([query.scene], grid)
            if 'mask' in sample and query.fresh is not None:
                sample['mask'][~_inside(query.fresh, query.window)] = IGNORE_INDEX
        else:
            sample = self._sample(*self._resolve(self._disambiguate_slice(query)))
        return self.transforms(sample) if self.transforms else sample

    def grid_of(self, sample: dict[str, Any]) -> Grid:
        """Where the pixels of a sample lie, in double precision."""
        scene = self.scenes[int(sample['scene'][0])]
        crs = CRS.from_user_input(self.crs) if self._warps else scene.grid.crs
        height, width = sample['valid'].shape
        return Grid(crs, Affine(*sample['scene_transform'][:6].tolist()), width, height)

    def _resolve(self, query: tuple[slice, slice, slice]) -> tuple[list[int], Grid]:
        """Scenes that a query touches, the one that covers most first, and its grid."""
        x, y, t = query
        asked = box(x.start, y.start, x.stop, y.stop)
        near = self.index[
            self.index.index.overlaps(pd.Interval(t.start, t.stop, 'both'))
        ]
        near = near[near.intersects(asked)]
        if near.empty:
            raise IndexError(
                f'query {query} touches no scene; bounds are {self.bounds}'
            )
        cover = near.intersection(asked).area.to_numpy()
        scenes = near['scene'].iloc[np.argsort(-cover, kind='stable')].tolist()
        height, width = (
            round((y.stop - y.start) / y.step),
            round((x.stop - x.start) / x.step),
        )
        if self._warps:
            transform = Affine(x.step, 0, x.start, 0, -y.step, y.stop)
            return scenes, Grid(CRS.from_user_input(self.crs), transform, width, height)
        native = self.scenes[scenes[0]].grid
        centre = (x.start + x.stop) / 2, (y.start + y.stop) / 2
        if (native_crs := pyproj.CRS.from_user_input(native.crs)) != self.crs:
            to_native = Transformer.from_crs(self.crs, native_crs, always_xy=True)
            centre = to_native.transform(*centre)
        col, row = ~native.transform @ centre
        window = Window(round(col - width / 2), round(row - height / 2), width, height)
        return scenes, native.crop(window)

    def _sample(self, scenes: Sequence[int], grid: Grid) -> dict[str, Any]:
        image = np.zeros((len(self.bands), *grid.shape), np.float32)
        mask = np.full(grid.shape, IGNORE_INDEX, np.uint8)
        valid = np.zeros(grid.shape, np.bool_)
        for i in scenes:
            values, labels, there = self._read(i, grid)
            new = there & ~valid
            image[:, new], mask[new] = values[:, new], labels[new]
            valid |= there
            if valid.all():
                break
        sample: dict[str, Any] = {
            'image': torch.from_numpy(image),
            'valid': torch.from_numpy(valid),
            'scene': torch.tensor(scenes[:1]),
            'scene_transform': torch.tensor(grid.transform[:6], dtype=torch.float64),
        }
        query = _as_query(grid, self.bounds[2])
        sample |= place_of(self, query, pyproj.CRS.from_user_input(grid.crs))
        if self.classes is not None:
            sample['mask'] = torch.from_numpy(mask.astype(np.int64))
        return sample

    def _read(
        self, i: int, grid: Grid
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
        """Values, classes and validity of a scene on a grid."""
        scene = self.scenes[i]
        if (window := aligned_window(scene.grid, grid)) is not None:
            image, valid = scene.read(window)
            return image, self._labels_in(i, window, valid), valid
        window = source_window(scene.grid, grid)
        if not (window.width and window.height):
            nothing = np.full(grid.shape, IGNORE_INDEX, np.uint8)
            shape = (len(self.bands), *grid.shape)
            return np.zeros(shape, np.float32), nothing, nothing < IGNORE_INDEX
        image, valid = scene.read(window)
        source = scene.grid.crop(window)
        total, weight = warp_values(image, valid.astype(np.float32), source, grid)
        labels = warp_labels(
            self._labels_in(i, window, valid), IGNORE_INDEX, source, grid
        )
        # Half the weight: a pixel counts as valid if most of what it is made of is.
        mean = (total / np.maximum(weight, 1e-6)).astype(np.float32)
        return mean, labels, weight >= 0.5

    def _labels_in(
        self, i: int, window: Window, valid: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """Classes in a window, 255 outside the scene and where it is not valid."""
        result = np.full(valid.shape, IGNORE_INDEX, np.uint8)
        source = self._labels(i)
        grid = self.scenes[i].grid
        top, left = max(-int(window.row_off), 0), max(-int(window.col_off), 0)
        whole = Window(0, 0, grid.width, grid.height)
        if source is not None and valid.any():
            inside = window.intersection(whole)
            labels = source.read(grid, inside)
            result[top : top + labels.shape[0], left : left + labels.shape[1]] = labels
        result[~valid] = IGNORE_INDEX
        return result

    def _labels(self, i: int) -> Labels | None:
        path = self.label_paths[i]
        if path is None or self.classes is None:
            return None
        if path not in self._open_labels:
            self._open_labels[path] = open_labels(path, self.classes, self.class_field)
        return self._open_labels[path]

    @cached_property
    def _open_labels(self) -> dict[Path, Labels]:
        return {}

    def plot(
        self,
        sample: dict[str, Any],
        show_titles: bool = True,
        suptitle: str | None = None,
    ) -> Figure:
        """Plot a sample.

        Args:
            sample: A sample of :meth:`__getitem__`, with ``prediction`` if there is one.
            show_titles: Whether to show a title above each panel.
            suptitle: Title of the figure.

        Returns:
            A figure with image, mask and prediction, as far as they are there.
        """
        panels = [key for key in ('mask', 'prediction') if key in sample]
        figure, axes = plt.subplots(1, 1 + len(panels), squeeze=False, layout='tight')
        axes[0, 0].imshow(_picture(sample['image'], sample['valid']))
        for axis, key in zip(axes[0, 1:], panels, strict=True):
            classes = self.classes or Classes.named(['0', '1'])
            labels = np.ma.masked_equal(sample[key].numpy(), IGNORE_INDEX)
            axis.imshow(
                labels,
                cmap=ListedColormap(classes.legend.colors),
                vmin=-0.5,
                vmax=len(classes) - 0.5,
                interpolation='nearest',
            )
        for axis, title in zip(axes[0], ('image', *panels), strict=True):
            axis.axis('off')
            if show_titles:
                axis.set_title(title.capitalize())
        if suptitle:
            figure.suptitle(suptitle)
        return figure


def _inventory(root: Path) -> Inventory:
    if (root / 'images').is_dir():
        return find_scenes(root / 'images')
    return find_scenes(root, ignore=_LABEL_FOLDERS)


def _inside(part: Window, window: Window) -> Tensor:
    """Which pixels of a window lie in a part of it."""
    result = torch.zeros(int(window.height), int(window.width), dtype=torch.bool)
    top, left = int(part.row_off - window.row_off), int(part.col_off - window.col_off)
    bottom, right = top + int(part.height), left + int(part.width)
    result[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return result


def _no_scenes(dataset: SceneFolder, inventory: Inventory) -> Exception:
    if not inventory.failed:
        return DatasetNotFoundError(dataset)
    listed = '\n'.join(
        f'  {item.path}: {item.reason}' for item in inventory.failed[:10]
    )
    return FileNotFoundError(f'No scene in {dataset.root} can be read:\n{listed}')


def _alike(
    scenes: Sequence[Scene], bands: Sequence[str] | None
) -> tuple[tuple[Scene, ...], list[Rejected]]:
    """Scenes with the same bands, and those that lack some."""
    refused = []
    if bands is None:
        # The bands that most pixels have; of two, the richer.
        votes = Counter[tuple[str, ...]]()
        for scene in scenes:
            votes[scene.band_names] += scene.grid.width * scene.grid.height
        bands = max(votes, key=lambda names: (votes[names] * len(names), names))
    alike = []
    for scene in scenes:
        try:
            alike.append(scene.select(bands))
        except ValueError as error:
            refused.append(Rejected(scene.path, 'skipped', str(error)))
    if not alike:
        raise ValueError(refused[0].reason)
    return tuple(alike), refused


def _place(scenes: Sequence[Scene]) -> tuple[tuple[Scene, ...], list[Rejected]]:
    """Give pictures that lie nowhere a place, if none of the scenes has one."""
    somewhere = tuple(scene for scene in scenes if scene.crs is not None)
    if somewhere:
        lost = [scene for scene in scenes if scene.crs is None]
        reason = (
            'it has no CRS but other scenes have; assign one with rio edit-info --crs'
        )
        return somewhere, [Rejected(scene.path, 'skipped', reason) for scene in lost]
    cell = GAP + max(max(scene.grid.shape) for scene in scenes)
    columns = int(np.ceil(np.sqrt(len(scenes))))
    placed = []
    for i, scene in enumerate(scenes):
        row, col = divmod(i, columns)
        transform = Affine(1, 0, col * cell, 0, -1, -row * cell)
        placed.append(
            replace(scene, grid=replace(scene.grid, crs=NOWHERE, transform=transform))
        )
    return tuple(placed), []


def _label_paths(root: Path, scenes: Sequence[Scene]) -> dict[str, Path]:
    """File of labels of each scene, by the scene's name.

    Raises:
        ValueError: If a scene has two.
    """
    folder = next((root / n for n in _LABEL_FOLDERS if (root / n).is_dir()), root)
    files = sorted(path for path in folder.rglob('*') if is_label(path))
    if folder == root:
        files = [path for path in files if is_vector(path)]
    by_name: dict[str, list[Path]] = {}
    for path in files:
        name = path.relative_to(folder).with_suffix('').as_posix()
        by_name.setdefault(name, []).append(path)
    found = {}
    for scene in scenes:
        # The name has a suffix where two scenes differ in nothing else.
        stem = scene.name.removesuffix(scene.path.suffix)
        paths = by_name.get(scene.name) or by_name.get(stem, [])
        if len(paths) > 1:
            raise ValueError(
                f'scene {scene.name} has {len(paths)} files of labels, '
                f'{" and ".join(map(str, paths))}; keep one of them'
            )
        if paths:
            found[scene.name] = paths[0]
    if not found and len(files) == 1 and is_vector(files[0]):
        return {scene.name: files[0] for scene in scenes}
    return found


def _most_common_grid(scenes: Sequence[Scene]) -> Grid:
    crs = Counter(scene.grid.crs for scene in scenes).most_common(1)[0][0]
    return next(scene.grid for scene in scenes if scene.grid.crs == crs)


def _index(scenes: Sequence[Scene], crs: CRS) -> gpd.GeoDataFrame:
    """Footprints and times, as TorchGeo's datasets have them."""
    frames = [
        gpd.GeoSeries(
            [Polygon(scene.grid.corners)], crs=pyproj.CRS.from_user_input(scene.crs)
        )
        for scene in scenes
    ]
    target = pyproj.CRS.from_user_input(crs)
    times = [
        # The whole day, as TorchGeo has it: an instant meets no other interval.
        (
            pd.Timestamp(scene.acquired).floor('D'),
            pd.Timestamp(scene.acquired).floor('D') + pd.Timedelta('1D') - ONE_TICK,
        )
        if scene.acquired
        else (pd.Timestamp.min, pd.Timestamp.max)
        for scene in scenes
    ]
    return gpd.GeoDataFrame(
        {
            'filepath': [str(scene.path) for scene in scenes],
            'scene': range(len(scenes)),
        },
        geometry=[frame.to_crs(target).iloc[0] for frame in frames],
        index=pd.IntervalIndex.from_tuples(times, closed='both', name='datetime'),
        crs=target,
    )


def _as_query(grid: Grid, time: slice) -> tuple[slice, slice, slice]:
    left, bottom, right, top = grid.bounds
    xres, yres = grid.res
    return slice(left, right, xres), slice(bottom, top, yres), time


def _picture(image: Tensor, valid: Tensor) -> NDArray[np.float32]:
    """First three bands (or one as grey) between the 2nd and 98th percentile."""
    bands = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    shown = bands.numpy().astype(np.float32)
    inside = shown[:, valid.numpy()] if bool(valid.any()) else shown.reshape(3, -1)
    low, high = np.percentile(inside, [2, 98], axis=1)
    scaled = (shown - low[:, None, None]) / np.maximum(high - low, 1e-6)[:, None, None]
    return np.asarray(scaled.clip(0, 1).transpose(1, 2, 0), np.float32)
