"""Windows cover a scene, and their weights add up to one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eoseg.inference.windows import Axis, WindowGrid

lengths = st.integers(1, 200)
sizes = st.integers(1, 64)


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    size = draw(sizes)
    return Axis(draw(lengths), size, draw(st.integers(0, size - 1)))


@given(axes())
def test_every_pixel_is_in_an_interval(axis: Axis) -> None:
    covered = np.zeros(max(axis.length, axis.size), bool)
    for offset in axis.offsets:
        covered[offset : offset + axis.size] = True
    assert covered[: axis.length].all()


@given(axes())
def test_intervals_stay_inside_a_line_that_can_hold_them(axis: Axis) -> None:
    if axis.length >= axis.size:
        assert max(axis.offsets) + axis.size == axis.length
    else:
        assert axis.offsets == [0]


@given(axes())
def test_neighbours_share_at_least_the_overlap(axis: Axis) -> None:
    steps = np.diff(axis.offsets)
    assert (steps <= axis.size - axis.overlap).all()
    assert (steps > 0).all()


@given(axes())
def test_weights_add_up_to_one(axis: Axis) -> None:
    total = np.zeros(max(axis.length, axis.size))
    for offset, weights in zip(axis.offsets, axis.weights, strict=True):
        assert (weights >= 0).all()
        total[offset : offset + axis.size] += weights
    np.testing.assert_allclose(total, 1, rtol=1e-6)


@given(axes())
def test_a_quarter_of_the_overlap_has_no_say_but_at_the_ends_of_the_line(
    axis: Axis,
) -> None:
    quarter = axis.overlap // 4
    for weights in axis.weights[1:]:
        assert (weights[:quarter] == 0).all()
    for weights in axis.weights[:-1]:
        assert (weights[axis.size - quarter :] == 0).all()
    assert axis.weights[0][0] > 0
    assert axis.weights[-1][-1] > 0


def test_weights_fall_off_towards_the_ends() -> None:
    middle = Axis(length=40, size=20, overlap=10).weights[1]
    assert middle[1] == 0 < middle[2] < middle[5] < middle[8]
    assert middle[18] == 0 < middle[17] < middle[14] < middle[11]


@pytest.mark.parametrize('overlap', [-1, 16, 17])
def test_overlap_that_leaves_no_step_is_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match=f'less than size=16, got {overlap}'):
        Axis(100, 16, overlap)


def test_windows_go_row_by_row() -> None:
    grid = WindowGrid(height=30, width=50, size=20, overlap=5)
    places = [(window.row_off, window.col_off) for window in grid]
    assert places == [(0, 0), (0, 15), (0, 30), (10, 0), (10, 15), (10, 30)]
    assert len(grid) == 6
