"""Distances between feature maps of two sensors."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: A sum over what is compared, and how much that is, each of shape (B,).
_Sums = tuple[Tensor, Tensor]

#: Ways to compare two maps.
Distance = Literal['cosine', 'mse', 'l1', 'cwd', 'attention']

#: Logit of a cell that does not count, before a softmax over cells.
_NEVER = -1e4


class FeatureDistanceTerms(NamedTuple):
    """A distance and what it is made of."""

    #: Mean over the levels, what is minimised.
    total: Tensor
    #: Distance in each level, without gradients.
    levels: dict[str, Tensor]
    #: Pixels by which the teacher's maps were moved down and to the right, of shape
    #: (B, 2).
    shift: Tensor


class FeatureDistance(nn.Module):
    """How far the maps of a student are from those of a teacher of another sensor.

    Where one sensor sees what the other does not, equal maps are too much to ask: the
    student's pass through a projector of their own (a 1x1 convolution and a batch norm)
    before they are compared, which is thrown away after the training. The teacher's
    stay as they are.

    The distances, over cells that both sensors have seen:

    * ``cosine``: squared distance of the channels, scaled to length 1, that is
      2 - 2 cos; it does not depend on the scale of either map, so that one weight suits
      all levels
    * ``mse`` and ``l1``: mean squared and mean absolute difference
    * ``cwd``: divergence of each channel's softmax over the cells, times the square of
      the temperature
    * ``attention``: squared distance of the energy of each cell, scaled to length 1 over
      the cells; channels are not compared, and there is no projector

    What HFD-Net compares, and how, is not known to us: these are ours and those of

    * https://arxiv.org/abs/2011.13256 (``cwd``)
    * https://arxiv.org/abs/1612.03928 (``attention``)
    """

    def __init__(
        self,
        channels: Mapping[str, int],
        levels: Sequence[str] | None = None,
        distance: Distance = 'cosine',
        projector: bool = True,
        temperature: float = 4.0,
        tolerance: int = 0,
    ) -> None:
        """Initialize a new FeatureDistance instance.

        Args:
            channels: Channels of each map by the name of its level.
            levels: Names of the levels to compare; all of them by default.
            distance: How maps are compared.
            projector: False compares the maps of the student as they are.
            temperature: Of ``cwd``.
            tolerance: Pixels by which the two images of a pair may be misplaced, rounded
                up to whole cells of the finest level. For each pair the maps of the
                teacher are moved by at most as much, cell by cell, to where they fit
                best; levels with coarser cells are moved by as many of them as fit in.

        Raises:
            ValueError: If a level or distance is unknown, or a number negative.
        """
        super().__init__()
        self.levels = tuple(channels if levels is None else levels)
        unknown = [level for level in self.levels if level not in channels]
        if unknown or not self.levels:
            raise ValueError(
                f'levels must be some of {", ".join(channels)}, '
                f'got {", ".join(map(str, self.levels)) or "none"}'
            )
        if distance not in _DISTANCES and distance != 'cwd':
            raise ValueError(
                f'distance must be one of {", ".join(_DISTANCES)} or cwd, '
                f'got {distance!r}'
            )
        if tolerance < 0 or temperature <= 0:
            raise ValueError(
                'tolerance must be at least 0 and temperature positive, '
                f'got {tolerance} and {temperature}'
            )
        self.distance, self.temperature = distance, temperature
        self.tolerance = tolerance
        projects = projector and distance != 'attention'
        self.projectors = nn.ModuleDict(
            {
                level: _projector(channels[level]) if projects else nn.Identity()
                for level in self.levels
            }
        )

    def forward(
        self,
        students: Mapping[str, Tensor],
        teachers: Mapping[str, Tensor],
        seen: Tensor,
    ) -> FeatureDistanceTerms:
        """Compare maps.

        Args:
            students: Maps of the student by level, each of shape (B, C_i, h_i, w_i).
            teachers: Maps of the teacher, of the same shapes.
            seen: Whether both sensors have seen a pixel, of shape (B, H, W). A cell
                counts where they have seen at least half of it.

        Returns:
            The distance; 0, with gradients of 0, where nothing counts.
        """
        projected = {
            level: self.projectors[level](students[level]).float()
            for level in self.levels
        }
        targets = {level: teachers[level].detach().float() for level in self.levels}
        cells = {level: _cells(seen, targets[level]) for level in self.levels}
        shift = self._best_shift(projected, targets, cells, seen)
        distances = {}
        for level in self.levels:
            target, there = targets[level], cells[level]
            if self.tolerance:
                steps = _in_cells(shift, seen, target)
                target, moved = _moved_each(target, there, steps)
                there = there & moved
            total, weight = self._compare(projected[level], target, there)
            distances[level] = total.sum() / weight.sum().clamp(min=1e-6)
        return FeatureDistanceTerms(
            torch.stack([*distances.values()]).mean(),
            {level: value.detach() for level, value in distances.items()},
            shift,
        )

    def _compare(self, student: Tensor, teacher: Tensor, there: Tensor) -> _Sums:
        if self.distance == 'cwd':
            return _channel_divergence(student, teacher, there, self.temperature)
        return _DISTANCES[self.distance](student, teacher, there)

    @torch.no_grad()
    def _best_shift(
        self,
        students: Mapping[str, Tensor],
        teachers: Mapping[str, Tensor],
        cells: Mapping[str, Tensor],
        seen: Tensor,
    ) -> Tensor:
        """Pixels down and to the right that bring each teacher nearest, (B, 2)."""
        count = len(seen)
        if not self.tolerance:
            return torch.zeros(count, 2, dtype=torch.long, device=seen.device)
        finest = min(_stride(seen, teachers[level]) for level in self.levels)
        most = -(-self.tolerance // finest)
        reach = range(-most, most + 1)
        # From the nearest on: of equal ones the first is taken.
        shifts = sorted(product(reach, reach), key=lambda s: (abs(s[0]) + abs(s[1]), s))
        distances = []
        for rows, cols in shifts:
            each = torch.tensor([[rows, cols]] * count, device=seen.device) * finest
            mean = torch.zeros(count, device=seen.device)
            for level in self.levels:
                target, there = teachers[level], cells[level]
                steps = _in_cells(each, seen, target)
                moved, inside = _moved_each(target, there, steps)
                total, weight = self._compare(students[level], moved, there & inside)
                mean += total / weight.clamp(min=1e-6)
            distances.append(mean)
        best = torch.stack(distances).argmin(dim=0)
        return torch.tensor(shifts, device=seen.device)[best] * finest


def logit_distance(
    student: Tensor, teacher: Tensor, seen: Tensor, temperature: float = 4.0
) -> Tensor:
    r"""Divergence of a student's classes from those of a teacher.

    .. math::

        \tau^2 \, \mathrm{KL}\left(
            \mathrm{softmax}(t / \tau) \,\|\, \mathrm{softmax}(s / \tau)\right)

    Args:
        student: Logits of shape (B, K, h, w).
        teacher: Logits of the same shape.
        seen: Whether both sensors have seen a pixel, of shape (B, H, W).
        temperature: :math:`\tau`; more of it shows what else the teacher thought of.

    Returns:
        The mean over cells that count; 0, with gradients of 0, if there are none.
    """
    there = _cells(seen, student)
    log_student = (student.float() / temperature).log_softmax(dim=1)
    log_teacher = (teacher.detach().float() / temperature).log_softmax(dim=1)
    divergence = F.kl_div(log_student, log_teacher, reduction='none', log_target=True)
    total = (divergence.sum(dim=1) * there).sum()
    return temperature**2 * total / there.sum().clamp(min=1)


def _projector(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
    )


def _cells(seen: Tensor, feature: Tensor) -> Tensor:
    """Whether at least half of each cell of a map was seen, of shape (B, h, w)."""
    size = (int(feature.shape[-2]), int(feature.shape[-1]))
    share = F.adaptive_avg_pool2d(seen[:, None].float(), size)
    return share[:, 0] >= 0.5


def _per_cell(distance: Tensor, there: Tensor) -> _Sums:
    inside = there.to(distance.dtype)
    return (distance * inside).sum(dim=(1, 2)), inside.sum(dim=(1, 2))


def _cosine(student: Tensor, teacher: Tensor, there: Tensor) -> _Sums:
    difference = F.normalize(student, dim=1) - F.normalize(teacher, dim=1)
    return _per_cell((difference**2).sum(dim=1), there)


def _mse(student: Tensor, teacher: Tensor, there: Tensor) -> _Sums:
    return _per_cell(((student - teacher) ** 2).mean(dim=1), there)


def _l1(student: Tensor, teacher: Tensor, there: Tensor) -> _Sums:
    return _per_cell((student - teacher).abs().mean(dim=1), there)


def _attention(student: Tensor, teacher: Tensor, there: Tensor) -> _Sums:
    def energy(feature: Tensor) -> Tensor:
        return F.normalize(((feature**2).mean(dim=1) * there).flatten(1), dim=1)

    distance = ((energy(student) - energy(teacher)) ** 2).sum(dim=1)
    some = there.flatten(1).any(dim=1).to(distance.dtype)
    return distance * some, some


def _channel_divergence(
    student: Tensor, teacher: Tensor, there: Tensor, temperature: float
) -> _Sums:
    def distribution(feature: Tensor) -> Tensor:
        hidden = (feature / temperature).masked_fill(~there[:, None], _NEVER)
        return hidden.flatten(2).log_softmax(dim=2)

    divergence = F.kl_div(
        distribution(student), distribution(teacher), reduction='none', log_target=True
    )
    some = there.flatten(1).any(dim=1).to(divergence.dtype)
    return temperature**2 * divergence.sum(dim=2).mean(dim=1) * some, some


_DISTANCES: dict[str, Callable[[Tensor, Tensor, Tensor], _Sums]] = {
    'cosine': _cosine,
    'mse': _mse,
    'l1': _l1,
    'attention': _attention,
}


def _stride(seen: Tensor, feature: Tensor) -> int:
    """Pixels per cell."""
    return max(round(seen.shape[-1] / feature.shape[-1]), 1)


def _in_cells(shift: Tensor, seen: Tensor, feature: Tensor) -> Tensor:
    """Whole cells of a map within a shift in pixels."""
    return torch.div(shift, _stride(seen, feature), rounding_mode='trunc')


def _moved_each(feature: Tensor, there: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Maps and their cells that count, moved down and to the right by (B, 2) cells."""
    moved = [
        _moved(one, inside, *step)
        for one, inside, step in zip(feature, there, steps.tolist(), strict=True)
    ]
    maps, counts = zip(*moved, strict=True)
    return torch.stack(maps), torch.stack(counts)


def _moved(
    feature: Tensor, there: Tensor, rows: int, cols: int
) -> tuple[Tensor, Tensor]:
    if rows == cols == 0:
        return feature, there
    inside = there.roll((rows, cols), (-2, -1)).clone()
    # What came in on the other side was never there.
    inside[: max(rows, 0)] = False
    inside[inside.shape[0] + min(rows, 0) :] = False
    inside[:, : max(cols, 0)] = False
    inside[:, inside.shape[1] + min(cols, 0) :] = False
    return feature.roll((rows, cols), (-2, -1)), inside
