"""Map a folder of scenes with a checkpoint: a map of every scene, and their mosaic."""

import argparse
import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from eoseg_datasets.classes import Legend
from eoseg_datasets.inventory import Inventory, find_scenes
from eoseg_datasets.scene import Scene

from ..errors import SceneMismatchError
from ..io.lock import locked
from ..io.report import Report, SceneReport
from .console import say
from .mosaic import Request, parse_crs, write_mosaic
from .options import positive, positive_int
from .products import MapFolder

if TYPE_CHECKING:
    import torch

    from ..checkpoint import Checkpoint


def run(word: str, arguments: Sequence[str]) -> int:
    """Run ``eoseg predict``."""
    options = _parser().parse_args(arguments)
    parse_crs(options.crs)
    inventory = find_scenes(options.scenes, allow_vrt=options.allow_vrt)
    if not inventory.scenes:
        raise FileNotFoundError(_nothing_found(options.scenes, inventory))
    _check_folder(options.out, options.scenes)

    # Torch takes seconds to import: after what can be refused without it.
    from ..checkpoint import Checkpoint

    checkpoint = Checkpoint.load(options.checkpoint)
    folder = MapFolder(
        options.out,
        Legend(checkpoint.inputs.classes, checkpoint.inputs.colors),
        _tags(checkpoint, options),
        probabilities=options.probabilities or options.mosaic,
    )
    with locked(options.out):
        report = _predict(checkpoint, folder, inventory, options)
        report = replace(report, command=shlex.join(['eoseg', word, *arguments]))
        folder.finish(inventory.scenes, report)
    failed = [x for x in (*report.scenes, report.mosaic) if x and x.status == 'failed']
    for item in failed:
        say(f'failed  {item.path}: {item.reason}')
    print(options.out / 'report.html')
    return 1 if failed else 0


def _predict(
    checkpoint: 'Checkpoint',
    folder: MapFolder,
    inventory: Inventory,
    options: argparse.Namespace,
) -> Report:
    """Map all scenes, then mosaic their maps."""
    started = datetime.now(UTC).isoformat(timespec='seconds')
    folder.claim(inventory.scenes, overwrite=options.overwrite)
    mapper = _Mapper(checkpoint, folder, options)
    reports = [
        SceneReport(str(item.path), item.status, item.reason)
        for item in inventory.rejected
    ]
    reports += [mapper.report(scene) for scene in inventory.scenes]
    mosaic = _mosaic(mapper, inventory.scenes) if options.mosaic else None
    return Report(
        command='',
        checkpoint=str(checkpoint.path),
        started=started,
        scenes=reports,
        mosaic=mosaic,
        legend=folder.legend,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('eoseg predict', description=__doc__)
    add = parser.add_argument
    add('scenes', metavar='SCENES', type=Path, help='a folder of scenes, or one scene')
    add('checkpoint', metavar='CHECKPOINT', type=Path, help='best.ckpt of eoseg fit')
    add('--out', metavar='DIR', type=Path, default=Path('maps'), help='default: maps')
    add('--bands', metavar='NAMES', help='such as B4,B3,B2 or 4,3,2: for the model')
    add(
        '--window',
        metavar='PX',
        type=positive_int,
        help='default: the training patch size',
    )
    add('--overlap', metavar='PX', type=int, help='default: a quarter of the window')
    add(
        '--batch-size',
        metavar='N',
        type=positive_int,
        default=8,
        help='windows at once',
    )
    add('--device', default='auto', help='auto, cpu, cuda, cuda:1, mps')
    add(
        '--statistics',
        choices=('checkpoint', 'scene'),
        default='checkpoint',
        help='standardize with mean and deviation of the training data, or with each '
        "scene's own, where its values are in another unit",
    )
    add('--probabilities', action='store_true', help='keep a band per class')
    add('--polygons', action='store_true', help='also write a GeoPackage')
    add('--no-mosaic', dest='mosaic', action='store_false', help='maps of scenes only')
    add('--crs', help='of the mosaic; default: the one that covers most area')
    add('--res', type=positive, help='pixel size of the mosaic; default: the finest')
    add('--allow-vrt', action='store_true', help='read VRT files, which name others')
    add('--overwrite', action='store_true', help='replace maps of another run in --out')
    return parser


def _nothing_found(folder: Path, inventory: Inventory) -> str:
    about = (
        f'{folder} has no scene. A scene is a GeoTIFF, COG or JPEG 2000 with all its '
        'bands, a Landsat folder with an MTL file, or a Sentinel-2 SAFE folder.'
    )
    listed = [f'  {item.path}: {item.reason}' for item in inventory.rejected]
    return '\n'.join(
        [
            about,
            *(['Found instead:'] if listed else []),
            *listed[:10],
        ]
    )


def _check_folder(out: Path, scenes: Path) -> None:
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f'--out {out} is a file; give a folder')
    inside = scenes.resolve() in (out.resolve(), *out.resolve().parents)
    if inside and scenes.is_dir():
        raise LookupError(
            f'--out {out} lies in {scenes}, where its maps would be taken for scenes '
            'the next time; give a folder elsewhere'
        )


def _tags(checkpoint: 'Checkpoint', options: argparse.Namespace) -> dict[str, str]:
    """What the pixels of every map depend on, beside its scene."""
    names = ('window', 'overlap', 'bands', 'statistics')
    settings = {name: getattr(options, name) for name in names}
    return {
        'CHECKPOINT': checkpoint.sha256,
        'SETTINGS': json.dumps(settings),
        # So that `eoseg evaluate` can read labels of the same kind.
        'LABEL_VALUES': json.dumps(checkpoint.inputs.values),
    }


def _device(name: str) -> 'torch.device':
    import torch

    if name != 'auto':
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device('cuda')
    return torch.device('mps' if torch.backends.mps.is_available() else 'cpu')


class _Mapper:
    """Maps scene after scene; what goes wrong with one does not stop the others."""

    def __init__(
        self, checkpoint: 'Checkpoint', folder: MapFolder, options: argparse.Namespace
    ) -> None:
        self.checkpoint = checkpoint
        self.folder = folder
        self.options = options
        self.device = _device(options.device)
        self.notes: dict[str, str] = {}
        #: Scenes whose maps this run has written.
        self.written: list[Scene] = []

    def report(self, scene: Scene) -> SceneReport:
        """Map a scene unless that is done, and say how it went."""
        started = time.perf_counter()
        needed = 'probabilities' if self.options.probabilities else 'classes'
        try:
            kept = self.folder.has(scene) and self.folder.has(scene, needed)
            if not kept:
                self.map(scene)
            report = self.folder.describe(
                scene,
                probabilities=self.options.probabilities,
                polygons=self.options.polygons,
            )
        # Whatever a file makes the libraries do, the other scenes go on.
        except Exception as error:  # noqa: BLE001
            reason = str(error) or type(error).__name__
            return SceneReport(str(scene.path), 'failed', reason)
        seconds = time.perf_counter() - started
        size = f'{scene.name}: {scene.grid.width} x {scene.grid.height} px'
        report = replace(report, reason=self.notes.get(scene.name))
        if kept:
            say(f'kept    {size}')
            return replace(report, status='kept')
        say(f'done    {size}, {seconds:.1f} s, {report.megapixels / seconds:.2f} Mpx/s')
        return replace(report, seconds=seconds)

    def map(self, scene: Scene) -> None:
        """Write the maps of a scene."""
        from ..inference.blending import BandBlender
        from ..inference.scene import predict_scene
        from ..inference.windows import WindowGrid

        ready = self._checked(scene)
        inputs = self.checkpoint.inputs
        size = self.options.window or inputs.patch_size
        overlap = size // 4 if self.options.overlap is None else self.options.overlap
        windows = WindowGrid(scene.grid.height, scene.grid.width, size, overlap)
        strips = predict_scene(
            ready,
            self.checkpoint.predictor(self.device, self._statistics(ready)),
            windows,
            BandBlender(inputs.num_classes, windows),
            self.options.batch_size,
        )
        self.folder.write(scene, strips)
        self.written.append(scene)

    def _checked(self, scene: Scene) -> Scene:
        from ..inference.match import match_bands

        if scene.crs is None:
            raise SceneMismatchError(
                'it has no CRS, so its map would lie nowhere; assign one first: '
                f'rio edit-info --crs EPSG:… {scene.path.name}'
            )
        bands = self.options.bands and self.options.bands.split(',')
        return match_bands(scene, self.checkpoint.inputs, bands)

    def _statistics(self, scene: Scene) -> tuple[Sequence[float], Sequence[float]]:
        """Mean and standard deviation to standardize a scene with."""
        from ..inference.match import foreign_bands, glance, statistics

        inputs = self.checkpoint.inputs
        image, valid = glance(scene, 256)
        if self.options.statistics == 'scene':
            return statistics(image, valid)
        if valid.any() and (far := foreign_bands(inputs, statistics(image, valid)[0])):
            note = f'{"; ".join(far)}. If that is another unit, use --statistics scene'
            self.notes[scene.name] = note
            say(f'note    {scene.name}: {note}')
        return inputs.mean, inputs.std


def _mosaic(mapper: _Mapper, scenes: Sequence[Scene]) -> SceneReport | None:
    """Mosaic the maps there are, unless there is a mosaic of just these."""
    folder, options = mapper.folder, mapper.options
    mapped = [scene for scene in scenes if folder.has(scene)]
    if not mapped:
        return None
    started = time.perf_counter()
    tags = folder.mosaic_tags(mapped, {'crs': options.crs, 'res': options.res})
    try:
        kept = folder.has_mosaic(tags)
        if not kept:
            for scene in mapped:
                # An earlier run has mosaicked these and let go of what it needed.
                if not folder.has(scene, 'probabilities'):
                    mapper.map(scene)
            write_mosaic(
                [folder.path(scene, 'probabilities') for scene in mapped],
                folder.mosaic,
                folder.legend,
                Request(crs=parse_crs(options.crs), res=options.res),
                tags,
            )
        if not options.probabilities:
            folder.forget_probabilities(mapper.written)
        report = folder.describe_mosaic()
    # The maps of the scenes are there, whatever becomes of the mosaic.
    except Exception as error:  # noqa: BLE001
        reason = str(error) or type(error).__name__
        return SceneReport(folder.mosaic.name, 'failed', reason)
    if kept:
        return replace(report, status='kept')
    seconds = time.perf_counter() - started
    say(f'done    mosaic of {len(mapped)} scenes, {seconds:.1f} s')
    return replace(report, seconds=seconds)
