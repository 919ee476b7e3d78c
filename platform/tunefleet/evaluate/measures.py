"""What can be measured on the scores of a split: confusion, calibration, histograms.

Decides bins and cuts, once, for the report and for the baseline. Imports numpy; scikit-learn
inside the functions that call it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

ECE_BINS = 15

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def bin_of(confidence: Floats) -> Ints:
    """The calibration bin of each confidence: equal widths, closed above, 0 in the first."""
    return np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)


def expected_calibration_error(confidence: Floats, right: npt.NDArray[np.bool_]) -> float:
    """ECE (Guo et al. 2017): the mean gap of confidence and accuracy, weighted by bin size."""
    gaps = np.bincount(bin_of(confidence), weights=right - confidence, minlength=ECE_BINS)
    return float(abs(gaps).sum() / len(confidence))


def quotient(above: Floats, below: Floats) -> Floats:
    """``above / below``, 0 where ``below`` is not positive."""
    positive = below > 0
    return np.asarray(np.where(positive, above / np.where(positive, below, 1.0), 0.0))


def f1_of(hits: Floats, actual: Floats, predicted: Floats) -> Floats:
    """F1 from counts; 0 where a class neither occurs nor is predicted (as scikit-learn does)."""
    whole = actual + predicted
    return quotient(2 * hits, whole)


def correlation(sums: Floats) -> Floats:
    """Pearson's correlation from sums of 1, x, y, x², y², xy (one row per sample)."""
    n, x, y, xx, yy, xy = sums.T
    spread = (n * xx - x**2) * (n * yy - y**2)
    shared = n * xy - x * y
    return quotient(shared, np.sqrt(np.maximum(spread, 0)))


def confusion(label: Ints, predicted: Ints, classes: int) -> Ints:
    """Counts by true (rows) and predicted (columns) class."""
    return np.bincount(label * classes + predicted, minlength=classes * classes).reshape(
        classes, classes
    )


def classification_metrics(label: Ints, probabilities: Floats) -> dict[str, float]:
    """The metrics of single-label text classification from probabilities [n, classes]."""
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    rows = np.arange(len(label))
    right = predicted == label
    cells = confusion(label, predicted, classes)
    actual, guessed = cells.sum(axis=1), cells.sum(axis=0)
    hits = np.diag(cells)
    f1 = f1_of(hits.astype(np.float64), actual.astype(np.float64), guessed.astype(np.float64))
    likelihood = np.clip(probabilities[rows, label], 1e-15, 1.0)
    return {
        "f1_macro": float(f1.mean()),
        "accuracy": float(right.mean()),
        "mcc": matthews(hits, actual, guessed),
        "ece": expected_calibration_error(probabilities[rows, predicted], right),
        "loss": float(-np.log(likelihood).mean()),
    }


def matthews(hits: Ints, actual: Ints, predicted: Ints) -> float:
    """Matthews correlation coefficient from counts per class; 0 where it is undefined."""
    n, right = float(actual.sum()), float(hits.sum())
    spread = (n**2 - float((predicted**2).sum())) * (n**2 - float((actual**2).sum()))
    return float((right * n - float(actual @ predicted)) / np.sqrt(spread)) if spread > 0 else 0.0


def edges(low: float, high: float, bins: int) -> Floats:
    """Bin edges with round numbers that cover low..high in about ``bins`` bins."""
    # Closer together than numbers of this size can be told apart: one value.
    if high - low <= 1e-9 * max(1.0, abs(low), abs(high)):
        high = low + 1
    raw = (high - low) / bins
    unit = 10.0 ** math.floor(math.log10(raw))
    width = next(unit * step for step in (1, 2, 2.5, 5, 10) if unit * step >= raw * 0.999)
    first, last = math.floor(low / width), math.ceil(high / width)
    if last == first:
        last += 1
    return np.asarray(np.arange(first, last + 1) * width)
