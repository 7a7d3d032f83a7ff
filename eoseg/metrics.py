"""Scores of a map against its truth, from one confusion matrix."""

import csv
from collections.abc import Sequence
from io import StringIO

import numpy as np
from numpy.typing import ArrayLike, NDArray


def confusion_matrix(
    truth: NDArray[np.integer],
    prediction: NDArray[np.integer],
    num_classes: int,
    ignore_index: int = 255,
) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Args:
        truth: Class indices, of any shape.
        prediction: Class indices, of the same shape.
        num_classes: Number of classes, K.
        ignore_index: Value of pixels that do not count, in either.

    Returns:
        Counts, of shape (K, K): rows are the truth, columns the prediction.
    """
    counts = (truth != ignore_index) & (prediction != ignore_index)
    pairs = truth[counts].astype(np.int64) * num_classes + prediction[counts]
    return np.bincount(pairs, minlength=num_classes**2).reshape(
        num_classes, num_classes
    )


def scores(confusion: ArrayLike, classes: Sequence[str]) -> dict[str, float]:
    """Scores of a confusion matrix.

    With TP, FP and FN of a class:

    * ``iou_<class>`` = TP / (TP + FP + FN); ``miou`` is their mean (macro)
    * ``f1`` is the mean of 2 TP / (2 TP + FP + FN): a class that is never predicted
      counts as 0
    * ``f1_nanmean`` is the mean of 2 P R / (P + R) with P = TP / (TP + FP) and
      R = TP / (TP + FN): a class that is never predicted has no P and is left out, as
      in mmsegmentation and in many published tables
    * ``oa`` is the overall accuracy, the share of pixels that are right

    A class that occurs in neither truth nor prediction is left out of every mean.

    Args:
        confusion: Counts, of shape (K, K): rows are the truth.
        classes: Names of the K classes.

    Returns:
        Scores from 0 to 1; NaN where nothing is defined.

    >>> table = scores([[8, 2], [1, 9]], ['clear', 'cloud'])
    >>> round(table['miou'], 3), round(table['oa'], 3)
    (0.739, 0.85)
    """
    counts = np.asarray(confusion, np.float64)
    hits = np.diag(counts)
    predicted, true = counts.sum(axis=0), counts.sum(axis=1)
    with np.errstate(invalid='ignore', divide='ignore'):
        iou = hits / (predicted + true - hits)
        dice = 2 * hits / (predicted + true)
        precision, recall = hits / predicted, hits / true
        f1 = 2 * precision * recall / (precision + recall)
        # Predicted, but never right: F1 is 0 although P + R is.
        f1[(hits == 0) & (predicted > 0) & (true > 0)] = 0
        result = {
            'miou': _nanmean(iou),
            'oa': float(hits.sum() / counts.sum()),
            'f1': _nanmean(dice),
            'f1_nanmean': _nanmean(f1),
        }
    return result | {
        f'iou_{name}': float(value) for name, value in zip(classes, iou, strict=True)
    }


def confusion_csv(confusion: ArrayLike, classes: Sequence[str]) -> str:
    """A confusion matrix as a table with a header: rows are the truth."""
    text = StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['truth \\ prediction', *classes])
    rows = np.asarray(confusion).astype(int).tolist()
    writer.writerows([name, *row] for name, row in zip(classes, rows, strict=True))
    return text.getvalue()


def _nanmean(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float('nan')
