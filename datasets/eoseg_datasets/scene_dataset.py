"""Scenes with labels as a GeoDataset: what the data sets here have in common."""

from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar, Self

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyproj
import shapely
import torch
from affine import Affine
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.windows import Window
from shapely import Polygon, box
from torch import Tensor
from torchgeo.datasets import (
    GeoDataset,
    IntersectionDataset,
    NonGeoDataset,
    UnionDataset,
    merge_samples,
)

from .classes import IGNORE_INDEX, Classes
from .compat import place_of
from .grid import Grid
from .labels import Labels
from .scene import Scene, ScenePatch
from .warp import aligned_window, source_window, warp_image, warp_labels

#: Pictures without georeference lie side by side in a plane that is nowhere on Earth.
NOWHERE = CRS.from_wkt(
    'LOCAL_CS["Pictures without georeference",UNIT["metre",1],'
    'AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)

#: Shortest time there is between two timestamps of pandas.
ONE_TICK = pd.Timedelta(1, 'us')

#: Pixels between two pictures of that plane.
GAP = 64


class SceneDataset(GeoDataset):
    """Scenes with labels, each read on its own grid.

    Every scene keeps its own coordinate reference system and grid: patches are read as
    windows, and nothing is warped unless a CRS is asked for.

    A sample has the keys ``image`` (float32, of shape (C, H, W)), ``valid`` (bool, of
    shape (H, W)), with labels ``mask`` (int64, of shape (H, W), 255 = no label) and
    those by which TorchGeo says where it lies. These are not exact in every version;
    ours are: ``scene`` (position in ``scenes``) and ``scene_transform`` (float64,
    the six numbers of an affine transform), see :meth:`grid_of`.
    """

    #: Bands shown as red, green and blue by ``plot``; else the first three.
    rgb_bands: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        scenes: Sequence[Scene],
        labels: Sequence[Labels | None],
        classes: Classes | None,
        crs: CRS | None = None,
        res: float | tuple[float, float] | None = None,
        resampling: Resampling = Resampling.bilinear,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        """Initialize a new SceneDataset instance.

        Args:
            scenes: Scenes with the same bands. If none has a CRS, they are laid out side
                by side in a plane that is nowhere on Earth.
            labels: Labels of each scene, None for those without.
            classes: What the labels mean; None if there are none.
            crs: Warp everything to this coordinate reference system instead of reading
                each scene in its own. Masks are warped to the nearest pixel.
            res: Pixel size in units of *crs*; that of the first scene by default.
            resampling: How images are warped, bilinear or cubic.
            transforms: Function applied to each sample.

        Raises:
            ValueError: If *resampling* is neither of the two.
        """
        if resampling not in (Resampling.bilinear, Resampling.cubic):
            raise ValueError(
                'resampling must be Resampling.bilinear or Resampling.cubic, '
                f'got {resampling!r}'
            )
        #: Scenes that samples are read from.
        self.scenes = lay_out(scenes)
        self.resampling = resampling
        self.transforms = transforms
        self._labels = tuple(labels)
        self._classes = classes
        self._times = [_times(scene) for scene in self.scenes]
        first = _most_common_grid(self.scenes)
        self.index = _index(self.scenes, self._times, first.crs)
        self._res = first.res
        self._warps = False
        if crs is not None or res is not None:
            self._warp_to(crs or first.crs, res)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in the order of the channels."""
        return self.scenes[0].band_names

    @property
    def classes(self) -> Classes | None:
        """Classes of the labels; None if there are none."""
        return self._classes

    def labels_of(self, scene: int) -> Labels | None:
        """Labels of a scene, None if it has none.

        Args:
            scene: Its position in ``scenes``.
        """
        return self._labels[scene]

    @property
    def labelled(self) -> list[int]:
        """Positions of the scenes that have labels."""
        return [i for i, labels in enumerate(self._labels) if labels is not None]

    @property
    def crs(self) -> pyproj.CRS:
        """CRS of the index and of the queries."""
        crs: pyproj.CRS = self.index.crs
        return crs

    @crs.setter
    def crs(self, new_crs: pyproj.CRS) -> None:
        # Called by TorchGeo's `&`, which needs one grid for both its data sets.
        self._warp_to(CRS.from_user_input(new_crs), None)

    def __and__(self, other: GeoDataset) -> IntersectionDataset:
        """What both data sets have, on one grid: bands of both, valid where both are.

        Args:
            other: Images or masks. Masks are of the first that has some.

        Raises:
            ValueError: If *other* is no GeoDataset.
        """
        return IntersectionDataset(self._on_one_grid(), other, collate_fn=intersection)

    def __or__(self, other: GeoDataset) -> UnionDataset:
        """What either data set has, on one grid: of two valid pixels, that of the first.

        Args:
            other: A data set with the same bands.

        Raises:
            ValueError: If *other* is no GeoDataset.
        """
        return UnionDataset(self._on_one_grid(), other, collate_fn=union)

    def _on_one_grid(self) -> Self:
        """The same data set in the CRS of its index: scenes of another CRS are warped.

        TorchGeo sets the CRS of the second data set alone, and of two that are read
        together, both have to lie on the grid of the query.
        """
        same = copy(self)
        same._warp_to(_rasterio(self.crs), None)
        return same

    def _warp_to(self, crs: CRS, res: float | tuple[float, float] | None) -> None:
        self._warps = True
        if _pyproj(crs) != self.index.crs:
            self.index = self.index.to_crs(_pyproj(crs))
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
            sample = self._sample(*self._resolve(self._complete(query)))
        return self.transforms(sample) if self.transforms else sample

    def grid_of(self, sample: dict[str, Any]) -> Grid:
        """Where the pixels of a sample lie, in double precision."""
        scene = self.scenes[int(sample['scene'][0])]
        crs = _rasterio(self.crs) if self._warps else scene.grid.crs
        height, width = sample['valid'].shape
        return Grid(crs, Affine(*sample['scene_transform'][:6].tolist()), width, height)

    def _complete(self, query: Any) -> tuple[slice, slice, slice]:
        """A query with all its parts; what is missing comes from the whole data set."""
        if isinstance(query, tuple) and len(query) == 3:
            x, y, t = query
            if None not in (x.start, x.stop, x.step, y.start, y.stop, y.step, t.start):
                # TorchGeo's own way would go over the whole index, for each sample.
                return x, y, t
        completed: tuple[slice, slice, slice] = self._disambiguate_slice(query)
        return completed

    def _resolve(self, query: tuple[slice, slice, slice]) -> tuple[list[int], Grid]:
        """Scenes that a query touches, the one that covers most first, and its grid."""
        x, y, t = query
        asked = box(x.start, y.start, x.stop, y.stop)
        rows = np.sort(self.index.sindex.query(asked, predicate='intersects'))
        times = self.index.index
        rows = rows[(times.left[rows] <= t.stop) & (times.right[rows] >= t.start)]
        if not len(rows):
            raise IndexError(
                f'query {query} touches no scene; bounds are {self.bounds}'
            )
        if len(rows) > 1:
            shapes = self.index.geometry.to_numpy()[rows]
            cover = shapely.area(shapely.intersection(shapes, asked))
            rows = rows[np.argsort(-cover, kind='stable')]
        scenes = self.index['scene'].to_numpy()[rows].tolist()
        height, width = (
            round((y.stop - y.start) / y.step),
            round((x.stop - x.start) / x.step),
        )
        if self._warps:
            transform = Affine(x.step, 0, x.start, 0, -y.step, y.stop)
            return scenes, Grid(_rasterio(self.crs), transform, width, height)
        native = self.scenes[scenes[0]].grid
        centre = (x.start + x.stop) / 2, (y.start + y.stop) / 2
        if (native_crs := _pyproj(native.crs)) != self.crs:
            centre = _transformer(self.crs, native_crs).transform(*centre)
        col, row = ~native.transform @ centre
        window = Window(round(col - width / 2), round(row - height / 2), width, height)
        return scenes, native.crop(window)

    def _sample(self, scenes: Sequence[int], grid: Grid) -> dict[str, Any]:
        image, mask, valid = self._read(scenes[0], grid)
        for i in scenes[1:]:
            if valid.all():
                break
            values, labels, there = self._read(i, grid)
            new = there & ~valid
            image[:, new], mask[new] = values[:, new], labels[new]
            valid |= there
        sample: dict[str, Any] = {
            'image': torch.from_numpy(image),
            'valid': torch.from_numpy(valid),
            'scene': torch.tensor(scenes[:1]),
            'scene_transform': torch.tensor(grid.transform[:6], dtype=torch.float64),
        }
        query = _as_query(grid, slice(*self._times[scenes[0]]))
        sample |= place_of(self, query, _pyproj(grid.crs))
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
            return image, self._classes_in(i, window, valid), valid
        window = source_window(scene.grid, grid)
        if not (window.width and window.height):
            nothing = np.full(grid.shape, IGNORE_INDEX, np.uint8)
            shape = (len(self.bands), *grid.shape)
            return np.zeros(shape, np.float32), nothing, nothing < IGNORE_INDEX
        image, valid = scene.read(window)
        source = scene.grid.crop(window)
        image, there = warp_image(image, valid, source, grid, self.resampling)
        labels = warp_labels(
            self._classes_in(i, window, valid), IGNORE_INDEX, source, grid
        )
        labels[~there] = IGNORE_INDEX
        return image, labels, there

    def _classes_in(
        self, i: int, window: Window, valid: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """Classes in a window, 255 outside the scene and where it is not valid."""
        result = np.full(valid.shape, IGNORE_INDEX, np.uint8)
        if self.classes is None or (source := self.labels_of(i)) is None:
            return result
        grid = self.scenes[i].grid
        top, left = max(-int(window.row_off), 0), max(-int(window.col_off), 0)
        whole = Window(0, 0, grid.width, grid.height)
        if valid.any():
            labels = source.read(grid, window.intersection(whole))
            result[top : top + labels.shape[0], left : left + labels.shape[1]] = labels
        result[~valid] = IGNORE_INDEX
        return result

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
        axes[0, 0].imshow(_picture(sample['image'][self._shown], sample['valid']))
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

    @property
    def _shown(self) -> list[int]:
        """Channels of the picture: three, or one for grey."""
        if self.rgb_bands and set(self.rgb_bands) <= set(self.bands):
            return [self.bands.index(name) for name in self.rgb_bands]
        return [0, 1, 2] if len(self.bands) >= 3 else [0, 0, 0]


def intersection(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One sample of several on one grid: their bands, and what all of them know.

    TorchGeo's own function joins masks and validity one below the other, too.

    Args:
        samples: Of one query, each of another data set.
    """
    first, *others = samples
    result = dict(first)
    for other in others:
        if 'image' in result and 'image' in other:
            result['image'] = torch.cat([result['image'], other['image']])
        if 'valid' in result and 'valid' in other:
            result['valid'] = result['valid'] & other['valid']
        result = other | result
    if 'valid' in result and 'mask' in result:
        result['mask'] = result['mask'].masked_fill(~result['valid'], IGNORE_INDEX)
    return result


def union(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One sample of several on one grid, filled from one after the other.

    TorchGeo's own function takes the larger number of each pixel, which prefers what is
    outside of a scene to all that is negative.

    Args:
        samples: Of one query, each of another data set.
    """
    if any('valid' not in sample for sample in samples):
        merged: dict[str, Any] = merge_samples(samples)
        return merged
    result = dict(samples[0])
    for other in samples[1:]:
        new = other['valid'] & ~result['valid']
        result['image'] = torch.where(new, other['image'], result['image'])
        if 'mask' in other:
            nothing = torch.full_like(other['mask'], IGNORE_INDEX)
            mask = result.get('mask', nothing)
            result['mask'] = torch.where(new, other['mask'], mask)
        result['valid'] = result['valid'] | other['valid']
    return result


class NonGeoScenes(NonGeoDataset):
    """The scenes of a data set by number, each whole: for loaders without samplers.

    A sample has ``image``, ``valid`` and ``mask``, without its place on Earth.
    """

    def __init__(self, dataset: SceneDataset) -> None:
        """Initialize a new NonGeoScenes instance.

        Args:
            dataset: Scenes; a batch of more than one needs scenes of one size.
        """
        self.dataset = dataset

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.dataset.scenes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read a scene.

        Args:
            index: Its position in the scenes of the data set.

        Raises:
            IndexError: If there is no such scene.
        """
        sample = self.dataset[whole_scene(self.dataset.scenes, index)]
        return {key: sample[key] for key in ('image', 'mask', 'valid') if key in sample}


def whole_scene(scenes: Sequence[Scene], index: int) -> ScenePatch:
    """All of a scene as one patch.

    Args:
        scenes: Scenes of a data set.
        index: Which of them.

    Raises:
        IndexError: If there is no such scene.
    """
    grid = scenes[index].grid
    return ScenePatch(index, Window(0, 0, grid.width, grid.height))


def lay_out(scenes: Sequence[Scene]) -> tuple[Scene, ...]:
    """Give pictures that lie nowhere a place each in a plane, if none of them has one.

    Args:
        scenes: Scenes of one data set.

    Raises:
        ValueError: If some have a CRS and some have none.
    """
    lost = [scene for scene in scenes if scene.crs is None]
    if not lost:
        return tuple(scenes)
    if len(lost) < len(scenes):
        raise ValueError(
            f'{len(lost)} of {len(scenes)} scenes have no CRS (such as {lost[0].path}); '
            'assign one with rio edit-info --crs, or take them out'
        )
    cell = GAP + max(max(scene.grid.shape) for scene in scenes)
    columns = int(np.ceil(np.sqrt(len(scenes))))
    placed = []
    for i, scene in enumerate(scenes):
        row, col = divmod(i, columns)
        transform = Affine(1, 0, col * cell, 0, -1, -row * cell)
        placed.append(
            replace(scene, grid=replace(scene.grid, crs=NOWHERE, transform=transform))
        )
    return tuple(placed)


def _inside(part: Window, window: Window) -> Tensor:
    """Which pixels of a window lie in a part of it."""
    result = torch.zeros(int(window.height), int(window.width), dtype=torch.bool)
    top, left = int(part.row_off - window.row_off), int(part.col_off - window.col_off)
    bottom, right = top + int(part.height), left + int(part.width)
    result[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return result


def _most_common_grid(scenes: Sequence[Scene]) -> Grid:
    crs = Counter(scene.grid.crs for scene in scenes).most_common(1)[0][0]
    return next(scene.grid for scene in scenes if scene.grid.crs == crs)


def _times(scene: Scene) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First and last moment of the day of a scene; all times if the day is unknown."""
    if scene.acquired is None:
        return pd.Timestamp.min, pd.Timestamp.max
    # The whole day, as TorchGeo has it: an instant meets no other interval.
    day = pd.Timestamp(scene.acquired).floor('D')
    return day, day + pd.Timedelta('1D') - ONE_TICK


def _index(
    scenes: Sequence[Scene],
    times: Sequence[tuple[pd.Timestamp, pd.Timestamp]],
    crs: CRS,
) -> gpd.GeoDataFrame:
    """Footprints and times, as TorchGeo's data sets have them."""
    target = _pyproj(crs)
    shapes = np.empty(len(scenes), object)
    by_crs: dict[CRS, list[int]] = {}
    for i, scene in enumerate(scenes):
        by_crs.setdefault(scene.crs, []).append(i)
    # One reprojection for all scenes of a CRS: one by one they take seconds.
    for own, here in by_crs.items():
        outlines = [Polygon(scenes[i].grid.corners) for i in here]
        shapes[here] = gpd.GeoSeries(outlines, crs=_pyproj(own)).to_crs(target)
    return gpd.GeoDataFrame(
        {
            'filepath': [str(scene.path) for scene in scenes],
            'scene': range(len(scenes)),
        },
        geometry=shapes,
        index=pd.IntervalIndex.from_tuples(list(times), closed='both', name='datetime'),
        crs=target,
    )


@lru_cache
def _pyproj(crs: CRS) -> pyproj.CRS:
    return pyproj.CRS.from_user_input(crs)


@lru_cache
def _rasterio(crs: pyproj.CRS) -> CRS:
    return CRS.from_user_input(crs)


@lru_cache
def _transformer(source: pyproj.CRS, target: pyproj.CRS) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


def _as_query(grid: Grid, time: slice) -> tuple[slice, slice, slice]:
    left, bottom, right, top = grid.bounds
    xres, yres = grid.res
    return slice(left, right, xres), slice(bottom, top, yres), time


def _picture(bands: Tensor, valid: Tensor) -> NDArray[np.float32]:
    """Three bands of shape (3, H, W) between the 2nd and 98th percentile."""
    shown = bands.numpy().astype(np.float32)
    inside = shown[:, valid.numpy()] if bool(valid.any()) else shown.reshape(3, -1)
    low, high = np.percentile(inside, [2, 98], axis=1)
    scaled = (shown - low[:, None, None]) / np.maximum(high - low, 1e-6)[:, None, None]
    return np.asarray(scaled.clip(0, 1).transpose(1, 2, 0), np.float32)
