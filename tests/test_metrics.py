"""Scores follow from one confusion matrix."""

import math

import numpy as np
import pytest

from eoseg.metrics import confusion_csv, confusion_matrix, scores


def test_pixels_are_counted_by_truth_and_prediction() -> None:
    truth = np.array([[0, 0, 1], [2, 255, 1]])
    prediction = np.array([[0, 1, 1], [0, 1, 255]])
    counts = confusion_matrix(truth, prediction, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_scores_of_a_table_worked_by_hand() -> None:
    table = scores([[6, 2], [1, 1]], ['a', 'b'])
    assert table['iou_a'] == pytest.approx(6 / 9)
    assert table['iou_b'] == pytest.approx(1 / 4)
    assert table['miou'] == pytest.approx((6 / 9 + 1 / 4) / 2)
    assert table['oa'] == pytest.approx(7 / 10)
    assert table['f1'] == pytest.approx((12 / 15 + 2 / 5) / 2)
    assert table['f1_nanmean'] == pytest.approx(table['f1'])


def test_the_two_f1_differ_on_a_class_that_is_never_predicted() -> None:
    table = scores([[5, 0], [5, 0]], ['seen', 'missed'])
    assert table['f1'] == pytest.approx(10 / 15 / 2)
    assert table['f1_nanmean'] == pytest.approx(10 / 15)


def test_a_class_always_wrong_counts_as_zero_in_both_f1() -> None:
    table = scores([[0, 3], [4, 0]], ['a', 'b'])
    assert table['f1'] == table['f1_nanmean'] == 0


def test_a_class_that_does_not_occur_is_left_out() -> None:
    table = scores([[3, 0, 1], [0, 0, 0], [0, 0, 4]], ['a', 'none', 'c'])
    assert math.isnan(table['iou_none'])
    assert table['miou'] == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_nothing_counted_is_not_a_number() -> None:
    assert math.isnan(scores(np.zeros((2, 2)), ['a', 'b'])['miou'])


def test_the_table_names_rows_and_columns() -> None:
    assert confusion_csv([[1, 2], [3, 4]], ['a', 'b, c']) == (
        'truth \\ prediction,a,"b, c"\na,1,2\n"b, c",3,4\n'
    )
