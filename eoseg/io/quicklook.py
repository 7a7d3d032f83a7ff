"""Pictures to look at maps without a GIS."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import matplotlib
import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rasterio.enums import Resampling

from eoseg_datasets.classes import Legend

from .atomic import complete

# In pixels of the picture; _TEXT is from the left of a swatch to that of its name.
_MARGIN = 24
_SWATCH = 22
_TEXT = 32
_FONT_SIZE = 20
_LINE = 34
# A panel is enlarged to about this side, so that a small map is more than a stamp.
_SMALLEST_SIDE = 480
_SMALLEST_PAGE = 360

_INK = (31, 41, 55)
_FRAME = (209, 213, 219)


def class_picture(
    path: Path, legend: Legend, max_side: int = 1024
) -> NDArray[np.uint8]:
    """Picture of a map of classes, read from its overviews.

    Args:
        path: A map of one uint8 band.
        legend: Colours of the classes. Values without a colour are transparent.
        max_side: Longer side of the picture in pixels, at most.

    Returns:
        Red, green, blue and alpha, of shape (h, w, 4).
    """
    with closing(rasterio.open(path.absolute())) as dataset:
        scale = min(max_side / max(dataset.shape), 1)
        shape = tuple(max(round(side * scale), 1) for side in dataset.shape)
        # Nearest: a mean of class numbers would be another class.
        values = dataset.read(1, out_shape=shape, resampling=Resampling.nearest)
    colors = np.zeros((256, 4), np.uint8)
    for value, color in legend.colormap().items():
        colors[value] = color
    picture: NDArray[np.uint8] = colors[values]
    return picture


def image_picture(
    image: NDArray[np.floating], valid: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Picture of an image, each band stretched from its 2nd to its 98th percentile.

    Args:
        image: Values of shape (C, h, w). The first three bands are shown as red, green
            and blue; with fewer than three, the first as grey.
        valid: Pixels to show, of shape (h, w). Others are transparent, as are those
            without a finite value.

    Returns:
        Red, green, blue and alpha, of shape (h, w, 4).
    """
    bands = image[:3] if len(image) >= 3 else image[[0, 0, 0]]
    shown = valid & np.isfinite(bands).all(axis=0)
    picture = np.zeros((*shown.shape, 4), np.uint8)
    for index, band in enumerate(bands):
        picture[shown, index] = _stretch(band[shown])
    picture[shown, 3] = 255
    return picture


def write_quicklook(
    png: Path,
    image: NDArray[np.uint8] | None,
    classes: NDArray[np.uint8],
    legend: Legend,
) -> None:
    """Write a picture of image and map side by side, with the legend below.

    Args:
        png: Name of the picture.
        image: Picture of the image, of shape (h, w, 4); None to show the map alone.
        classes: Picture of the map, of shape (h, w, 4).
        legend: Names and colours of the classes.
    """
    pictures = [classes] if image is None else [image, classes]
    panels = [_panel(picture, classes.shape) for picture in pictures]
    font = _font()
    width = sum(panel.width + _MARGIN for panel in panels) + _MARGIN
    width = max(width, _SMALLEST_PAGE)
    lines = _flow(legend.classes, width - 2 * _MARGIN, font)
    height = panels[0].height + 2 * _MARGIN + len(lines) * _LINE + _MARGIN // 2
    page = Image.new('RGB', (width, height), 'white')
    draw = ImageDraw.Draw(page)
    _draw_panels(page, draw, panels)
    top = panels[0].height + 2 * _MARGIN
    for number, line in enumerate(lines):
        _draw_entries(draw, line, legend, top + number * _LINE, font)
    with complete(png) as part:
        page.save(part, format='PNG', optimize=True)


def _stretch(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    if not values.size:
        return np.empty(0, np.uint8)
    low, high = np.percentile(values, (2, 98))
    share = (values - low) / (high - low if high > low else 1)
    stretched: NDArray[np.uint8] = np.round(share.clip(0, 1) * 255).astype(np.uint8)
    return stretched


def _panel(picture: NDArray[np.uint8], shape: Sequence[int]) -> Image.Image:
    """The picture on white, as large as its neighbour and not too small."""
    height, width = shape[:2]
    scale = max(round(_SMALLEST_SIDE / max(height, width)), 1)
    panel = Image.fromarray(picture).resize(
        (width * scale, height * scale), Image.Resampling.NEAREST
    )
    page = Image.new('RGBA', panel.size, 'white')
    page.alpha_composite(panel)
    return page


def _font() -> ImageFont.FreeTypeFont:
    # Comes with matplotlib; knows Latin, Greek and Cyrillic letters.
    path = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
    return ImageFont.truetype(path, _FONT_SIZE)


def _flow(
    names: Sequence[str], width: int, font: ImageFont.FreeTypeFont
) -> list[list[tuple[int, int, str]]]:
    """Lines of entries: where each begins, its class, and its name as far as it fits.

    One after the other if they fit on one line, in columns of equal width otherwise.
    """
    texts = [_shorten(name, width - _TEXT, font) for name in names]
    widths = [_TEXT + round(font.getlength(text)) + _MARGIN for text in texts]
    if sum(widths) - _MARGIN <= width:
        starts = np.cumsum([0, *widths[:-1]]).tolist()
        return [list(zip(starts, range(len(texts)), texts, strict=True))]
    step = max(widths)
    columns = max((width + _MARGIN) // step, 1)
    entries = [(i % columns * step, i, text) for i, text in enumerate(texts)]
    return [entries[i : i + columns] for i in range(0, len(entries), columns)]


def _shorten(name: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(name) <= width:
        return name
    while name and font.getlength(name + '…') > width:
        name = name[:-1]
    return name + '…'


def _draw_panels(
    page: Image.Image, draw: ImageDraw.ImageDraw, panels: Sequence[Image.Image]
) -> None:
    left = _MARGIN
    for panel in panels:
        page.paste(panel, (left, _MARGIN))
        right, bottom = left + panel.width, _MARGIN + panel.height
        draw.rectangle((left - 1, _MARGIN - 1, right, bottom), outline=_FRAME)
        left = right + _MARGIN


def _draw_entries(
    draw: ImageDraw.ImageDraw,
    line: Sequence[tuple[int, int, str]],
    legend: Legend,
    top: int,
    font: ImageFont.FreeTypeFont,
) -> None:
    middle = top + _SWATCH / 2
    for offset, index, text in line:
        left = _MARGIN + offset
        draw.rounded_rectangle(
            (left, top, left + _SWATCH, top + _SWATCH),
            radius=4,
            fill=legend.rgb(index),
            outline=_FRAME,
        )
        draw.text((left + _TEXT, middle), text, fill=_INK, font=font, anchor='lm')
