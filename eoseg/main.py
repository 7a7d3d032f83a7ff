"""The command line: from a word to a command. Nothing heavy is imported here."""

import difflib
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import NoReturn

from . import __version__

#: Module of each command in :mod:`eoseg.commands`, and what it does in a line.
COMMANDS = {
    'demo': ('demo', 'the whole story on generated scenes, minutes on a CPU'),
    'fit': ('fit', 'train on a folder of scenes and labels, or by a recipe'),
    'validate': ('fit', 'scores of a checkpoint on the validation scenes'),
    'test': ('fit', 'scores of a checkpoint on the test scenes'),
    'predict': ('predict', 'map a folder of scenes with a checkpoint'),
    'mosaic': ('mosaic', 'maps of several scenes onto one grid'),
    'evaluate': ('evaluate', 'compare maps with rasters or polygons'),
    'recipes': ('recipes', 'list, show and copy recipes'),
    'datasets': ('datasets', 'list data sets, say what each is, prepare one'),
    'import': ('importing', 'a checkpoint of the authors of a method as one of eoseg'),
}

#: Exit statuses: something failed; called wrongly.
FAILED, WRONG = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Words of the command line, by default those of this process.

    Returns:
        Exit status: 0 all done, 1 something failed, 2 called wrongly, 130 and 143 on
        signals.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ('-h', '--help'):
        print(_help())
        return 0 if words else WRONG
    if words[0] == '--version':
        print(f'eoseg {__version__}')
        return 0
    if words[0] not in COMMANDS:
        print(_unknown(words[0]), file=sys.stderr)
        return WRONG
    show_traceback = '--traceback' in words
    words = [word for word in words if word != '--traceback']
    try:
        return _run(words[0], words[1:])
    except SystemExit as stop:  # of argparse: its message is out
        return stop.code if isinstance(stop.code, int) else FAILED
    except KeyboardInterrupt:
        print('eoseg: interrupted', file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        if show_traceback:
            raise
        print(f'eoseg {words[0]}: {_message(error)}', file=sys.stderr)
        return WRONG if _called_wrongly(error) else FAILED


def _called_wrongly(error: Exception) -> bool:
    """Whether a name or an option is not known; an index or key is our own mistake."""
    return isinstance(error, LookupError) and not isinstance(
        error, IndexError | KeyError
    )


def _run(word: str, arguments: list[str]) -> int:
    _stop_on_sigterm()
    # Torch's threads wait for each other by spinning. On a machine that does anything
    # else, one that is not scheduled holds up all: measured on 2 cores with one other
    # process, a training step of KTDA takes 0.6 s instead of 3.3 s.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    command = import_module(f'.commands.{COMMANDS[word][0]}', __package__)
    status: int = command.run(word, arguments)
    return status


def _stop_on_sigterm() -> None:
    """End as after Ctrl-C, so that nothing half-written stays; Lightning would exit 0."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)


def _message(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, KeyError):
        text = f'{type(error).__name__}: {text}'
    return text


def _help() -> str:
    lines = [f'  {word:<10} {about}' for word, (_, about) in COMMANDS.items()]
    return os.linesep.join(
        [
            'usage: eoseg COMMAND ...',
            '',
            'Earth-observation segmentation when labels are few and the domain shifts.',
            '',
            *lines,
            '',
            'eoseg COMMAND --help says more. --traceback shows where an error came from.',
        ]
    )


def _unknown(word: str) -> str:
    near = difflib.get_close_matches(word, COMMANDS, 1)
    hint = f' Did you mean {near[0]}?' if near else ''
    return (
        f'eoseg: no command {word!r}.{hint} Commands are: {", ".join(COMMANDS)}. '
        'See eoseg --help.'
    )
