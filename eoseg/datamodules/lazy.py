"""Values that are made when they are first asked for."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

_Key = TypeVar('_Key')
_Value = TypeVar('_Value')


class Lazy(Mapping[_Key, _Value]):
    """A mapping whose values are made on access, each once.

    >>> squares = Lazy({2: lambda: 4, 3: lambda: 9})
    >>> squares[2], 3 in squares, opened(squares)
    (4, True, {2: 4})
    """

    def __init__(self, makers: Mapping[_Key, Callable[[], _Value]]) -> None:
        """Initialize a new Lazy instance.

        Args:
            makers: What makes the value of each key.
        """
        self._makers = dict(makers)
        self._made: dict[_Key, _Value] = {}

    def __getitem__(self, key: _Key) -> _Value:
        """The value of a key, made if it is not there yet."""
        if key not in self._made:
            self._made[key] = self._makers[key]()
        return self._made[key]

    def __contains__(self, key: object) -> bool:
        """Whether there is such a key; that of Mapping would make its value."""
        return key in self._makers

    def __iter__(self) -> Iterator[_Key]:
        """All keys."""
        return iter(self._makers)

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._makers)

    def made(self) -> dict[_Key, _Value]:
        """What was asked for so far, in the order of the keys."""
        return {key: self._made[key] for key in self._makers if key in self._made}


def opened(values: Mapping[_Key, _Value]) -> Mapping[_Key, _Value]:
    """What is there already of a mapping: all of it, unless it is lazy."""
    return values.made() if isinstance(values, Lazy) else values
