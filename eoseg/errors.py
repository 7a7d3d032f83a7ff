"""Errors a user may want to catch.

::

    EOSegError
    ├── RecipeNotFoundError    (also LookupError)
    ├── CheckpointError        (also ValueError)
    ├── SceneMismatchError     (also ValueError)
    └── OutputExistsError      (also FileExistsError)
"""

from collections.abc import Sequence


class EOSegError(Exception):
    """Root of the errors that carry advice for the user."""


class RecipeNotFoundError(EOSegError, LookupError):
    """No recipe has this name."""


class CheckpointError(EOSegError, ValueError):
    """A file is no checkpoint, or one that cannot map a scene."""


class SceneMismatchError(EOSegError, ValueError):
    """A scene is not what the model was trained on."""


class OutputExistsError(EOSegError, FileExistsError):
    """The output is there already and was not to be overwritten."""


def check_choice(name: str, given: object, accepted: Sequence[str]) -> None:
    """Refuse what is none of the accepted words.

    Args:
        name: Of the argument.
        given: Its value.
        accepted: At least two words.

    Raises:
        ValueError: If *given* is none of them.
    """
    if given not in accepted:
        *others, last = map(repr, accepted)
        raise ValueError(f'{name} must be {", ".join(others)} or {last}, got {given!r}')
