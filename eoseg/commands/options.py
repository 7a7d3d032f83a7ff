"""Types of options that argparse lacks."""

import re
from argparse import ArgumentTypeError

_UNITS = {'K': 10**3, 'M': 10**6, 'G': 10**9}
# Nobody means bytes with a bare number.
_SIZE = re.compile(r'(?P<number>\d+(\.\d+)?) ?(?P<unit>[KMG])B?', re.IGNORECASE)


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


def byte_size(text: str) -> int:
    """A number of bytes, such as 1GB or 800MB."""
    found = _SIZE.fullmatch(text.strip())
    size = found and float(found['number']) * _UNITS[found['unit'].upper()]
    if not size:
        raise ArgumentTypeError(f'must be a size such as 1GB or 800MB, got {text}')
    return round(size)
