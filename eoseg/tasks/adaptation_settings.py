"""Settings of ST-DASegNet's training, with the presets they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, cast

from ..errors import check_choice
from ..inputs import Inputs
from ..losses.self_training import Normalization

#: Named settings of :class:`~eoseg.tasks.DomainAdaptation`. ``paper`` is what the authors' code does.
#: By default, means are over pixels that have a label, teachers begin as their students
#: and do not drop channels, and statistics of batch norms are those of the target, which
#: the network is made for.
PRESETS: dict[str, dict[str, Any]] = {
    'paper': {
        'normalization': 'all',
        'teacher_init': 'random',
        'teacher_dropout': True,
        'statistics': 'both',
    },
    'default': {
        'normalization': 'valid',
        'teacher_init': 'copy',
        'teacher_dropout': False,
        'statistics': 'target',
    },
}


@dataclass(frozen=True)
class Settings:
    """What a preset says, and what was given in its place."""

    normalization: Normalization
    teacher_init: Literal['copy', 'random']
    teacher_dropout: bool
    statistics: Literal['target', 'both']
    teacher: Literal['decoder', 'target'] = 'decoder'
    decay: float = 0.999
    threshold: float = 0.975
    rare_threshold: float = 0.8
    self_training: float = 0.25
    adversarial: float = 0.005


def choose(preset: str, given: Mapping[str, Any]) -> Settings:
    """Settings of a preset, but for those that are given.

    Args:
        preset: One of :data:`PRESETS`.
        given: Fields of :class:`Settings`.

    Raises:
        ValueError: If there is no such preset or setting, or none of such a value.
    """
    check_choice('preset', preset, [*PRESETS])
    known = [one.name for one in fields(Settings)]
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f'settings takes {", ".join(known)}; got {", ".join(unknown)}')
    settings = Settings(**PRESETS[preset] | dict(given))
    for name, accepted in (
        ('normalization', ('valid', 'all')),
        ('teacher_init', ('copy', 'random')),
        ('statistics', ('target', 'both')),
        ('teacher', ('decoder', 'target')),
    ):
        check_choice(name, getattr(settings, name), accepted)
    for name in ('decay', 'threshold', 'rare_threshold'):
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f'{name} must be 0 to 1, got {getattr(settings, name)}')
    if min(settings.self_training, settings.adversarial) < 0:
        raise ValueError(
            'self_training and adversarial must be at least 0, '
            f'got {settings.self_training} and {settings.adversarial}'
        )
    return settings


def two_lists(
    weights: Sequence[float] | Sequence[Sequence[float]] | None, inputs: Inputs
) -> tuple[Sequence[float] | None, Sequence[float] | None]:
    """Weights of the classes for either decoder.

    Args:
        weights: One number per class for both, or a list for each; None for none.
        inputs: Names the classes.

    Raises:
        ValueError: If there are not as many as classes.
    """
    if weights is None:
        return None, None
    lists = [one for one in weights if isinstance(one, Sequence)]
    if lists and (len(lists), len(weights)) != (2, 2):
        raise ValueError(
            'class_weights must be one number per class, or two lists of them; '
            f'got {weights}'
        )
    source, target = lists or [cast(Sequence[float], weights)] * 2
    for one in (source, target):
        check_weights('class_weights', one, inputs)
    return source, target


def check_weights(name: str, weights: Sequence[float], inputs: Inputs) -> None:
    """Refuse weights that are not one for each class.

    Args:
        name: Of the argument.
        weights: What was given.
        inputs: Names the classes.

    Raises:
        ValueError: If there are not as many as classes.
    """
    if len(weights) != inputs.num_classes:
        raise ValueError(
            f'{name} must be {inputs.num_classes} numbers, one for each of '
            f'{", ".join(inputs.classes)}; got {len(weights)}'
        )
