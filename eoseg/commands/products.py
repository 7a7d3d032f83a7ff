"""The folder of a prediction run: which files there are, what they are made of."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rasterio.windows import Window

from eoseg_datasets.classes import NODATA, Legend
from eoseg_datasets.handles import open_raster
from eoseg_datasets.scene import Scene, grid_of

from ..errors import OutputExistsError
from ..inference.match import glance
from ..io.areas import value_areas
from ..io.atomic import remove_leftovers
from ..io.cog import FULL, MapWriter
from ..io.journal import Journal, forget_others
from ..io.quicklook import class_picture, image_picture, write_quicklook
from ..io.report import Report, SceneReport, write_report
from ..io.stac import MapItem, write_stac
from ..io.style import write_confidence_qml, write_qml
from ..io.vector import write_polygons

if TYPE_CHECKING:
    from ..inference.area import Area
    from ..inference.layers import Layers

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
        layers: 'Layers',
        area: 'Area | None' = None,
    ) -> None:
        """Initialize a new MapFolder instance.

        Args:
            root: The folder.
            legend: Classes of the maps.
            tags: What every map depends on, beside its scene: for its tags.
            layers: What is written of each scene, classes first.
            area: Outside of it maps are empty; it belongs to the tags, too.
        """
        self.root = root
        self.legend = legend
        self.tags = dict(tags)
        self.layers = layers
        self.area = area
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

    def journal(self, scene: Scene) -> Journal:
        """Where the finished units of a scene are kept until its maps are there."""
        key = json.dumps([self.made_of(scene), self.layers.names], sort_keys=True)
        return Journal(self.root, key, self.layers.count)

    def write(self, scene: Scene, windows: Sequence[Window]) -> None:
        """Write the maps of a scene from its units.

        Args:
            scene: What was mapped.
            windows: All units of it that are not empty; the journal has them.

        Raises:
            OSError: If a unit is not there as it was written, or the disk is full.
        """
        journal = self.journal(scene)
        tags = self.made_of(scene)
        if scene.acquired is not None:
            # For a mosaic in which the newest comes first.
            tags['ACQUIRED'] = scene.acquired.isoformat()
        with ExitStack() as stack:
            # Left in reverse order: classes, which say that all is there, come last.
            writers = {
                name: stack.enter_context(self._writer(scene, name, tags))
                for name in self.layers.names
            }
            for window in windows:
                values = journal.load(window)
                for name, writer in writers.items():
                    writer.write_block(values[self.layers.bands(name)], window)
            if self.area is not None:
                for writer in writers.values():
                    writer.leave_empty()
        write_qml(self.path(scene, 'classes').with_suffix('.qml'), self.legend)
        write_confidence_qml(self.path(scene, 'confidence').with_suffix('.qml'))
        journal.forget()

    def _writer(self, scene: Scene, name: str, tags: Mapping[str, str]) -> MapWriter:
        path = self.path(scene, name)
        if name == 'classes':
            return MapWriter(path, scene.grid, legend=self.legend, tags=tags)
        return MapWriter(
            path,
            scene.grid,
            bands=self.legend.classes if name == 'probabilities' else [name],
            scale=1 / FULL,
            overviews='average',
            tags=tags,
        )

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
        self, scene: Scene, products: Sequence[str], *, polygons: bool
    ) -> SceneReport:
        """What a finished map says; its picture and its polygons are made here.

        Args:
            scene: What was mapped.
            products: Which layers stay.
            polygons: Whether polygons are wanted.
        """
        classes = self.path(scene, 'classes')
        outputs = {product: self.path(scene, product) for product in products}
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
        counts, hectares = value_areas(classes)
        with open_raster(classes) as source:
            crs = source.crs.to_string()
        return SceneReport(
            path=name,
            status='done',
            megapixels=int(counts.sum()) / 1e6,
            nodata=int(counts[NODATA]) / int(counts.sum()),
            classes=self.legend.shares(counts),
            hectares={}
            if hectares is None
            else dict(zip(self.legend.classes, np.round(hectares, 4).tolist())),
            crs=crs,
            outputs={
                kind: path.relative_to(self.root).as_posix()
                for kind, path in outputs.items()
            },
            quicklook=quicklook.relative_to(self.root).as_posix(),
        )

    def finish(self, scenes: Sequence[Scene], report: Report) -> None:
        """Write report and catalogue, and forget units that nobody will ask for.

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
        unfinished = [scene for scene in scenes if not self.has(scene)]
        forget_others(self.root, [self.journal(scene).key for scene in unfinished])
        if items:
            write_stac(self.root, items, self.legend)

    def forget_probabilities(self, scenes: Sequence[Scene]) -> None:
        """Remove what only the mosaic needed."""
        for scene in scenes:
            self.path(scene, 'probabilities').unlink(missing_ok=True)
