"""Metrics from per-unit scores: classification, several labels, a number, tokens.

Decides how each number is computed, always over the full list of labels, so that a label
which a split lacks does not change what an average means. Every metric is finite. Imports
numpy; scikit-learn and scipy when a metric needs them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CALIBRATION_BINS = 15
_LARGEST_EXPONENT = 700.0


def mean(values: Array) -> float:
    """The mean in double precision; raises ``ValueError`` for no values."""
    if len(values) == 0:
        raise ValueError("there are no units to compute metrics of")
    return float(np.mean(values, dtype=np.float64))


def single_label(scores: Mapping[str, Array], labels: int) -> dict[str, float]:
    """Accuracy, macro F1, Matthews correlation, calibration error and loss."""
    from sklearn.metrics import f1_score

    truth, predicted = scores["label"], scores["predicted"]
    loss = mean(scores["loss"])
    every = list(range(labels))
    return {
        "f1_macro": float(
            f1_score(truth, predicted, labels=every, average="macro", zero_division=0.0)
        ),
        "accuracy": mean(truth == predicted),
        "mcc": _matthews(truth, predicted, labels),
        "ece": calibration_error(scores["confidence"], truth == predicted),
        "loss": loss,
    }


def _matthews(truth: Array, predicted: Array, labels: int) -> float:
    """Matthews' correlation of several classes; 0 where one side knows a single class."""
    true = np.bincount(truth, minlength=labels).astype(np.float64)
    told = np.bincount(predicted, minlength=labels).astype(np.float64)
    units, right = len(truth), float(np.sum(truth == predicted))
    scale = (units**2 - true @ true) * (units**2 - told @ told)
    return float(right * units - true @ told) / math.sqrt(scale) if scale > 0 else 0.0


def calibration_error(confidence: Array, correct: Array, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error: |accuracy - confidence| over equal bins, weighted by size."""
    sure = np.asarray(confidence, np.float64)
    right = np.asarray(correct, np.float64)
    place = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=right - sure, minlength=bins)
    return float(np.abs(gaps).sum() / len(sure))


def multi_label(scores: Mapping[str, Array], threshold: float) -> dict[str, float]:
    """F1 over all decisions and over labels, mean average precision, rows all right, loss."""
    from sklearn.metrics import average_precision_score, f1_score

    truth = np.asarray(scores["labels"], np.int64)
    probabilities = np.asarray(scores["probabilities"], np.float64)
    predicted = (probabilities >= threshold).astype(np.int64)
    loss = mean(scores["loss"])
    # Precision over a ranking needs a row that has the label; labels without one are left out.
    ranked = [
        float(average_precision_score(truth[:, label], probabilities[:, label]))
        for label in range(truth.shape[1])
        if truth[:, label].any()
    ]
    return {
        "f1_micro": _f1(f1_score, truth, predicted, "micro"),
        "f1_macro": _f1(f1_score, truth, predicted, "macro"),
        "map": float(np.mean(ranked)) if ranked else 0.0,
        "exact_match": mean((truth == predicted).all(axis=1)),
        "loss": loss,
    }


def _f1(f1_score: object, truth: Array, predicted: Array, average: str) -> float:
    assert callable(f1_score)
    if truth.shape[1] == 1:
        # One column is read as a binary problem, whose average would count "absent" too.
        truth, predicted, average = truth[:, 0], predicted[:, 0], "binary"
    return float(f1_score(truth, predicted, average=average, zero_division=0.0))


def regression(scores: Mapping[str, Array]) -> dict[str, float]:
    """Root mean squared and mean absolute error, rank and linear correlation, loss."""
    truth = np.asarray(scores["label"], np.float64)
    predicted = np.asarray(scores["predicted"], np.float64)
    squared = mean((truth - predicted) ** 2)
    return {
        "rmse": math.sqrt(squared),
        "mae": mean(np.abs(truth - predicted)),
        "spearman": _correlation(_ranks(truth), _ranks(predicted)),
        "pearson": _correlation(truth, predicted),
        "loss": mean(scores["loss"]),
    }


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), np.float64)


def _correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Pearson's correlation; 0 where one side is constant, which correlates with nothing."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    a, b = first - first.mean(), second - second.mean()
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def language_model(scores: Mapping[str, Array]) -> dict[str, float]:
    """Loss per supervised token, its exponential, and the share of tokens ranked first."""
    tokens = int(np.sum(scores["tokens"], dtype=np.int64))
    if tokens == 0:
        raise ValueError("there are no supervised tokens to compute metrics of")
    loss = float(np.sum(scores["loss"], dtype=np.float64)) / tokens
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, _LARGEST_EXPONENT)),
        "token_accuracy": int(np.sum(scores["correct"], dtype=np.int64)) / tokens,
    }
