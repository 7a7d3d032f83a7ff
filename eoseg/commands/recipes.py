"""List, show and copy recipes."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .. import recipes


def run(word: str, arguments: Sequence[str]) -> int:
    """Run ``eoseg recipes``."""
    options = _parser().parse_args(arguments)
    match options.action:
        case 'list':
            for name in recipes.list_recipes():
                print(f'{name:<16} {recipes.summary(name)}')
        case 'show':
            text = (recipes.find_recipe(options.name) / 'fit.yaml').read_text('utf-8')
            print(text, end='')
        case 'copy':
            target = recipes.copy_recipe(options.name, options.folder)
            config = target / 'fit.yaml'
            print(f'{target}: change it and run eoseg fit DIR --config {config}')
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'eoseg recipes', description='A recipe is an experiment one can repeat by name.'
    )
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    actions.add_parser('list', help='names, and what each is for')
    show = actions.add_parser('show', help='print the config of a recipe')
    show.add_argument('name', metavar='NAME')
    copy = actions.add_parser('copy', help='copy a recipe, to change it')
    copy.add_argument('name', metavar='NAME')
    copy.add_argument('folder', metavar='DIR', type=Path)
    return parser
