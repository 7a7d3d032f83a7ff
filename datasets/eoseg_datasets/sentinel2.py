"""Sentinel-2 SAFE folders."""

import re
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

from .handles import open_raster
from .scene import Band, Scene, grid_of, scene_name

#: T32TQR_20230711T101559_B8A_20m.jp2 (level 2A) or …_B8A.jp2 (level 1C).
_BAND_FILE = re.compile(
    r'_(?P<date>\d{8}T\d{6})_(?P<band>B\d[\dA])(?:_(?P<res>\d\d)m)?\.jp2$'
)
#: Band identifiers of the metadata (ESA product specification): their order in the XML.
_BAND_IDS = (
    'B01', 'B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B09', 'B10', 'B11',
    'B12',
)  # fmt: skip


def is_safe_folder(path: Path) -> bool:
    """Whether a folder is a SAFE product."""
    return path.suffix == '.SAFE' and path.is_dir()


def open_safe(folder: Path, root: Path | None = None) -> Scene:
    """A SAFE folder as a scene on the 10 m grid.

    Bands of 20 and 60 m are interpolated to it when they are read. Where a band comes
    in several resolutions (level 2A), its finest is taken. Numbers become reflectance
    with the quantification value and the offset that the product states (since
    processing baseline 04.00 the offset is -1000).

    Args:
        folder: The folder ending in ``.SAFE``.
        root: Folder that the name of the scene is relative to.

    Raises:
        FileNotFoundError: If the product has no band files.
        RasterioIOError: If a band cannot be opened.
    """
    finest: dict[str, tuple[int, Path, str]] = {}
    for path in sorted(folder.glob('GRANULE/*/IMG_DATA/**/*.jp2')):
        if match := _BAND_FILE.search(path.name):
            candidate = (int(match['res'] or 0), path, match['date'])
            finest[match['band']] = min(finest.get(match['band'], candidate), candidate)
    if not finest:
        raise FileNotFoundError(
            f'{folder.name} has no band files in GRANULE/*/IMG_DATA; '
            'extract the whole product'
        )
    quantification, offsets = _radiometry(folder)
    grids, dtypes = {}, {}
    for name, (_, path, _) in finest.items():
        with open_raster(path) as source:
            grids[name], dtypes[name] = grid_of(source), source.dtypes[0]
    bands = tuple(
        Band(
            name=name,
            path=finest[name][1],
            index=1,
            nodata=0,
            scale=1 / quantification,
            offset=offsets.get(name, 0) / quantification,
            dtype=dtypes[name],
        )
        for name in _BAND_IDS
        if name in finest
    )
    return Scene(
        name=scene_name(folder, root).removesuffix('.SAFE'),
        path=folder,
        grid=max(grids.values(), key=lambda grid: grid.width),
        bands=bands,
        acquired=datetime.strptime(next(iter(finest.values()))[2], '%Y%m%dT%H%M%S'),
    )


def _radiometry(folder: Path) -> tuple[float, dict[str, float]]:
    """Quantification value and the offset of each band, in stored numbers."""
    quantification, offsets = 10000.0, dict[str, float]()
    for path in folder.glob('MTD_MSIL*.xml'):
        for node in ElementTree.parse(path).iter():
            if node.tag in ('QUANTIFICATION_VALUE', 'BOA_QUANTIFICATION_VALUE'):
                quantification = float(node.text or 10000)
            elif node.tag in ('RADIO_ADD_OFFSET', 'BOA_ADD_OFFSET'):
                offsets[_BAND_IDS[int(node.get('band_id', 0))]] = float(node.text or 0)
    return quantification, offsets
