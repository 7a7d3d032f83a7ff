"""List the data sets, say what each is, and prepare one."""

import argparse
import ast
import difflib
import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path


def run(word: str, arguments: Sequence[str]) -> int:
    """Run ``eoseg datasets``."""
    options = _parser().parse_args(arguments)
    match options.action:
        case 'list':
            for name, (summary, _) in _data_sets().items():
                print(f'{name:<20} {summary}')
        case 'info':
            print(_plain(_docstring(options.name)))
        case 'prepare':
            print(_prepare(options.name, options.source, options.target))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'eoseg datasets', description='Data sets of eoseg_datasets, for any project.'
    )
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    actions.add_parser('list', help='names, and what each is')
    info = actions.add_parser('info', help='format, classes, licence and citation')
    info.add_argument('name', metavar='NAME')
    prepare = actions.add_parser(
        'prepare', help='cut L8BiomeClouds into patches as they were published'
    )
    prepare.add_argument('name', metavar='NAME')
    prepare.add_argument('source', metavar='SRC', type=Path, help='its folder')
    prepare.add_argument('target', metavar='DST', type=Path, help='folder of patches')
    return parser


def _prepare(name: str, source: Path, target: Path) -> str:
    if name != 'L8BiomeClouds':
        _docstring(name)  # which says what names there are
        raise LookupError(
            f'{name} is read as it comes; only L8BiomeClouds can be prepared, by cutting '
            'its scenes into patches'
        )
    from torchgeo.datasets import DatasetNotFoundError

    from eoseg_datasets.l8_biome_cloud_patches import cut_patches
    from eoseg_datasets.l8_biome_clouds import L8BiomeClouds

    try:
        scenes = L8BiomeClouds(source, bands=('B4', 'B3', 'B2'), fill='clear')
    except DatasetNotFoundError as error:
        raise FileNotFoundError(
            f'{source} has no scenes; give the folder that holds those of the biomes, '
            'such as barren/LC80420082013220LGN00/LC80420082013220LGN00.TIF, or the '
            f'archives {L8BiomeClouds.biomes[0]}.tar.gz and so on'
        ) from error
    counts = cut_patches(scenes, target)
    if not any(counts.values()):
        raise ValueError(
            f'no patch could be cut from {len(scenes.scenes)} scenes of {source}: '
            'patches have 512 x 512 pixels, and those without cloud and shadow are left '
            'out'
        )
    number = ', '.join(f'{count} {split}' for split, count in counts.items())
    return f'{target}: patches for L8BiomeCloudPatches: {number}'


def _docstring(name: str) -> str:
    known = _data_sets()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, cutoff=0.4)
        hint = f' Did you mean {near[0]}?' if near else ''
        raise LookupError(
            f'No data set named {name!r}.{hint} Data sets are: {", ".join(known)}.'
        )
    return known[name][1]


@cache
def _data_sets() -> dict[str, tuple[str, str]]:
    """First line of the module and docstring of the class of each data set, by name.

    Read from the source: importing TorchGeo takes ten seconds.
    """
    spec = find_spec('eoseg_datasets')
    assert spec is not None and spec.origin is not None
    found = {}
    for path in sorted(Path(spec.origin).parent.glob('*.py')):
        module = ast.parse(path.read_text('utf-8'))
        for node in module.body:
            if isinstance(node, ast.ClassDef) and _is_data_set(node):
                # The name goes before it already.
                summary = (ast.get_docstring(module) or '').splitlines()[0]
                summary = summary.split(': ', 1)[-1]
                found[node.name] = summary, ast.get_docstring(node) or ''
    return dict(sorted(found.items()))


def _is_data_set(node: ast.ClassDef) -> bool:
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    return not node.name.startswith('_') and 'SceneDataset' in bases


def _plain(text: str) -> str:
    """Docstring markup as one reads it in a terminal."""
    text = re.sub(r':\w+:`~?(?:[\w.]*\.)?(\w+)`', r'\1', text)
    text = re.sub(r'`([^`<]+?)\s+<([^>]+)>`__?', r'\1 (\2)', text)
    # A backslash before a space joins, as in km\ :sup:`2`.
    text = text.replace('\\ ', '')
    text = text.replace('``', '').replace('.. code-block:: text\n', '')
    return re.sub(r'\n{3,}', '\n\n', text)
