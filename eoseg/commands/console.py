"""Lines and progress bars of the commands; all of them go to stderr."""

import logging

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print a line for the user; results go to files or stdout instead."""
    console.print(text, markup=False, soft_wrap=True)


def show_log() -> None:
    """Show what the library logs."""
    handler = RichHandler(
        console=console, show_time=False, show_path=False, show_level=False
    )
    logger = logging.getLogger('eoseg')
    if not logger.handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def progress() -> Progress:
    """A bar per task, gone when it ends; quiet where stderr is no terminal."""
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
