"""Arguments that data sets share, checked with a message that says what is accepted."""

from collections.abc import Iterable, Sequence


def chosen(
    what: str, given: Sequence[str] | None, accepted: Sequence[str], owner: str
) -> tuple[str, ...]:
    """Names that were asked for, all of them if none were.

    Args:
        what: What they are, for the message: 'band'.
        given: Names; None for all.
        accepted: All names there are.
        owner: Whose they are, for the message.

    Raises:
        ValueError: If one of them is not there, is given twice, or if none is given.
    """
    if given is None:
        return tuple(accepted)
    names = (given,) if isinstance(given, str) else tuple(given)
    if unknown := [name for name in names if name not in accepted]:
        raise ValueError(
            f'{owner} has no {what} {_listed(unknown)}; its {what}s are '
            f'{_listed(accepted)}'
        )
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f'give each {what} of {owner} once, at least one, got '
            f'{_listed(names) or "none"}'
        )
    return names


def check_split(split: str, splits: Iterable[str], owner: str) -> None:
    """Refuse a split that a data set does not have.

    Args:
        split: What was asked for.
        splits: Names of its splits.
        owner: Name of the data set, for the message.

    Raises:
        ValueError: If it is none of them.
    """
    if split not in (names := tuple(splits)):
        raise ValueError(
            f'split of {owner} must be {" or ".join(names)}, got {split!r}'
        )


def _listed(names: Iterable[str]) -> str:
    return ', '.join(map(str, names))
