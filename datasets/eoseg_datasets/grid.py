"""Where the pixels of a raster lie."""

from dataclasses import dataclass
from typing import Self

from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window
from rasterio.windows import transform as window_transform


@dataclass(frozen=True)
class Grid:
    """Coordinate reference system, transform and size of a raster."""

    crs: CRS
    transform: Affine
    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    @property
    def res(self) -> tuple[float, float]:
        """Width and height of a pixel in units of the CRS, also on a rotated grid."""
        t = self.transform
        return (t.a**2 + t.d**2) ** 0.5, (t.b**2 + t.e**2) ** 0.5

    @property
    def corners(self) -> list[tuple[float, float]]:
        """The four corners in units of the CRS, in order around the raster."""
        pixels = [(0, 0), (self.width, 0), (self.width, self.height), (0, self.height)]
        return [self.transform @ pixel for pixel in pixels]

    @property
    def is_placed(self) -> bool:
        """Whether it lies on Earth: pictures and local plans do not."""
        return self.crs is not None and not self.crs.wkt.startswith(
            ('LOCAL_CS', 'ENGCRS')
        )

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top in units of the CRS."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def crop(self, window: Window) -> Self:
        """The grid of a window, which may reach beyond this one."""
        return type(self)(
            crs=self.crs,
            transform=window_transform(window, self.transform),
            width=int(window.width),
            height=int(window.height),
        )
