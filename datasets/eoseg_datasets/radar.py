"""Radar: complex files, and scenes that an optical image of another grid goes with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from .footprint import footprint
from .grid import Grid
from .handles import open_raster
from .index import indexed_scenes
from .labelled_images import explained, with_names
from .scene import Band, Scene, band_of, check_complete, grid_of, scene_name
from .scene_folder import SceneFolder
from .warp import aligned_window, source_window, warp_image

#: Units of radar bands. Complex numbers are read as their amplitude.
UNITS = ('dB', 'power', 'amplitude', 'complex')

#: Rows that are converted at a time.
_ROWS = 256


@dataclass(frozen=True)
class ComplexScene(Scene):
    """Complex radar bands, read as amplitude: the length of each number.

    Phase is of no use to a network that sees one image. Zero, where every band has it, is
    what was not measured, though no file says it.
    """

    def _read_file(
        self, path: Path, positions: Sequence[int], window: Window
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        stored, mask = super()._read_file(path, positions, window)
        return np.abs(stored).astype(np.float32, copy=False), mask


@dataclass(frozen=True)
class RadarOpticalScene(Scene):
    """Radar and optical bands on the grid of the radar, valid where the radar is.

    Optical bands are warped when they are read. Where there are none (clouds that were
    masked, beyond the edge) they are NaN: what radar has measured there is as good as
    elsewhere, and so are its labels. With optical bands only, a scene is valid where
    they are.
    """

    #: Names of the radar bands; all others are optical.
    sar_bands: tuple[str, ...] = ()
    #: Whether the radar bands are complex.
    is_complex: bool = False
    #: Grid of the optical bands; None if the scene has no optical image, so that they
    #: are NaN everywhere.
    optical_grid: Grid | None = None

    def _radar(self) -> tuple[list[int], Scene]:
        here = [i for i, band in enumerate(self.bands) if band.name in self.sar_bands]
        bands = tuple(self.bands[i] for i in here)
        kind = ComplexScene if self.is_complex else Scene
        return here, kind(self.name, self.path, self.grid, bands)

    def _valid_inside(self, window: Window) -> NDArray[np.bool_]:
        here, radar = self._radar()
        if here:
            return radar._valid_inside(window)
        return self._read_inside(window)[1]

    def _read_inside(
        self, window: Window
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        here, radar = self._radar()
        others = [i for i in range(len(self.bands)) if i not in here]
        shape = int(window.height), int(window.width)
        image = np.full((len(self.bands), *shape), np.nan, np.float32)
        valid = np.ones(shape, np.bool_)
        if here:
            image[here], valid = radar._read_inside(window)
        if others:
            values, seen = self._read_optical(others, self.grid.crop(window))
            image[others] = np.where(seen, values, np.nan)
            if not here:
                valid = seen
        image[:, ~valid] = 0
        return image, valid

    def read_stored(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values and validity: numbers of two grids are not stored side by side.

        Args:
            window: Whole pixels of the grid, all of them inside.
        """
        return self._read_inside(window)

    def _read_optical(
        self, positions: Sequence[int], target: Grid
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Optical bands and their validity on a grid."""
        nothing = np.zeros((len(positions), *target.shape), np.float32)
        if self.optical_grid is None:
            return nothing, np.zeros(target.shape, np.bool_)
        bands = tuple(self.bands[i] for i in positions)
        optical = Scene(self.name, bands[0].path, self.optical_grid, bands)
        if (window := aligned_window(optical.grid, target)) is not None:
            return optical.read(window)
        window = source_window(optical.grid, target)
        if not (window.width and window.height):
            return nothing, np.zeros(target.shape, np.bool_)
        values, valid = optical.read(window)
        return warp_image(values, valid, optical.grid.crop(window), target)


class RadarOpticalFolder(SceneFolder):
    """A folder of radar scenes with labels, and optical images of the same places.

    Dataset format:

    .. code-block:: text

       root/
       ├── images/            radar
       │   ├── a.tif
       │   └── b.tif
       ├── optical/           same names, on any grid
       │   └── a.tif
       ├── labels/            (or masks/): same names, on the grid of the radar, or
       │   └── a.tif          polygons
       └── classes.csv        (optional) value,name,color

    It is a folder of scenes as :class:`SceneFolder` describes it, so that one can train
    on ``images`` alone, and map them. Radar that has no optical image keeps its labels;
    its optical bands are NaN, as they are where the optical image has nodata. Radar
    without labels, but with an optical image, has something to learn from, too.
    """

    def __init__(
        self,
        root: str | Path,
        sar: Sequence[str],
        optical: Sequence[str] | None = None,
        bands: Sequence[str] | None = None,
        class_field: str | None = None,
        class_names: Sequence[str] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        """Initialize a new RadarOpticalFolder instance.

        Args:
            root: Folder of ``images`` and ``optical``.
            sar: Names of the radar bands: those that the files state, or, where they
                state none, of all their bands in order.
            optical: Names of the optical bands, likewise; by default those that the files
                state.
            bands: Names of the bands to read; all of them by default.
            class_field: Column with the class of polygon labels.
            class_names: Names of the classes in the order of their values, where the
                folder has no ``classes.csv``.
            transforms: Function applied to each sample.

        Raises:
            DatasetNotFoundError: If there is no scene in ``images``.
            FileNotFoundError: If one of the two folders is not there.
            ValueError: If names of bands are not known, radar and optical image of one
                name do not overlap, or there is no optical image at all.
        """
        for folder in ('images', 'optical'):
            if not (Path(root) / folder).is_dir():
                raise FileNotFoundError(
                    f'{Path(root) / folder} does not exist; pairs are radar in images/ and '
                    'optical images of the same names in optical/'
                )
        super().__init__(
            root,
            class_field=class_field,
            class_names=class_names,
            transforms=transforms,
        )
        partners = {
            scene.name: _named(scene, optical, 'optical', 'optical bands')
            for scene in indexed_scenes(self.root / 'optical').scenes
        }
        radar = [_named(scene, sar, 'sar', 'radar bands') for scene in self.scenes]
        found = [partners[scene.name] for scene in radar if scene.name in partners]
        if not found:
            raise ValueError(
                f'no scene in {self.root / "images"} has an optical image of its name in '
                f'{self.root / "optical"}; put {radar[0].name}.tif there, or train on '
                'images alone'
            )
        #: Names of the radar bands and of the optical ones.
        self.sar_bands, self.optical_bands = tuple(sar), found[0].band_names
        paired = [
            radar_optical(scene, partners.get(scene.name), found[0]) for scene in radar
        ]
        chosen = (*sar, *self.optical_bands) if bands is None else bands
        self.scenes = tuple(scene.select(chosen) for scene in paired)


def radar_optical(
    radar: Scene, optical: Scene | None, like: Scene | None = None
) -> RadarOpticalScene:
    """A radar scene and an optical scene of any grid as one scene.

    Args:
        radar: Scene of radar bands. The result has its name, path and grid.
        optical: Scene that overlaps it, in any CRS; None if there is none.
        like: Scene whose optical bands are meant where there are none.

    Returns:
        A scene with the bands of *radar*, then those of *optical*.

    Raises:
        ValueError: If the two do not overlap, or lie nowhere; or if two bands have one
            name.
    """
    meant = optical or like
    bands = () if meant is None else meant.bands
    if optical is None:
        # There is nothing to read from.
        bands = tuple(replace(band, path=radar.path) for band in bands)
    elif problem := _apart(radar, optical):
        raise ValueError(
            f'{radar.path} and {optical.path} {problem}. Give pairs of one place: files '
            'of one name are taken for a pair'
        )
    if twice := sorted({*radar.band_names} & {band.name for band in bands}):
        raise ValueError(
            f'{radar.path} and its optical image both have a band {", ".join(twice)}; '
            'give them names by which they can be told apart, such as VV and VH'
        )
    return RadarOpticalScene(
        name=radar.name,
        path=radar.path,
        grid=radar.grid,
        bands=radar.bands + bands,
        acquired=radar.acquired,
        sar_bands=radar.band_names,
        is_complex=isinstance(radar, ComplexScene),
        optical_grid=None if optical is None else optical.grid,
    )


def open_radar(files: Mapping[str, Path], unit: str) -> Scene:
    """Radar bands in single files, or in one, as a scene.

    Args:
        files: File of each band by its name, such as ``{'HH': hh, 'HV': hv}``. A file
            that is named more than once has its bands in this order.
        unit: What the numbers are: dB, power, amplitude or complex. Complex numbers are
            read as amplitude.

    Raises:
        ValueError: If there is no such unit, a file cannot be opened, grids differ, or
            numbers are complex and *unit* says otherwise, or the reverse.
    """
    if unit not in UNITS:
        raise ValueError(f'unit must be one of {", ".join(UNITS)}, got {unit!r}')
    opened = [
        _open_band(path, name, [*files.values()][:i].count(path) + 1, unit)
        for i, (name, path) in enumerate(files.items())
    ]
    (_, grid), *others = opened
    for (band, other), path in zip(others, [*files.values()][1:], strict=True):
        if other != grid:
            raise ValueError(
                f'{path} ({band.name}) is on another grid than the first band '
                f'{opened[0][0].path}; warp it with rio warp --like'
            )
    path = opened[0][0].path
    kind = ComplexScene if unit == 'complex' else Scene
    bands = tuple(band for band, _ in opened)
    return kind(scene_name(path, None), path, grid, bands)


def write_decibel(scene: Scene, unit: str, path: Path) -> None:
    """Write radar bands in decibel as a GeoTIFF, so that they are a scene of a folder.

    Args:
        scene: Radar bands, such as :func:`open_radar` gives.
        unit: What its numbers are; complex ones are read as amplitude.
        path: GeoTIFF to write: float32, NaN where a pixel is not valid or its power is
            0, with the names of the bands.

    Raises:
        ValueError: If there is no such unit.
    """
    if unit not in UNITS:
        raise ValueError(f'unit must be one of {", ".join(UNITS)}, got {unit!r}')
    grid = scene.grid
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.part')
    with rasterio.open(
        part, 'w', driver='GTiff', dtype='float32', nodata=np.nan, tiled=True,
        count=len(scene.bands), width=grid.width, height=grid.height, crs=grid.crs,
        transform=grid.transform, compress='deflate', predictor=3,
    ) as target:  # fmt: skip
        target.descriptions = scene.band_names
        for row in range(0, grid.height, _ROWS):
            window = Window(0, row, grid.width, min(_ROWS, grid.height - row))
            image, valid = scene.read(window)
            target.write(_in_decibel(image, valid, unit), window=window)
    part.replace(path)


def _in_decibel(
    image: NDArray[np.float32], valid: NDArray[np.bool_], unit: str
) -> NDArray[np.float32]:
    known = np.where(valid, image, np.float32(np.nan))
    if unit == 'dB':
        return known
    factor = 10 if unit == 'power' else 20
    positive = np.where(known > 0, known, np.float32(np.nan))
    return np.asarray(factor * np.log10(positive), np.float32)


def _open_band(path: Path, name: str, index: int, unit: str) -> tuple[Band, Grid]:
    with explained(path), open_raster(path) as source:
        check_complete(source, path)
        if index > source.count:
            raise ValueError(f'it has {source.count} bands, no {index}th for {name}')
        is_complex = source.dtypes[index - 1].startswith('complex')
        if is_complex != (unit == 'complex'):
            raise ValueError(
                f'its numbers are {source.dtypes[index - 1]}, but declared as {unit}; '
                f'declare {"complex" if is_complex else "dB, power or amplitude"}'
            )
        band = band_of(source, path, index, name)
        if is_complex:
            # As it is read; zero is what was not measured.
            band = replace(band, dtype='float32', nodata=0)
        return band, grid_of(source)


def _named(
    scene: Scene, names: Sequence[str] | None, argument: str, what: str
) -> Scene:
    """A scene with the bands of these names, which files may leave to the user."""
    unnamed = list(scene.band_names) == [f'B{i + 1}' for i in range(len(scene.bands))]
    if names is None and unnamed:
        raise ValueError(
            f'{scene.path} does not say which {what} it has, and their order is unknown; '
            f'name all {len(scene.bands)} in order: --data.{argument} "[B2, B3, B4]", or '
            'describe them in the file (rio edit-info, or GDAL band descriptions)'
        )
    if names is None or set(names) <= set(scene.band_names):
        return scene if names is None else scene.select(names)
    if not unnamed:
        raise ValueError(
            f'{scene.path} has the bands {", ".join(scene.band_names)}; {argument} names '
            f'{", ".join(names)}'
        )
    if len(names) != len(scene.bands):
        raise ValueError(
            f'{scene.path} has {len(scene.bands)} bands without names, {argument} names '
            f'{len(names)}: {", ".join(names)}. Name all of them, in order'
        )
    return with_names(scene, names)


def _apart(radar: Scene, optical: Scene) -> str | None:
    """Why two scenes are no pair; None if they are."""
    here, there = footprint(radar.grid), footprint(optical.grid)
    if here is None or there is None:
        return 'cannot be paired: one of them has no place on Earth'
    if here.intersects(there):
        return None
    return f'do not overlap: {_around(here)} and {_around(there)}'


def _around(outline: Any) -> str:
    left, bottom, right, top = outline.bounds
    return f'{left:.4f} to {right:.4f} E, {bottom:.4f} to {top:.4f} N'
