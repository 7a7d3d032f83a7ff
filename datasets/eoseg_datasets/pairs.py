"""Two sensors that saw one place, as one scene: radar first, then optical bands."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from .grid import Grid
from .scene import Scene

#: Pixels that the corners of two grids may be apart. Coordinates of files are rounded,
#: and no two sensors are registered better than this.
TOLERANCE = 0.1


@dataclass(frozen=True)
class PairedScene(Scene):
    """Bands of two sensors on one grid, valid where both of them have measured.

    In a scene of one sensor, zero counts as nodata only where all bands have it. In a
    pair the nodata of one sensor would hide behind the numbers of the other, so here
    each is asked for itself. With the bands of one sensor only, the other has no say.
    """

    #: Names of the radar bands; all others are of the other sensor.
    sar_bands: tuple[str, ...] = ()

    def _valid_inside(self, window: Window) -> NDArray[np.bool_]:
        valid = np.ones((int(window.height), int(window.width)), np.bool_)
        for _, scene in self._sensors():
            valid &= scene._valid_inside(window)
        return valid

    def _read_inside(
        self, window: Window
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        shape = int(window.height), int(window.width)
        image = np.empty((len(self.bands), *shape), np.float32)
        valid = np.ones(shape, np.bool_)
        for here, scene in self._sensors():
            image[here], there = scene._read_inside(window)
            valid &= there
        image[:, ~valid] = 0
        return image, valid

    def _sensors(self) -> Iterator[tuple[list[int], Scene]]:
        """The bands of each sensor: their positions, and the scene that they are."""
        for radar in (True, False):
            here = [
                i
                for i, band in enumerate(self.bands)
                if (band.name in self.sar_bands) == radar
            ]
            if here:
                bands = tuple(self.bands[i] for i in here)
                yield here, Scene(self.name, self.path, self.grid, bands)


def paired(sar: Scene, optical: Scene) -> PairedScene:
    """A radar scene and an optical scene of one place as one scene.

    Args:
        sar: Scene of radar bands. The pair has its name, path and grid.
        optical: Scene with the same outline. Bands of another pixel size are resampled
            to the grid of *sar* when they are read.

    Returns:
        A scene with the bands of *sar*, then those of *optical*.

    Raises:
        ValueError: If the two do not lie on one place, or if two bands have one name.
    """
    if differences := _differences(sar.grid, optical.grid):
        raise ValueError(
            f'{sar.path} and {optical.path} do not lie on one place: '
            f'{"; ".join(differences)}. Warp one to the grid of the other, for example '
            'with rio warp --like'
        )
    counts = Counter(sar.band_names + optical.band_names)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(
            f'{sar.path} and {optical.path} both have a band {", ".join(twice)}; give '
            "them names by which they can be told apart: with_names(sar, ['VV', 'VH'])"
        )
    return PairedScene(
        name=sar.name,
        path=sar.path,
        grid=sar.grid,
        bands=sar.bands + optical.bands,
        acquired=sar.acquired or optical.acquired,
        sar_bands=sar.band_names,
    )


def located(
    names: Sequence[str], sources: Mapping[str, Sequence[str]]
) -> list[tuple[str, str, int]]:
    """Where bands are found in files that have several.

    Args:
        names: Names of bands.
        sources: Names of the bands of each source, in the order of its file.

    Returns:
        Name, source and position (counted from 1) of each band.

    Raises:
        KeyError: If no source has one of them.
    """
    places = {
        name: (source, index)
        for source, bands in sources.items()
        for index, name in enumerate(bands, 1)
    }
    return [(name, *places[name]) for name in names]


def _differences(grid: Grid, other: Grid) -> list[str]:
    """How two outlines differ, in words; none if they are one."""
    if (grid.crs is None) != (other.crs is None) or grid.crs != other.crs:
        return [f'their CRS are {_crs(grid)} and {_crs(other)}']
    # The finer pixel is the measure: nodata and edges are as fine as that.
    pixel = min(*grid.res, *other.res)
    apart = max(
        max(abs(x - far_x), abs(y - far_y))
        for (x, y), (far_x, far_y) in zip(grid.corners, other.corners, strict=True)
    )
    if apart <= TOLERANCE * pixel:
        return []
    return [
        f'their corners are up to {apart / pixel:.1f} pixels apart',
        *(_outline(each) for each in (grid, other)),
    ]


def _crs(grid: Grid) -> str:
    return 'unknown' if grid.crs is None else grid.crs.to_string()


def _outline(grid: Grid) -> str:
    left, bottom, right, top = grid.bounds
    x, y = grid.res
    return (
        f'{grid.width} x {grid.height} pixels of {x:g} x {y:g} from '
        f'({left:.10g}, {bottom:.10g}) to ({right:.10g}, {top:.10g})'
    )
