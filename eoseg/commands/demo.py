"""The whole story on generated scenes: fit, predict, mosaic, evaluate."""

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from ..errors import OutputExistsError
from ..io.atomic import write_text
from . import evaluate, fit, predict
from .console import console, say

#: Only a folder with this file is replaced.
MARK = 'eoseg-demo.txt'


def run(word: str, arguments: Sequence[str]) -> int:
    """Run ``eoseg demo``."""
    options = _parser().parse_args(arguments)
    out: Path = options.out
    if out.exists() and any(out.iterdir()) and not (out / MARK).is_file():
        raise OutputExistsError(
            f'{out} holds something else than an earlier demo; give --out ANOTHER'
        )
    started = time.perf_counter()
    shutil.rmtree(out, ignore_errors=True)
    write_text(out / MARK, 'Made by `eoseg demo`, which replaces this folder.\n')

    from ..synth import write_scenes

    say('1/4  generating labelled scenes, and three others in two UTM zones to map')
    with console.status('generating'):
        folders = write_scenes(out, seed=options.seed)
    say('2/4  eoseg fit: a small KTDA model on the labelled scenes')
    run_folder, maps = out / 'run', out / 'maps'
    seed = ['--seed_everything', str(options.seed)]
    recipe = ['--recipe', 'demo-ktda', '--out', str(run_folder)]
    fit.run('fit', [str(folders.train), *recipe, *seed])
    say('3/4  eoseg predict: maps of the three scenes and their mosaic')
    checkpoint = run_folder / 'checkpoints' / 'best.ckpt'
    status = predict.run(
        'predict', [str(folders.scenes), str(checkpoint), '--out', str(maps)]
    )
    say('4/4  eoseg evaluate: the maps against their truth')
    evaluate.run(
        'evaluate', [str(maps), str(folders.truth), '--out', str(out / 'scores.json')]
    )
    say(
        f'{time.perf_counter() - started:.0f} s. Look at {maps / "report.html"}, or open '
        f'{maps / "mosaic.tif"} in QGIS; the scenes are in {folders.scenes}, their truth '
        f'in {folders.truth}, the scores in {out / "scores.json"}'
    )
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('eoseg demo', description=__doc__)
    parser.add_argument('--out', metavar='DIR', type=Path, default=Path('eoseg-demo'))
    parser.add_argument('--seed', type=int, default=0, help='of landscape and training')
    return parser
