"""How sure a metric is: seeded bootstrap intervals (percentile, 95 %).

Decides nothing about a metric's definition: a metric that can be written as a function of
sums over units is resampled through those sums, and the interval is given only when the
function reproduces the reported value. Units are drawn with replacement (Efron 1979); a
paired interval draws the same units for both models. Imports numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunefleet.evaluate.measures import ECE_BINS, Floats, Ints, bin_of, correlation, f1_of, quotient

_WORK = 20_000_000
_FEWEST, _MOST = 200, 1000
_FEWEST_UNITS = 10

Sums = npt.NDArray[np.float64]
Scores = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Interval:
    """The metric on all units, and the middle 95 % of its values over resampled units."""

    value: float
    low: float
    high: float


def interval(
    scores: Scores, metric: str, *, seed: int, classes: int = 0, threshold: float = 0.5
) -> Interval | None:
    """The interval of a metric, or None where its definition is unknown or units are few."""
    units = len(scores["loss"])
    if units < _FEWEST_UNITS:
        return None
    if "confidence" in scores and metric in _BY_CELL:
        label, predicted = _ints(scores["label"]), _ints(scores["predicted"])
        return _by_cell(label, (predicted,), classes, metric, seed)
    found = _resampled(scores, metric, seed, threshold)
    return _percentiles(*found) if found else None


def difference(
    first: Scores,
    second: Scores,
    metric: str,
    *,
    seed: int,
    classes: int = 0,
    threshold: float = 0.5,
) -> Interval | None:
    """The interval of ``metric(first) - metric(second)`` for two models on the same units.

    Both see the same resampled units, so what is hard for both cancels out. None where the
    units (or their true labels) are not the same.
    """
    one, two = _in_order(first), _in_order(second)
    for name in ("ids", "label", "labels", "tokens"):
        if (name in one) != (name in two):
            return None
        if name in one and not np.array_equal(one[name], two[name]):
            return None
    if len(one["loss"]) < _FEWEST_UNITS:
        return None
    if "confidence" in one and metric in _BY_CELL:
        guesses = (_ints(one["predicted"]), _ints(two["predicted"]))
        return _by_cell(_ints(one["label"]), guesses, classes, metric, seed)
    parts = [_resampled(scores, metric, seed, threshold) for scores in (one, two)]
    if parts[0] is None or parts[1] is None:
        return None
    return _percentiles(parts[0][0] - parts[1][0], parts[0][1] - parts[1][1])


def _in_order(scores: Scores) -> Scores:
    order = np.argsort(scores["ids"], kind="stable")
    return {name: values[order] for name, values in scores.items()}


def _resampled(
    scores: Scores, metric: str, seed: int, threshold: float
) -> tuple[float, Floats] | None:
    """A metric on all units and on resampled ones; the draws depend on seed and size alone."""
    if metric == "map" and "probabilities" in scores:
        return _mean_average_precision(scores, seed)
    found = _statistics(scores, metric, threshold)
    if found is None:
        return None
    per_unit, function = found
    if not np.isfinite(per_unit).all():
        return None
    units, columns = per_unit.shape
    sums = np.empty((_draws(units * columns), columns))
    random = np.random.default_rng([seed, 95])
    for draw in range(len(sums)):
        sums[draw] = np.bincount(random.integers(0, units, units), minlength=units) @ per_unit
    return float(function(per_unit.sum(axis=0)[None])[0]), function(sums)


def paired(
    label: Ints, first: Ints, second: Ints, metric: str, *, seed: int, classes: int
) -> Interval | None:
    """The interval of ``metric(first) - metric(second)`` over the same resampled units."""
    if metric not in _BY_CELL or len(label) < _FEWEST_UNITS:
        return None
    return _by_cell(label, (first, second), classes, metric, seed)


def _draws(work: int) -> int:
    return int(np.clip(_WORK // max(work, 1), _FEWEST, _MOST))


def _percentiles(value: float, values: Floats) -> Interval | None:
    values = values[np.isfinite(values)]
    if not len(values) or not np.isfinite(value):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))


# -- one label per unit: resample the cells of the confusion matrix ------------------------


def _by_cell(
    label: Ints, predictions: tuple[Ints, ...], classes: int, metric: str, seed: int
) -> Interval | None:
    """Units of one cell are alike, so their resampled numbers are one multinomial draw."""
    function = _BY_CELL[metric]
    stacked = np.stack([label, *predictions])
    classes = max(classes, int(stacked.max()) + 1)
    cells, counts = np.unique(stacked, axis=1, return_counts=True)
    units = len(label)
    random = np.random.default_rng([seed, 95])
    drawn = random.multinomial(units, counts / units, size=_draws(len(counts) + 3 * classes))

    def value(numbers: npt.NDArray[np.int64]) -> Floats:
        parts = [_tallied(function, numbers, cells[0], one, classes) for one in cells[1:]]
        return parts[0] - parts[1] if len(parts) == 2 else parts[0]

    return _percentiles(value(counts[None])[0], value(drawn))


_Tally = Callable[[Floats, Floats, Floats], Floats]


def _tallied(
    function: _Tally, numbers: npt.NDArray[np.int64], true: Ints, guess: Ints, classes: int
) -> Floats:
    hits, actual, predicted = (np.zeros((classes, len(numbers))) for _ in range(3))
    weights = numbers.T.astype(np.float64)
    np.add.at(actual, true, weights)
    np.add.at(predicted, guess, weights)
    right = true == guess
    np.add.at(hits, true[right], weights[right])
    return function(hits.T, actual.T, predicted.T)


def _accuracy(hits: Floats, actual: Floats, predicted: Floats) -> Floats:
    return np.asarray(hits.sum(axis=1) / actual.sum(axis=1))


def _f1_macro(hits: Floats, actual: Floats, predicted: Floats) -> Floats:
    return np.asarray(f1_of(hits, actual, predicted).mean(axis=1))


def _mcc(hits: Floats, actual: Floats, predicted: Floats) -> Floats:
    units, right = actual.sum(axis=1), hits.sum(axis=1)
    covariance = right * units - (actual * predicted).sum(axis=1)
    spread = (units**2 - (predicted**2).sum(axis=1)) * (units**2 - (actual**2).sum(axis=1))
    return quotient(covariance, np.sqrt(np.maximum(spread, 0)))


_BY_CELL: dict[str, _Tally] = {"accuracy": _accuracy, "f1_macro": _f1_macro, "mcc": _mcc}


# -- everything else that is a function of sums over units ---------------------------------

_Function = Callable[[Sums], Floats]


def _ratio(sums: Sums) -> Floats:
    return np.asarray(sums[:, 0] / sums[:, 1])


def _statistics(scores: Scores, metric: str, threshold: float) -> tuple[Sums, _Function] | None:
    loss = _floats(scores["loss"])
    ones = np.ones(len(loss))
    if metric == "ece" and "confidence" in scores:
        return _calibration(scores)
    if "probabilities" in scores and metric in {"f1_micro", "f1_macro", "exact_match"}:
        return _multi_label(scores, metric, threshold)
    if "tokens" in scores:
        tokens = _floats(scores["tokens"])
        if metric in {"loss", "perplexity"}:
            outer = np.exp if metric == "perplexity" else np.asarray
            return np.stack([loss, tokens], 1), lambda sums: np.asarray(outer(_ratio(sums)))
        if metric == "token_accuracy":
            return np.stack([_floats(scores["correct"]), tokens], 1), _ratio
    elif "label" in scores and "confidence" not in scores:
        return _regression(scores, metric)
    return (np.stack([loss, ones], 1), _ratio) if metric == "loss" else None


def _regression(scores: Scores, metric: str) -> tuple[Sums, _Function] | None:
    true, guess = _floats(scores["label"]), _floats(scores["predicted"])
    ones, error = np.ones(len(true)), guess - true
    if metric in {"rmse", "loss"}:
        outer = np.sqrt if metric == "rmse" else np.asarray
        return np.stack([error**2, ones], 1), lambda sums: np.asarray(outer(_ratio(sums)))
    if metric == "mae":
        return np.stack([abs(error), ones], 1), _ratio
    if metric in {"pearson", "spearman"}:
        if metric == "spearman":
            true, guess = _ranks(true), _ranks(guess)
        true, guess = true - true.mean(), guess - guess.mean()
        parts = [ones, true, guess, true**2, guess**2, true * guess]
        return np.stack(parts, 1), correlation
    return None


def _multi_label(scores: Scores, metric: str, threshold: float) -> tuple[Sums, _Function]:
    true = _floats(scores["labels"]) > 0.5
    guess = _floats(scores["probabilities"]) >= threshold
    labels = true.shape[1]
    if metric == "exact_match":
        right = (true == guess).all(axis=1).astype(np.float64)
        return np.stack([right, np.ones(len(right))], 1), _ratio
    parts = [true & guess, true, guess]
    if metric == "f1_micro":
        parts = [part.sum(axis=1, keepdims=True) for part in parts]
        labels = 1
    per_unit = np.concatenate(parts, axis=1).astype(np.float64)

    def f1(sums: Sums) -> Floats:
        hits, actual, predicted = (sums[:, i * labels : (i + 1) * labels] for i in range(3))
        return np.asarray(f1_of(hits, actual, predicted).mean(axis=1))

    return per_unit, f1


def _calibration(scores: Scores) -> tuple[Sums, _Function]:
    confidence = _floats(scores["confidence"])
    right = _ints(scores["label"]) == _ints(scores["predicted"])
    per_unit = np.zeros((len(confidence), ECE_BINS + 1))
    per_unit[np.arange(len(confidence)), bin_of(confidence)] = right - confidence
    per_unit[:, ECE_BINS] = 1
    return per_unit, lambda sums: np.asarray(
        abs(sums[:, :ECE_BINS]).sum(axis=1) / sums[:, ECE_BINS]
    )


def _mean_average_precision(scores: Scores, seed: int) -> tuple[float, Floats] | None:
    true = _floats(scores["labels"]) > 0.5
    guess = _floats(scores["probabilities"])
    true, guess = true[:, true.any(axis=0)], guess[:, true.any(axis=0)]
    if not true.shape[1]:
        return None
    order = np.argsort(-guess, axis=0, kind="stable")
    ranked = np.take_along_axis(true, order, 0)
    level = np.take_along_axis(guess, order, 0)
    # Units of one score enter together: all of them see the precision at the last of them.
    units, labels = level.shape
    last = np.empty((units, labels), np.int64)
    for column in range(labels):
        last[:, column] = np.searchsorted(-level[:, column], -level[:, column], "right") - 1

    def value(counts: Floats) -> float:
        weights = counts[order]
        hits = weights * ranked
        everything = np.maximum(np.cumsum(weights, axis=0), 1e-12)
        precision = np.take_along_axis(np.cumsum(hits, axis=0) / everything, last, 0)
        positives = hits.sum(axis=0)
        kept = positives > 0
        if not kept.any():
            return float("nan")
        return float(((hits * precision).sum(axis=0)[kept] / positives[kept]).mean())

    random = np.random.default_rng([seed, 95])
    draws = _draws(4 * units * labels)
    values = [
        value(np.bincount(random.integers(0, units, units), minlength=units).astype(np.float64))
        for _ in range(draws)
    ]
    return value(np.ones(units)), np.asarray(values)


def _ranks(values: Floats) -> Floats:
    """Average ranks, as Spearman's correlation takes them."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], dtype=np.float64)


def _floats(values: npt.NDArray[np.generic]) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _ints(values: npt.NDArray[np.generic]) -> Ints:
    return np.asarray(values, dtype=np.int64)
