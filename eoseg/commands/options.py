"""Types of options that argparse lacks."""

from argparse import ArgumentTypeError


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float('inf'):
        raise ArgumentTypeError(f'must be a number above 0, got {text}')
    return value


def positive_int(text: str) -> int:
    """A whole number above 0."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value <= 0:
        raise ArgumentTypeError(f'must be a whole number above 0, got {text}')
    return value
