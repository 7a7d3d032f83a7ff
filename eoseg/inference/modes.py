"""What becomes of a pixel that several scenes see.

A mode is a function from the contributions of the scenes, which come one after the other,
to what the mosaic shows.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eoseg_datasets.classes import NODATA


@dataclass(frozen=True)
class Contribution:
    """What one scene says of a block."""

    #: Position of the scene among all scenes.
    source: int
    #: Class probabilities, of shape (K, H, W); any value where the weight is 0.
    probabilities: Tensor
    #: Weight, of shape (H, W); 0 where the scene has no data.
    weight: Tensor


@dataclass(frozen=True)
class Merged:
    """What the mosaic shows in a block."""

    #: Classes, of shape (H, W), in uint8; 255 where no scene has data.
    classes: Tensor
    #: Probability of that class, 0 to 1, of shape (H, W); 0 where no scene has data.
    confidence: Tensor
    #: Position of the scene that says most of each pixel; -1 where none does.
    source: Tensor
    #: Scenes that have data, of shape (H, W); None unless counted.
    count: Tensor | None = None
    #: Share of these whose own class is the one shown; None unless counted.
    agreement: Tensor | None = None


#: From contributions, of which there is at least one, to what is shown.
Mode = Callable[[Iterable[Contribution]], Merged]


def blend(contributions: Iterable[Contribution]) -> Merged:
    """Largest sum of weight x probability; the source is the scene of largest weight."""
    parts = iter(contributions)
    first = next(parts)
    total = first.probabilities * first.weight
    sum_of_weights = first.weight.clone()
    largest, source = first.weight, _where_it_has_data(first)
    for part in parts:
        total.addcmul_(part.probabilities, part.weight)
        sum_of_weights += part.weight
        source = torch.where(part.weight > largest, part.source, source)
        largest = torch.maximum(largest, part.weight)
    sums, classes = total.max(dim=0)
    covered = sum_of_weights > 0
    confidence = torch.where(covered, sums / sum_of_weights, 0)
    return Merged(_classes(classes, covered), confidence, source)


def first(contributions: Iterable[Contribution]) -> Merged:
    """The first scene that has data."""
    return _choose(contributions, lambda part, _: torch.ones_like(part.weight))


def last(contributions: Iterable[Contribution]) -> Merged:
    """The last scene that has data."""
    return _choose(
        contributions, lambda part, _: torch.full_like(part.weight, part.source + 1)
    )


def best(contributions: Iterable[Contribution]) -> Merged:
    """The scene that is surest of its class; among equals the first."""
    return _choose(contributions, lambda _, confidence: confidence)


#: Modes by the name that a user types.
MODES: dict[str, Mode] = {'blend': blend, 'first': first, 'last': last, 'best': best}


def alone(source: int, classes: Tensor, confidence: Tensor) -> Merged:
    """What every mode shows of a scene that no other reaches.

    Args:
        source: Position of the scene among all scenes.
        classes: Of shape (H, W), in uint8; 255 where it has no data.
        confidence: Probability of that class, of shape (H, W); 0 where it has no data.
    """
    covered = classes != NODATA
    return Merged(
        classes,
        confidence,
        torch.where(covered, source, -1).to(torch.int32),
        count=covered.to(torch.int32),
        agreement=covered.float(),
    )


def _choose(
    contributions: Iterable[Contribution],
    score: Callable[[Contribution, Tensor], Tensor],
) -> Merged:
    """Of the scenes that have data the one with the highest score, else the first."""
    chosen, highest = None, torch.empty(0)
    for part in contributions:
        confidence, classes = part.probabilities.max(dim=0)
        covered = part.weight > 0
        scores = torch.where(covered, score(part, confidence), 0)
        new = Merged(
            _classes(classes, covered),
            torch.where(covered, confidence, 0),
            _where_it_has_data(part),
        )
        if chosen is None:
            chosen, highest = new, scores
            continue
        better = scores > highest
        highest = torch.maximum(highest, scores)
        chosen = Merged(
            torch.where(better, new.classes, chosen.classes),
            torch.where(better, new.confidence, chosen.confidence),
            torch.where(better, new.source, chosen.source),
        )
    if chosen is None:
        raise ValueError('a mode needs at least one contribution, got none')
    return chosen


def with_agreement(mode: Mode) -> Mode:
    """The mode, and beside it how many scenes see a pixel and say the class it shows.

    Args:
        mode: Says what is shown. In memory a number per class and pixel is added.
    """

    def tallied(contributions: Iterable[Contribution]) -> Merged:
        tally = _Tally()
        merged = mode(tally.watch(contributions))
        count = tally.votes.sum(dim=0, dtype=torch.int32)
        shown = torch.where(merged.source >= 0, merged.classes, 0).long()
        votes = tally.votes.gather(0, shown[None])[0]
        agreement = votes / count.clamp(min=1)
        return replace(merged, count=count, agreement=agreement)

    return tallied


class _Tally:
    """Counts how many scenes say each class."""

    votes: Tensor

    def watch(self, contributions: Iterable[Contribution]) -> Iterator[Contribution]:
        """The contributions as they come."""
        for i, part in enumerate(contributions):
            if i == 0:
                self.votes = torch.zeros_like(part.probabilities, dtype=torch.int16)
            # On the CPU several times faster than argmax.
            said = part.probabilities.max(dim=0).indices[None]
            votes = (part.weight > 0).to(torch.int16)[None]
            self.votes.scatter_add_(0, said, votes)
            yield part


def _where_it_has_data(part: Contribution) -> Tensor:
    source = torch.full_like(part.weight, part.source, dtype=torch.int32)
    return torch.where(part.weight > 0, source, -1)


def _classes(classes: Tensor, covered: Tensor) -> Tensor:
    return torch.where(covered, classes, NODATA).to(torch.uint8)
