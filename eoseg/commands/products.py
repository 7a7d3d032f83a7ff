"""The folder of a prediction run: which files there are, and writing them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eoseg_datasets.classes import NODATA, Legend
from eoseg_datasets.handles import open_raster
from eoseg_datasets.scene import Scene, grid_of

from ..errors import OutputExistsError
from ..inference.match import glance
from ..io.atomic import remove_leftovers, write_json
from ..io.cog import MapWriter, count_values
from ..io.quicklook import class_picture, image_picture, write_quicklook
from ..io.report import Report, SceneReport, write_report
from ..io.stac import MapItem, write_stac
from ..io.style import write_confidence_qml, write_qml
from ..io.vector import write_polygons
from .console import progress

if TYPE_CHECKING:
    from ..inference.scene import Strip

#: Probabilities and confidence are stored as whole numbers, 254 for 1; 255 is nodata.
FULL = 254

#: Longer side of the picture of a scene, in pixels.
PICTURE_SIDE = 1024


class Folder:
    """The folder of a prediction run.

    A scene ``a/b.tif`` becomes ``a/b_classes.tif`` and so on, so that scenes of the same
    name in two folders do not meet. ``classes`` is written last: where it is, the scene
    is done. ``run.json`` says what the maps depend on; they are kept by a run of the
    same kind, and only by such a one.
    """

    def __init__(
        self,
        root: Path,
        legend: Legend,
        checkpoint: str,
        settings: Mapping[str, object],
    ) -> None:
        """Initialize a new Folder instance.

        Args:
            root: The folder.
            legend: Classes of the maps.
            checkpoint: Hash of what makes them.
            settings: What else they depend on.
        """
        self.root = root
        self.legend = legend
        self.identity = {'checkpoint': checkpoint, **settings}
        self.mosaic = root / 'mosaic.tif'
        self._mosaic_of: list[str] = []
        #: Whether there is a mosaic of just these scenes already.
        self.mosaic_is_current = False
        self._overwrite = False

    def claim(self, mosaic_of: Sequence[str], *, overwrite: bool) -> None:
        """Make the folder, or go on in one of the same run.

        Args:
            mosaic_of: Names of the scenes that a mosaic is wanted of.
            overwrite: Whether maps of another run may be replaced.

        Raises:
            OutputExistsError: If there are maps of another run.
        """
        state = self.root / 'run.json'
        earlier = json.loads(state.read_text()) if state.is_file() else {}
        has_maps = any(self.root.glob('**/*_classes.tif'))
        if has_maps and earlier.get('identity') != self.identity and not overwrite:
            known = earlier.get('identity', {})
            other = [
                key for key in self.identity if known.get(key) != self.identity[key]
            ]
            raise OutputExistsError(
                f'{self.root} holds maps of another run (other {", ".join(other)}). '
                'Keep them: --out ANOTHER; replace them: --overwrite'
            )
        self._overwrite = overwrite
        self._mosaic_of = sorted(mosaic_of)
        self.mosaic_is_current = (
            not overwrite
            and self.mosaic.is_file()
            and earlier.get('mosaic_of') == self._mosaic_of
        )
        self.root.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.root)
        write_json(state, {'identity': self.identity, 'mosaic_of': None})

    def path(self, scene: Scene, product: str) -> Path:
        """File of a product of a scene, such as ``classes``."""
        return self.root / f'{scene.name}_{product}.tif'

    def is_mapped(self, scene: Scene) -> bool:
        """Whether a mosaic can be made of a scene."""
        return self.path(scene, 'classes').is_file() and (
            self.mosaic_is_current or self.path(scene, 'probabilities').is_file()
        )

    def has(self, scene: Scene) -> bool:
        """Whether a scene needs no work: its maps are there, and what a mosaic needs."""
        if self._overwrite:
            return False
        return self.is_mapped(scene) or (
            not self._mosaic_of and self.path(scene, 'classes').is_file()
        )

    def write(self, scene: Scene, strips: Iterable['Strip']) -> None:
        """Write the maps of a scene as its strips come.

        Args:
            scene: What was mapped.
            strips: From top to bottom.
        """
        about = {'CHECKPOINT': str(self.identity['checkpoint']), 'SCENE': scene.name}
        shares: dict[str, Any] = {
            'scale': 1 / FULL,
            'overviews': 'average',
            'tags': about,
        }
        with ExitStack() as stack:
            # Left in reverse order: classes, which say that all is there, come last.
            classes = stack.enter_context(
                MapWriter(
                    self.path(scene, 'classes'),
                    scene.grid,
                    legend=self.legend,
                    tags=about,
                )
            )
            confidence = stack.enter_context(
                MapWriter(
                    self.path(scene, 'confidence'), scene.grid, bands=['confidence'],
                    **shares,
                )
            )  # fmt: skip
            probabilities = stack.enter_context(
                MapWriter(
                    self.path(scene, 'probabilities'), scene.grid,
                    bands=self.legend.classes, **shares,
                )
            )  # fmt: skip
            bar = stack.enter_context(progress())
            task = bar.add_task(scene.name, total=scene.grid.height)
            for strip in strips:
                # The class is chosen before the probabilities are rounded.
                labels = strip.probabilities.argmax(axis=0).astype(np.uint8)
                stored = np.rint(strip.probabilities * FULL).astype(np.uint8)
                labels[~strip.valid] = NODATA
                stored[:, ~strip.valid] = NODATA
                classes.write(labels, strip.row_off)
                confidence.write(stored.max(axis=0), strip.row_off)
                probabilities.write(stored, strip.row_off)
                bar.advance(task, len(labels))
        write_qml(self.path(scene, 'classes').with_suffix('.qml'), self.legend)
        write_confidence_qml(self.path(scene, 'confidence').with_suffix('.qml'))

    def describe(self, scene: Scene, *, polygons: bool) -> SceneReport:
        """What a finished map says; its picture and polygons are made if missing.

        Args:
            scene: What was mapped.
            polygons: Whether polygons are wanted.
        """
        classes = self.path(scene, 'classes')
        outputs = {'classes': classes, 'confidence': self.path(scene, 'confidence')}
        if polygons:
            outputs['polygons'] = classes.with_name(f'{scene.path.stem}_polygons.gpkg')
            write_polygons(classes, outputs['polygons'], self.legend)
        quicklook = self.root / f'{scene.name}_quicklook.png'
        picture = image_picture(*glance(scene, PICTURE_SIDE))
        write_quicklook(
            quicklook, picture, class_picture(classes, self.legend), self.legend
        )
        return self._report(classes, str(scene.path), outputs, quicklook)

    def describe_mosaic(self) -> SceneReport:
        """What the mosaic says."""
        quicklook = self.root / 'mosaic_quicklook.png'
        write_quicklook(
            quicklook, None, class_picture(self.mosaic, self.legend), self.legend
        )
        outputs = {
            'classes': self.mosaic,
            'sources': self.mosaic.with_name('mosaic_sources.tif'),
        }
        return self._report(self.mosaic, self.mosaic.name, outputs, quicklook)

    def _report(
        self, classes: Path, name: str, outputs: Mapping[str, Path], quicklook: Path
    ) -> SceneReport:
        counts = count_values(classes)
        with open_raster(classes) as source:
            crs = source.crs.to_string()
        return SceneReport(
            path=name,
            status='done',
            megapixels=int(counts.sum()) / 1e6,
            nodata=int(counts[NODATA]) / int(counts.sum()),
            classes=self.legend.shares(counts),
            crs=crs,
            outputs={
                kind: path.relative_to(self.root).as_posix()
                for kind, path in outputs.items()
            },
            quicklook=quicklook.relative_to(self.root).as_posix(),
        )

    def finish(
        self, scenes: Sequence[Scene], report: Report, *, keep_probabilities: bool
    ) -> None:
        """Write report and catalogue; forget probabilities that nobody asked for.

        Args:
            scenes: All scenes of the run.
            report: What became of them.
            keep_probabilities: Whether probabilities were asked for.
        """
        write_report(self.root, report)
        self._catalogue(scenes)
        if not keep_probabilities and (report.mosaic or not self._mosaic_of):
            for scene in scenes:
                self.path(scene, 'probabilities').unlink(missing_ok=True)
        made = report.mosaic is not None and report.mosaic.status != 'failed'
        state = {
            'identity': self.identity,
            'mosaic_of': self._mosaic_of if made else None,
        }
        write_json(self.root / 'run.json', state)

    def _catalogue(self, scenes: Sequence[Scene]) -> None:
        """STAC items of the maps."""
        items = []
        for scene in scenes:
            classes = self.path(scene, 'classes')
            if classes.is_file():
                with open_raster(classes) as source:
                    grid = grid_of(source)
                assets = {'confidence': self.path(scene, 'confidence')}
                items.append(MapItem(scene.name, classes, grid, assets, scene.acquired))
        if items:
            write_stac(self.root, items, self.legend)
