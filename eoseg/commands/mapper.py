"""Map scenes unit by unit: what the network sees, and what is kept of it."""

import os
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from rasterio.windows import Window

from eoseg_datasets.scene import Scene

from ..checkpoint import Ensemble, Statistics
from ..errors import SceneMismatchError
from ..inference.area import Clip
from ..inference.blending import BandBlender
from ..inference.callables import (
    TURNS,
    Halving,
    agreement,
    averaged,
    has_bfloat16,
    turned,
)
from ..inference.match import foreign_bands, glance, match_bands, statistics
from ..inference.planner import WRITING, Demand, plan_parts, units, units_of
from ..inference.reader import rows_at_once
from ..inference.resolution import (
    TOLERANCE,
    at_resolution,
    brought_back,
    seen_from,
    times_coarser,
)
from ..inference.scene import Predict, Strip, predict_scene
from ..inference.threads import ahead
from ..inference.windows import WindowGrid
from ..io.cog import BLOCK
from ..io.journal import Journal
from .console import progress, say
from .products import MapFolder

#: Share of pixels that must get the same class with numbers of half the length.
PARITY = 0.99


@dataclass
class Mapper:
    """Computes the units of scenes and keeps them in the journal of each."""

    ensemble: Ensemble
    folder: MapFolder
    #: Of the command line.
    options: Namespace
    device: torch.device
    #: What one should know of a scene, by its name.
    notes: dict[str, list[str]] = field(default_factory=dict)

    def compute(self, scene: Scene) -> list[Window]:
        """Compute what is missing of a scene.

        Args:
            scene: What to map.

        Returns:
            All its units that are not empty, which its journal has.

        Raises:
            SceneMismatchError: If the scene is not what the model was trained on, or
                lies outside of the area to map.
            RasterioError: If it cannot be read.
            OSError: If the disk is full.
            ValueError: If the memory is too little.
        """
        ready = self._checked(scene)
        clip = self._clip(ready)
        seen = self._at_resolution(ready)
        journal = self.folder.journal(scene)
        windows = self._windows(seen, clip)
        predict = self._predictor(seen, windows)
        parts = self._parts(ready, seen, windows, clip)
        with progress() as bar:
            plan = [unit for part in parts for unit in units_of(part)]
            task = bar.add_task(scene.name, total=len(plan))
            for part in parts:
                rest = _rest(part, journal)
                done = (part.height - (rest.height if rest else 0)) // plan[0].height
                bar.advance(task, done)
                if rest is None:
                    continue
                strips = self._strips(ready, seen, windows, predict, rest)
                if clip is not None:
                    strips = _clipped(strips, clip)
                cut = units(strips, self.folder.layers, rest)
                for _ in ahead(journal.save, cut, WRITING):
                    bar.advance(task)
        return plan

    def _checked(self, scene: Scene) -> Scene:
        if scene.crs is None:
            raise SceneMismatchError(
                'it has no CRS, so its map would lie nowhere; assign one first: '
                f'rio edit-info --crs EPSG:… {scene.path.name}'
            )
        bands = self.options.bands and self.options.bands.split(',')
        return match_bands(scene, self.ensemble.inputs, bands)

    def _clip(self, scene: Scene) -> Clip | None:
        """What to map of a scene; None for all."""
        area = self.folder.area
        if area is None:
            return None
        clip = area.on(scene.grid)
        if clip is None:
            raise SceneMismatchError(f'it lies outside of --aoi {area.path}')
        return clip

    def _at_resolution(self, scene: Scene) -> Scene:
        """The scene as the network should see it."""
        res = self.ensemble.inputs.res
        if res is None or not scene.grid.is_placed or self.options.gsd == 'ignore':
            return scene
        times = times_coarser(scene.grid, res)
        if 1 / TOLERANCE <= times <= TOLERANCE:
            return scene
        differs = f'its pixels are {times * res:.3g} m wide, in training {res:.3g} m'
        if self.options.gsd == 'refuse':
            raise SceneMismatchError(
                f'{differs}. Use a model of that resolution, or read it at {res:.3g} m '
                'with --gsd resample, or as it is with --gsd ignore'
            )
        self._note(scene, f'read at {res:.3g} m: {differs}')
        return at_resolution(scene, res)

    def _windows(self, scene: Scene, clip: Clip | None) -> WindowGrid:
        size = self.options.window or self.ensemble.inputs.patch_size
        overlap = size // 4 if self.options.overlap is None else self.options.overlap
        windows = WindowGrid(scene.grid.height, scene.grid.width, size, overlap)
        if clip is None:
            return windows
        return replace(windows, wanted=replace(clip, grid=scene.grid).touches)

    def _parts(
        self, scene: Scene, seen: Scene, windows: WindowGrid, clip: Clip | None
    ) -> Sequence[Window]:
        numbers, _ = seen.read_stored(Window(0, 0, 1, 1))
        demand = Demand(
            windows,
            bands=len(numbers),
            stored=numbers.nbytes,
            rows=rows_at_once(seen),
            num_classes=self.ensemble.inputs.num_classes,
            layers=self.folder.layers.count,
            batch_size=self._batch_size,
            resampled=None if seen is scene else (scene.grid, seen.grid),
        )
        within = clip.window(BLOCK) if clip else None
        return plan_parts(demand, self.options.memory, within)

    def _strips(
        self,
        scene: Scene,
        seen: Scene,
        windows: WindowGrid,
        predict: Predict,
        part: Window,
    ) -> Iterator[Strip]:
        """Probabilities of a part, on the grid of the scene."""
        source = part
        if seen is not scene:
            source = seen_from(part, scene.grid, seen.grid)
        blender = BandBlender(
            self.ensemble.inputs.num_classes, windows, source, self.device
        )
        # A GPU computes faster than one processor decompresses.
        threads = min(os.cpu_count() or 1, 4) if self.device.type == 'cuda' else 1
        strips = predict_scene(seen, predict, blender, self._batch_size, threads)
        if seen is scene:
            return strips
        return brought_back(strips, seen.grid, scene, part)

    @property
    def _batch_size(self) -> int:
        # On a CPU more at once take more memory and no less time.
        default = 8 if self.device.type == 'cuda' else 2
        return int(self.options.batch_size or default)

    def _predictor(self, scene: Scene, windows: WindowGrid) -> Predict:
        numbers = self._statistics(scene)
        predict = self._exact.predictor(self.device, numbers)
        if self.options.precision != 'float32':
            predict = self._faster(predict, scene, windows, numbers)
        turns = TURNS[self.options.tta]
        return Halving(
            averaged([turned(predict, turn) for turn in turns]),
            filled=self._batch_size if self.options.compile else None,
        )

    @cached_property
    def _exact(self) -> Ensemble:
        return self._made_ready(self.ensemble)

    @cached_property
    def _short(self) -> Ensemble:
        return self._made_ready(self.ensemble.in_bfloat16())

    def _made_ready(self, ensemble: Ensemble) -> Ensemble:
        if self.options.compile:
            ensemble.compile(self.device)
        return ensemble

    def _faster(
        self,
        predict: Predict,
        scene: Scene,
        windows: WindowGrid,
        numbers: Statistics | None,
    ) -> Predict:
        """With numbers of half the length, where that is faster and does no harm."""
        if not has_bfloat16(self.device):
            self._note(scene, 'computed in float32: the processor has no bfloat16')
            return predict
        fast = self._short.predictor(self.device, numbers)
        size = windows.size
        top, left = (
            max((side - size) // 2, 0) for side in (windows.height, windows.width)
        )
        share = agreement(predict, fast, scene, Window(left, top, size, size))
        if share >= PARITY:
            return fast
        about = f'{1 - share:.1%} of its middle would get another class'
        self._note(scene, f'computed in float32: in bfloat16, {about}')
        return predict

    def _statistics(self, scene: Scene) -> Statistics | None:
        """Mean and standard deviation to standardize with; None for the checkpoint's."""
        image, valid = glance(scene, 256)
        if self.options.statistics == 'scene':
            return statistics(image, valid)
        if valid.any():
            mean, _ = statistics(image, valid)
            if far := foreign_bands(self.ensemble.inputs, mean):
                advice = 'If that is another unit, use --statistics scene'
                self._note(scene, f'{"; ".join(far)}. {advice}')
        return None

    def _note(self, scene: Scene, text: str) -> None:
        self.notes.setdefault(scene.name, []).append(text)
        say(f'note    {scene.name}: {text}')


def _clipped(strips: Iterable[Strip], clip: Clip) -> Iterator[Strip]:
    """The strips, in which nothing outside of an area is valid."""
    for strip in strips:
        yield replace(strip, valid=strip.valid & clip.mask(strip.window))


def _rest(part: Window, journal: Journal) -> Window | None:
    """What is missing of a part, from the first unit on that is not done."""
    for unit in units_of(part):
        if not journal.is_done(unit):
            bottom = part.row_off + part.height
            return Window(part.col_off, unit.row_off, part.width, bottom - unit.row_off)
    return None
