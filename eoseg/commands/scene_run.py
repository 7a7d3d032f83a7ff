"""Mapping scene after scene, whatever becomes of one of them."""

import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import rasterio
from rasterio.windows import Window

from eoseg_datasets.scene import Scene

from ..io.report import SceneReport
from .console import say
from .mosaic import Request, parse_crs, write_mosaic
from .products import MapFolder

if TYPE_CHECKING:
    from .mapper import Mapper

#: Bytes; with less left on the disk, an error in writing may be due to that.
_LITTLE = 100 * 2**20


class SceneRun:
    """Maps scene after scene; what goes wrong with one does not stop the others.

    While a scene is computed, the files of the one before are finished: written as COG
    with overviews, read back, and described.
    """

    def __init__(
        self, mapper: 'Mapper', folder: MapFolder, kept: Sequence[str]
    ) -> None:
        """Initialize a new SceneRun instance.

        Args:
            mapper: Computes a scene.
            folder: Where the maps go.
            kept: Layers that stay, in the order of their bands.
        """
        self.mapper = mapper
        self.folder = folder
        self.kept = tuple(kept)
        #: Scenes whose maps this run has written.
        self.written: list[Scene] = []

    def reports(self, scenes: Sequence[Scene]) -> list[SceneReport]:
        """Map scenes unless that is done, and say how it went.

        Args:
            scenes: What to map.
        """
        from ..inference.reader import CACHE

        background = ThreadPoolExecutor(1, 'finish')
        # Of all threads: GDAL would take a twentieth of the machine's memory.
        with rasterio.Env(GDAL_CACHEMAX=CACHE):
            try:
                waiting = [self._begin(scene, background) for scene in scenes]
                return [
                    found.result() if isinstance(found, Future) else found
                    for found in waiting
                ]
            finally:
                background.shutdown(cancel_futures=True)

    def mosaic(self, scenes: Sequence[Scene]) -> SceneReport | None:
        """Mosaic the maps there are, unless there is a mosaic of just these.

        Args:
            scenes: Those of the run.

        Returns:
            How it went; None if no scene has maps.
        """
        folder, options = self.folder, self.mapper.options
        mapped = [scene for scene in scenes if folder.has(scene)]
        if not mapped:
            return None
        started = time.perf_counter()
        tags = folder.mosaic_tags(mapped, {'crs': options.crs, 'res': options.res})
        try:
            kept = folder.has_mosaic(tags)
            if not kept:
                self._write_mosaic(mapped, tags)
            if not options.probabilities:
                folder.forget_probabilities(self.written)
            report = folder.describe_mosaic()
        # The maps of the scenes are there, whatever becomes of the mosaic.
        except Exception as error:  # noqa: BLE001
            return SceneReport(
                folder.mosaic.name, 'failed', _reason(error, folder.root)
            )
        if kept:
            return replace(report, status='kept')
        seconds = time.perf_counter() - started
        say(f'done    mosaic of {len(mapped)} scenes, {seconds:.1f} s')
        return replace(report, seconds=seconds)

    def _write_mosaic(self, mapped: Sequence[Scene], tags: Mapping[str, str]) -> None:
        folder, options = self.folder, self.mapper.options
        for scene in mapped:
            # An earlier run has mosaicked these and let go of what it needed.
            if not folder.has(scene, 'probabilities'):
                self._write(scene, self.mapper.compute(scene))
        write_mosaic(
            [folder.path(scene, 'probabilities') for scene in mapped],
            folder.mosaic,
            folder.legend,
            Request(
                crs=parse_crs(options.crs),
                res=options.res,
                area=options.aoi,
                memory=options.memory,
            ),
            tags,
        )

    def _write(self, scene: Scene, units: Sequence[Window]) -> None:
        self.folder.write(scene, units)
        self.written.append(scene)

    def _begin(
        self, scene: Scene, background: ThreadPoolExecutor
    ) -> 'SceneReport | Future[SceneReport]':
        """Compute a scene; the rest goes on in the background."""
        started = time.perf_counter()
        try:
            units: list[Window] | None = None
            if not all(self.folder.has(scene, name) for name in self.kept):
                units = self.mapper.compute(scene)
            return background.submit(self._finish, scene, units, started)
        # Whatever a file makes the libraries do, the other scenes go on.
        except Exception as error:  # noqa: BLE001
            return self._failed(scene, error)

    def _failed(self, scene: Scene, error: Exception) -> SceneReport:
        reason = _reason(error, self.folder.root)
        return SceneReport(str(scene.path), 'failed', reason)

    def _finish(
        self, scene: Scene, units: list[Window] | None, started: float
    ) -> SceneReport:
        try:
            if units is not None:
                self._write(scene, units)
            report = self.folder.describe(
                scene, self.kept, polygons=self.mapper.options.polygons
            )
        except Exception as error:  # noqa: BLE001
            return self._failed(scene, error)
        seconds = time.perf_counter() - started
        notes = self.mapper.notes.get(scene.name)
        report = replace(report, reason='; '.join(notes) if notes else None)
        size = f'{scene.name}: {scene.grid.width} x {scene.grid.height} px'
        if units is None:
            say(f'kept    {size}')
            return replace(report, status='kept')
        say(f'done    {size}, {seconds:.1f} s, {report.megapixels / seconds:.2f} Mpx/s')
        return replace(report, seconds=seconds)


def _reason(error: BaseException, out: Path) -> str:
    # rasterio: "Write failed. See previous exception for details."
    if error.__cause__ and 'previous exception' in str(error):
        return _reason(error.__cause__, out)
    text = str(error) or type(error).__name__
    # GDAL does not say that the disk is full, but where in the file it stopped.
    free = shutil.disk_usage(out).free
    return text if free > _LITTLE else f'{text} ({free >> 20} MB are free in {out})'
