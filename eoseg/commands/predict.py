"""Map a folder of scenes with a checkpoint: a map of every scene, and their mosaic."""

import argparse
import json
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from eoseg_datasets.classes import Legend
from eoseg_datasets.inventory import Inventory, Rejected, find_scenes

from ..io.lock import locked
from ..io.report import Report, SceneReport
from .console import say
from .mosaic import parse_crs
from .options import byte_size, positive, positive_int
from .products import MapFolder
from .scene_run import SceneRun

if TYPE_CHECKING:
    import torch

    from ..checkpoint import Ensemble
    from ..inference.area import Area
    from .mapper import Mapper


def run(word: str, arguments: Sequence[str]) -> int:
    """Run ``eoseg predict``."""
    options = _parser().parse_args(arguments)
    parse_crs(options.crs)
    inventory = find_scenes(options.scenes, allow_vrt=options.allow_vrt)
    if not inventory.scenes:
        raise FileNotFoundError(_nothing_found(options.scenes, inventory))
    _check_folder(options.out, options.scenes)

    # Torch takes seconds to import: after what can be refused without it.
    from ..inference.allocator import keep_memory

    keep_memory()
    from ..checkpoint import Ensemble
    from ..inference.area import Area
    from .mapper import Mapper

    command = shlex.join(['eoseg', word, *arguments])
    area = Area.read(options.aoi) if options.aoi else None
    if area is not None:
        inventory = _within(inventory, area)
    if options.each:
        return _map_each(inventory, options, command, area)
    ensemble = Ensemble.load(options.checkpoint)
    folder = _folder(options.out, ensemble, options, area)
    mapper = Mapper(ensemble, folder, options, _device(options.device))
    with locked(folder.root):
        return _map(mapper, folder, ensemble.name, inventory, command)


def _within(inventory: Inventory, area: 'Area') -> Inventory:
    """The scenes that an area touches; the others are skipped.

    Raises:
        ValueError: If it touches none.
    """
    outside = [
        scene
        for scene in inventory.scenes
        if scene.grid.is_placed and area.on(scene.grid) is None
    ]
    scenes = tuple(scene for scene in inventory.scenes if scene not in outside)
    if not scenes:
        raise ValueError(
            f'--aoi {area.path} and the scenes have no common area; is its CRS '
            f'{area.crs.to_string()}?'
        )
    reason = f'lies outside of --aoi {area.path}'
    skipped = [Rejected(scene.path, 'skipped', reason) for scene in outside]
    return Inventory(scenes, (*inventory.rejected, *skipped))


def _map_each(
    inventory: Inventory,
    options: argparse.Namespace,
    command: str,
    area: 'Area | None',
) -> int:
    """A folder of maps for each checkpoint; scenes are read once."""
    from ..checkpoint import Ensemble, load_adapters
    from .each import Shared, folder_names

    checkpoints = load_adapters(options.checkpoint)
    folders = [
        _folder(options.out / name, Ensemble((checkpoint,)), options, area)
        for name, checkpoint in zip(
            folder_names(options.checkpoint), checkpoints, strict=True
        )
    ]
    mapper = Shared(checkpoints, folders, options, _device(options.device))
    codes = []
    with ExitStack() as stack:
        # What is refused is refused before anything is computed.
        for folder in folders:
            stack.enter_context(locked(folder.root))
            folder.claim(inventory.scenes, overwrite=options.overwrite)
        for number, folder in enumerate(folders):
            mapper.begin(number)
            name = str(checkpoints[number].path)
            codes.append(_map(mapper, folder, name, inventory, command))
    return max(codes)


def _folder(
    out: Path, ensemble: 'Ensemble', options: argparse.Namespace, area: 'Area | None'
) -> MapFolder:
    """The folder that the maps of checkpoints go to."""
    from ..inference.layers import Layers

    kept = _kept(options)
    # A mosaic blends probabilities, which are forgotten afterwards.
    more = ('probabilities',) if options.mosaic and 'probabilities' not in kept else ()
    return MapFolder(
        out,
        Legend(ensemble.inputs.classes, ensemble.inputs.colors),
        _tags(ensemble, options, area),
        Layers((*kept, *more), ensemble.inputs.num_classes),
        area,
    )


def _map(
    mapper: 'Mapper', folder: MapFolder, name: str, inventory: Inventory, command: str
) -> int:
    """Map all scenes into a folder and report; 1 if something went wrong."""
    report = replace(_predict(mapper, folder, name, inventory), command=command)
    folder.finish(inventory.scenes, report)
    failed = [x for x in (*report.scenes, report.mosaic) if x and x.status == 'failed']
    for item in failed:
        say(f'failed  {item.path}: {item.reason}')
    print(folder.root / 'report.html')
    return 1 if failed else 0


def _kept(options: argparse.Namespace) -> tuple[str, ...]:
    """Layers that stay, in the order of their bands."""
    asked = ('margin', 'entropy', 'probabilities')
    return (
        'classes',
        'confidence',
        *(name for name in asked if options.__dict__[name]),
    )


def _predict(
    mapper: 'Mapper', folder: MapFolder, name: str, inventory: Inventory
) -> Report:
    """Map all scenes, then mosaic their maps."""
    options = mapper.options
    started = datetime.now(UTC).isoformat(timespec='seconds')
    folder.claim(inventory.scenes, overwrite=options.overwrite)
    run = SceneRun(mapper, folder, _kept(options))
    reports = [
        SceneReport(str(item.path), item.status, item.reason)
        for item in inventory.rejected
    ]
    reports += run.reports(inventory.scenes)
    mosaic = run.mosaic(inventory.scenes) if options.mosaic else None
    return Report(
        command='',
        checkpoint=name,
        started=started,
        scenes=reports,
        mosaic=mosaic,
        legend=folder.legend,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('eoseg predict', description=__doc__)
    add = parser.add_argument
    add('scenes', metavar='SCENES', type=Path, help='a folder of scenes, or one scene')
    add(
        'checkpoint', metavar='CHECKPOINT', type=Path, nargs='+',
        help='best.ckpt of eoseg fit; the probabilities of several are averaged',
    )  # fmt: skip
    add(
        '--each', action='store_true',
        help='a map of each checkpoint in a folder of its own in place of the mean; for '
        'adapters of one SAM, which is loaded once',
    )  # fmt: skip
    _add_products(parser.add_argument_group('what is written'))
    _add_mosaic(parser.add_argument_group('mosaic of all scenes'))
    _add_reading(parser.add_argument_group('how scenes are read'))
    _add_network(parser.add_argument_group('how the network sees them'))
    _add_machine(parser.add_argument_group('machine'))
    return parser


def _add_products(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add('--out', metavar='DIR', type=Path, default=Path('maps'), help='default: maps')
    add('--overwrite', action='store_true', help='replace maps of another run in --out')
    add('--probabilities', action='store_true', help='keep a band per class')
    add('--margin', action='store_true', help='keep the lead over the next class')
    add('--entropy', action='store_true', help='keep the entropy of the classes')
    add('--polygons', action='store_true', help='also write a GeoPackage')
    add(
        '--aoi', metavar='FILE', type=Path,
        help='polygons, to map nothing outside of: neither scenes nor mosaic',
    )  # fmt: skip


def _add_mosaic(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        '--mosaic', action=argparse.BooleanOptionalAction, default=True,
        help='join the maps of all scenes (default), or leave that out',
    )  # fmt: skip
    add('--crs', help='of the mosaic; default: the one that covers most area')
    add('--res', type=positive, help='pixel size of the mosaic; default: the finest')


def _add_reading(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add('--bands', metavar='NAMES', help='such as B4,B3,B2 or 4,3,2: for the model')
    add(
        '--statistics', choices=('checkpoint', 'scene'), default='checkpoint',
        help='standardize with mean and deviation of the training data, or with each '
        "scene's own, where its values are in another unit",
    )  # fmt: skip
    add(
        '--gsd', choices=('resample', 'refuse', 'ignore'), default='resample',
        help='if pixels are more than 1.25 times as wide as in training, or as narrow: '
        'read the scene at the resolution of the training (default), refuse it, or take '
        'it as it is; the map has the grid of the scene in any case',
    )  # fmt: skip
    add('--allow-vrt', action='store_true', help='read VRT files, which name others')


def _add_network(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        '--window', metavar='PX', type=positive_int,
        help='default: the training patch size',
    )  # fmt: skip
    add('--overlap', metavar='PX', type=int, help='default: a quarter of the window')
    add(
        '--tta', choices=('none', 'flips', 'all'), default='none',
        help='average over views of each window: 4 flips, or all 8 flips and turns',
    )  # fmt: skip


def _add_machine(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add('--device', default='auto', help='auto, cpu, cuda, cuda:1, mps')
    add(
        '--batch-size', metavar='N', type=positive_int,
        help='windows at once; default: 2 on a CPU, 8 on a GPU',
    )  # fmt: skip
    add(
        '--memory', metavar='SIZE', type=byte_size, default='1GB',
        help='what reading, blending and writing may take, beside the network; wider '
        'scenes are mapped in parts; default: 1GB',
    )  # fmt: skip
    add(
        '--precision', choices=('float32', 'bfloat16'), default='float32',
        help='bfloat16 is faster where the processor knows it; scenes whose classes '
        'would differ in more than 1 %% of the pixels stay in float32',
    )  # fmt: skip
    add(
        '--compile', action='store_true',
        help='compile the network for this machine first, which takes minutes and a C++ '
        'compiler, and pays off for many or large scenes',
    )  # fmt: skip


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


def _tags(
    ensemble: 'Ensemble', options: argparse.Namespace, area: 'Area | None'
) -> dict[str, str]:
    """What the pixels of every map depend on, beside its scene."""
    names = (
        'window', 'overlap', 'bands', 'statistics', 'precision', 'compile', 'tta', 'gsd',
    )  # fmt: skip
    settings = {name: getattr(options, name) for name in names}
    if area is not None:
        settings['aoi'] = area.digest
    return {
        'CHECKPOINT': ensemble.sha256,
        'SETTINGS': json.dumps(settings),
        # So that `eoseg evaluate` can read labels of the same kind.
        'LABEL_VALUES': json.dumps(ensemble.inputs.values),
    }


def _device(name: str) -> 'torch.device':
    import torch

    if name != 'auto':
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device('cuda')
    return torch.device('mps' if torch.backends.mps.is_available() else 'cpu')
