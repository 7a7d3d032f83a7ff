"""What a student is told apart from its teacher by."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Named settings of :class:`DistillationLoss`. ``paper`` is what the authors' code does;
#: ``balanced`` keeps the loss of the same size as that of the labels, for maps of any
#: size and number of channels.
PRESETS: dict[str, dict[str, Any]] = {
    'paper': {
        'temperature': 1.0,
        'kl_weight': 0.5,
        'mse_weight': 0.5,
        'kl_dim': 'width',
        'kl_reduction': 'batchmean',
        'normalize': False,
    },
    'balanced': {
        'temperature': 1.0,
        'kl_weight': 0.5,
        'mse_weight': 0.5,
        'kl_dim': 'width',
        'kl_reduction': 'mean',
        'normalize': False,
    },
}


class DistillationTerms(NamedTuple):
    """The distillation loss and its parts, each a mean over the levels."""

    #: Divergence of the distributions, not weighted.
    kl: Tensor
    #: Mean squared difference, not weighted.
    mse: Tensor
    #: Weighted sum of both.
    total: Tensor


class DistillationLoss(nn.Module):
    r"""Difference between the feature maps of a student and of its teacher.

    With the maps :math:`S_l` of the student and :math:`T_l` of the teacher at the levels
    :math:`l = 1 \dots L`, each of shape (B, C, H, W), the temperature :math:`\tau`, and
    softmax and sum over *kl_dim*,

    .. math::

        p_l &= \mathrm{softmax}(T_l / \tau), \quad q_l = \mathrm{softmax}(S_l / \tau) \\
        \mathrm{KL}_l &= \frac{\tau^2}{N} \sum p_l \, (\log p_l - \log q_l) \\
        \mathrm{MSE}_l &= \mathrm{mean} \, (S_l - T_l)^2 \\
        \mathrm{total} &= \frac{1}{L} \sum_l
            \left( w_\mathrm{kl} \mathrm{KL}_l + w_\mathrm{mse} \mathrm{MSE}_l \right)

    where :math:`N` is B (*kl_reduction* ``batchmean``) or the number of distributions
    (``mean``; B C H of them if *kl_dim* is ``width``).

    The preset ``paper`` follows the authors' implementation of KTDA. Mind that it
    compares each row of each channel on its own, so an offset of a whole row costs
    nothing; and that the sum over C H rows makes the divergence thousands of times as
    large as the other losses, and larger for larger images. For new work, ``balanced``
    is the better behaved choice.

    If you use this loss in your research, please cite the following paper:

    * https://arxiv.org/abs/2412.06664
    """

    def __init__(
        self,
        temperature: float | None = None,
        kl_weight: float | None = None,
        mse_weight: float | None = None,
        kl_dim: Literal['width', 'channel', 'spatial'] | None = None,
        kl_reduction: Literal['batchmean', 'mean'] | None = None,
        normalize: bool | None = None,
        preset: Literal['paper', 'balanced'] = 'paper',
    ) -> None:
        r"""Initialize a new DistillationLoss instance.

        Args:
            temperature: Divisor of the features, :math:`\tau`; larger is softer.
            kl_weight: Weight of the divergence. The authors' ablations have 0 (and 0.5
                for the other), and 1 (and 0).
            mse_weight: Weight of the mean squared difference.
            kl_dim: What a distribution extends over: a row of a channel (``width``), the
                channels of a cell, or the cells of a channel (``spatial``).
            kl_reduction: Sum over all distributions of an image, or their mean.
            normalize: Whether the channels of a cell are divided by their Euclidean norm
                before they are squared; the paper speaks of such a constraint, its code
                has none.
            preset: Where the arguments that are not given come from: ``paper``, or
                ``balanced``, which takes the mean over distributions.

        Raises:
            ValueError: If an argument is none of the above, *temperature* is not
                positive or a weight is negative.
        """
        super().__init__()
        if preset not in PRESETS:
            raise ValueError(
                f'preset must be {" or ".join(map(repr, PRESETS))}, got {preset!r}'
            )
        given = {
            'temperature': temperature,
            'kl_weight': kl_weight,
            'mse_weight': mse_weight,
            'kl_dim': kl_dim,
            'kl_reduction': kl_reduction,
            'normalize': normalize,
        }
        chosen = PRESETS[preset] | {k: v for k, v in given.items() if v is not None}
        _check_settings(chosen)
        self.temperature: float = chosen['temperature']
        self.kl_weight: float = chosen['kl_weight']
        self.mse_weight: float = chosen['mse_weight']
        self.kl_dim: str = chosen['kl_dim']
        self.kl_reduction: str = chosen['kl_reduction']
        self.normalize: bool = chosen['normalize']

    def forward(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor]
    ) -> DistillationTerms:
        """Compute the loss, in float32 also under autocast.

        Args:
            students: Maps of the student, each of shape (B, C, H, W).
            teachers: As many maps of the teacher, of the same shapes.

        Returns:
            The loss and its parts.

        Raises:
            ValueError: If the maps do not correspond.
        """
        _check_maps(students, teachers)
        with torch.autocast(students[0].device.type, enabled=False):
            pairs = [
                (s.float(), t.float()) for s, t in zip(students, teachers, strict=True)
            ]
            kl = torch.stack([self._divergence(s, t) for s, t in pairs]).mean()
            mse = torch.stack([self._difference(s, t) for s, t in pairs]).mean()
        return DistillationTerms(kl, mse, self.kl_weight * kl + self.mse_weight * mse)

    def _difference(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.normalize:
            student, teacher = F.normalize(student), F.normalize(teacher)
        return F.mse_loss(student, teacher)

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        log_q = self._log_distributions(student)
        log_p = self._log_distributions(teacher)
        batch, length = len(log_p), log_p.shape[-1]
        count = batch if self.kl_reduction == 'batchmean' else log_p.numel() // length
        kl = F.kl_div(log_q, log_p, reduction='sum', log_target=True)
        return kl * self.temperature**2 / count

    def _log_distributions(self, feature: Tensor) -> Tensor:
        """Logarithms of the distributions, each along the last dimension."""
        match self.kl_dim:
            case 'channel':
                values = feature.movedim(1, -1)
            case 'spatial':
                values = feature.flatten(2)
            case _:
                values = feature
        return F.log_softmax(values / self.temperature, dim=-1)


def _check_settings(chosen: dict[str, Any]) -> None:
    if chosen['temperature'] <= 0:
        raise ValueError(f'temperature must be positive, got {chosen["temperature"]}')
    if min(chosen['kl_weight'], chosen['mse_weight']) < 0:
        raise ValueError(
            'kl_weight and mse_weight must be at least 0, '
            f'got {chosen["kl_weight"]} and {chosen["mse_weight"]}'
        )
    if chosen['kl_dim'] not in ('width', 'channel', 'spatial'):
        raise ValueError(
            f"kl_dim must be 'width', 'channel' or 'spatial', got {chosen['kl_dim']!r}"
        )
    if chosen['kl_reduction'] not in ('batchmean', 'mean'):
        raise ValueError(
            "kl_reduction must be 'batchmean' or 'mean', "
            f'got {chosen["kl_reduction"]!r}'
        )


def _check_maps(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> None:
    ours = [tuple(student.shape) for student in students]
    theirs = [tuple(teacher.shape) for teacher in teachers]
    if not ours or ours != theirs:
        raise ValueError(
            'Student and teacher must give the same number of maps, of the same shapes; '
            f'got {ours} and {theirs}. Set the dim and patch_size of the student to '
            'those of the teacher.'
        )
