"""Errors a user may want to catch.

::

    EOSegError
    ├── RecipeNotFoundError    (also LookupError)
    ├── CheckpointError        (also ValueError)
    ├── SceneMismatchError     (also ValueError)
    └── OutputExistsError      (also FileExistsError)
"""


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
