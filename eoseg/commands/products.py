"""The folder of a prediction run: which files there are, what they are made of."""

import hashlib
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
from ..io.atomic import remove_leftovers
from ..io.cog import MapWriter, count_values
from ..io.quicklook import class_picture, image_picture, write_quicklook
from ..io.report import Report, SceneReport, write_report
from ..io.stac import MapItem, write_stac
from ..io.style import write_confidence_qml, write_qml
from ..io.vector import write_polygons
from .console import progress
from .mosaic import FULL

if TYPE_CHECKING:
    from ..inference.scene import Strip

#: Longer side of the picture of a scene, in pixels.
PICTURE_SIDE = 1024


class MapFolder:
    """The folder of a prediction run.

    A scene ``a/b.tif`` becomes ``a/b_classes.tif`` and so on, so that scenes of the same
    name in two folders do not meet. Every map says in its tags what it is made of: the
    checkpoint, the settings and the files of the scene. A map is kept only where that is
    what would be made again. ``classes`` is written last: where it is, all is there.
    """

    def __init__(
        self,
        root: Path,
        legend: Legend,
        tags: Mapping[str, str],
        *,
        probabilities: bool,
    ) -> None:
        """Initialize a new MapFolder instance.

        Args:
            root: The folder.
            legend: Classes of the maps.
            tags: What every map depends on, beside its scene: for its tags.
            probabilities: Whether probabilities are written, for a mosaic or to keep.
        """
        self.root = root
        self.legend = legend
        self.tags = dict(tags)
        self.probabilities = probabilities
        self.mosaic = root / 'mosaic.tif'

    def claim(self, scenes: Sequence[Scene], *, overwrite: bool) -> None:
        """Tidy up after a run that was killed, and refuse maps of other origin.

        Args:
            scenes: What is to be mapped.
            overwrite: Whether maps of other origin may be replaced.

        Raises:
            OutputExistsError: If they may not, and there are some.
        """
        remove_leftovers(self.root)
        foreign = {
            scene.name: other for scene in scenes if (other := self._differences(scene))
        }
        if foreign and not overwrite:
            name, other = next(iter(foreign.items()))
            raise OutputExistsError(
                f'{self.root} holds maps of another run: {len(foreign)} of '
                f'{len(scenes)} scenes, such as {name} (other {", ".join(other)}). '
                'Keep them: --out ANOTHER; replace them: --overwrite'
            )

    def path(self, scene: Scene, product: str) -> Path:
        """File of a product of a scene, such as ``classes``."""
        return self.root / f'{scene.name}_{product}.tif'

    def has(self, scene: Scene, product: str = 'classes') -> bool:
        """Whether a product is there and would come out the same again."""
        path = self.path(scene, product)
        return path.is_file() and not self._differences(scene, product)

    def made_of(self, scene: Scene) -> dict[str, str]:
        """Tags that say what the map of a scene depends on."""
        files = dict.fromkeys(band.path for band in scene.bands)
        stamps = [
            (path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files
        ]
        digest = hashlib.sha256(repr((stamps, scene.grid)).encode()).hexdigest()
        return self.tags | {'SCENE': scene.name, 'SCENE_FILES': digest[:16]}

    def _differences(self, scene: Scene, product: str = 'classes') -> list[str]:
        """What a map that is there depends on and this run would have otherwise."""
        path = self.path(scene, product)
        if not path.is_file():
            return []
        with open_raster(path) as source:
            known = source.tags()
        return [
            key.lower().replace('_', ' ')
            for key, value in self.made_of(scene).items()
            if known.get(key) != value
        ]

    def write(self, scene: Scene, strips: Iterable['Strip']) -> None:
        """Write the maps of a scene as its strips come.

        Args:
            scene: What was mapped.
            strips: From top to bottom.
        """
        tags = self.made_of(scene)
        shares: dict[str, Any] = {
            'scale': 1 / FULL,
            'overviews': 'average',
            'tags': tags,
        }
        with ExitStack() as stack:
            # Left in reverse order: classes, which say that all is there, come last.
            classes = stack.enter_context(
                MapWriter(
                    self.path(scene, 'classes'),
                    scene.grid,
                    legend=self.legend,
                    tags=tags,
                )
            )
            confidence = stack.enter_context(
                MapWriter(
                    self.path(scene, 'confidence'),
                    scene.grid,
                    bands=['confidence'],
                    **shares,
                )
            )
            probabilities = self.probabilities and stack.enter_context(
                MapWriter(
                    self.path(scene, 'probabilities'),
                    scene.grid,
                    bands=self.legend.classes,
                    **shares,
                )
            )
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
                if probabilities:
                    probabilities.write(stored, strip.row_off)
                bar.advance(task, len(labels))
        write_qml(self.path(scene, 'classes').with_suffix('.qml'), self.legend)
        write_confidence_qml(self.path(scene, 'confidence').with_suffix('.qml'))

    def mosaic_tags(
        self, scenes: Sequence[Scene], settings: Mapping[str, object]
    ) -> dict[str, str]:
        """What a mosaic is made of.

        Args:
            scenes: Scenes in it.
            settings: What else it depends on.
        """
        parts = [self.made_of(scene) for scene in scenes]
        text = json.dumps([parts, dict(settings)], sort_keys=True)
        return self.tags | {'MADE_OF': hashlib.sha256(text.encode()).hexdigest()}

    def has_mosaic(self, tags: Mapping[str, str]) -> bool:
        """Whether the mosaic is there and made of just this."""
        if not self.mosaic.is_file():
            return False
        with open_raster(self.mosaic) as source:
            known = source.tags()
        return all(known.get(key) == value for key, value in tags.items())

    def describe(
        self, scene: Scene, *, probabilities: bool, polygons: bool
    ) -> SceneReport:
        """What a finished map says; its picture and its polygons are made here.

        Args:
            scene: What was mapped.
            probabilities: Whether probabilities stay.
            polygons: Whether polygons are wanted.
        """
        classes = self.path(scene, 'classes')
        outputs = {'classes': classes, 'confidence': self.path(scene, 'confidence')}
        if probabilities:
            outputs['probabilities'] = self.path(scene, 'probabilities')
        if polygons:
            outputs['polygons'] = self.root / f'{scene.name}_polygons.gpkg'
            write_polygons(classes, outputs['polygons'], self.legend)
        quicklook = self.root / f'{scene.name}_quicklook.png'
        picture = image_picture(*glance(scene, PICTURE_SIDE))
        write_quicklook(
            quicklook, picture, class_picture(classes, self.legend), self.legend
        )
        return self._report(classes, str(scene.path), outputs, quicklook)

    def describe_mosaic(self) -> SceneReport:
        """What the mosaic says."""
        # No scene can have this name: it would have to be called nothing.
        quicklook = self.root / 'quicklook.png'
        picture = class_picture(self.mosaic, self.legend)
        write_quicklook(quicklook, None, picture, self.legend)
        outputs = {
            'classes': self.mosaic,
            'confidence': self.mosaic.with_name('mosaic_confidence.tif'),
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

    def finish(self, scenes: Sequence[Scene], report: Report) -> None:
        """Write report and catalogue.

        Args:
            scenes: All scenes of the run.
            report: What became of them.
        """
        write_report(self.root, report)
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

    def forget_probabilities(self, scenes: Sequence[Scene]) -> None:
        """Remove what only the mosaic needed."""
        for scene in scenes:
            self.path(scene, 'probabilities').unlink(missing_ok=True)
