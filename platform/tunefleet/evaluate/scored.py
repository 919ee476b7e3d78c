"""What the scores of a split show, for each kind of task.

The kind follows from the scores' names (the task contract), so a new task with scores of a
known kind gets its report without a change here; any other gets the general part. Imports
numpy, ``api``, ``data`` and ``tasks.contract``.
"""

from __future__ import annotations

import numpy as np

from tunefleet.api.job import FineTuneJob
from tunefleet.data.tokens import Rows
from tunefleet.evaluate.content import Bin, Kind, ScatterContent, Scored, Slice
from tunefleet.evaluate.labels import (
    calibration_of,
    classification,
    confusion_content,
    multi_label_classification,
    share_bins,
)
from tunefleet.evaluate.measures import Floats, Ints, edges, expected_calibration_error
from tunefleet.evaluate.samples import MOST_SAMPLES, Verdict, in_unit_order, pick, text_lengths
from tunefleet.plan.facts import Facts
from tunefleet.tasks.contract import Scores

__all__ = ["describe", "in_unit_order", "kind_of"]

_MOST_POINTS = 1000
_BINS = 24


def kind_of(scores: Scores) -> Kind:
    """Which kind of task these scores belong to."""
    names = set(scores)
    if {"label", "predicted", "confidence"} <= names:
        return "single-label"
    if {"labels", "probabilities"} <= names:
        return "multi-label"
    if {"label", "predicted"} <= names:
        return "regression"
    return "language-model" if {"tokens", "correct"} <= names else "other"


def describe(kind: Kind, job: FineTuneJob, facts: Facts, scores: Scores, rows: Rows) -> Scored:
    """Everything the report says about the scores of one split."""
    ordered = in_unit_order(scores, rows)
    if kind == "single-label":
        return _single_label(scores, ordered, facts.data.labels)
    if kind == "multi-label":
        threshold = float(getattr(job.spec.options, "threshold", 0.5))
        return _multi_label(scores, ordered, facts.data.labels, threshold)
    if kind == "regression":
        return _regression(scores, ordered)
    return _by_loss(kind, scores, ordered)


def _single_label(scores: Scores, rows: Rows | None, labels: list[str]) -> Scored:
    true, guess = _ints(scores["label"]), _ints(scores["predicted"])
    confidence = _floats(scores["confidence"])
    right = true == guess
    wrong = np.flatnonzero(~right)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_SAMPLES]
    verdicts = [
        Verdict(labels[true[i]], labels[guess[i]], float(confidence[i]), _number(scores["loss"][i]))
        for i in worst
    ]
    return Scored(
        kind="single-label",
        units=len(true),
        mistakes=len(wrong),
        classification=classification(true, guess, labels),
        confusion=confusion_content(true, guess, labels),
        reliability=calibration_of(confidence, right),
        ece=expected_calibration_error(confidence, right),
        histogram=share_bins(confidence, right, low=1 / max(len(labels), 1)),
        slices=_slices(_lengths(rows), right.astype(np.float64), np.ones(len(true))),
        slice_by="accuracy by length of the text, in characters",
        samples=pick(rows, worst, verdicts),
    )


def _multi_label(scores: Scores, rows: Rows | None, labels: list[str], threshold: float) -> Scored:
    true = np.asarray(scores["labels"], dtype=np.int64) > 0
    probabilities = _floats(scores["probabilities"])
    guess = probabilities >= threshold
    right = (true == guess).all(axis=1)
    loss = _floats(scores["loss"])
    wrong = np.flatnonzero(~right)
    worst = wrong[np.argsort(-loss[wrong], kind="stable")][:MOST_SAMPLES]

    def names(row: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
        return ", ".join(labels[i] for i in np.flatnonzero(row)) or "(none)"

    verdicts = [Verdict(names(true[i]), names(guess[i]), None, _number(loss[i])) for i in worst]
    flat, happened = probabilities.ravel(), true.ravel()
    return Scored(
        kind="multi-label",
        units=len(true),
        mistakes=len(wrong),
        classification=multi_label_classification(true, guess, probabilities, labels),
        reliability=calibration_of(flat, happened),
        ece=expected_calibration_error(flat, happened),
        histogram=share_bins(flat, happened, low=0.0),
        slices=_slices(true.sum(axis=1), right.astype(np.float64), np.ones(len(true))),
        slice_by="rows with every label right, by number of true labels",
        samples=pick(rows, worst, verdicts),
        threshold=threshold,
    )


def _regression(scores: Scores, rows: Rows | None) -> Scored:
    true, guess = _floats(scores["label"]), _floats(scores["predicted"])
    residual = guess - true
    worst = np.argsort(-abs(residual), kind="stable")[:MOST_SAMPLES]
    verdicts = [
        Verdict(f"{true[i]:.4g}", f"{guess[i]:.4g}", None, float(residual[i])) for i in worst
    ]
    shown = np.arange(min(len(true), _MOST_POINTS)) * len(true) // min(len(true), _MOST_POINTS)
    return Scored(
        kind="regression",
        units=len(true),
        scatter=ScatterContent(
            points=[[float(true[i]), float(guess[i])] for i in shown],
            sampled_from=len(true),
            bias=float(residual.mean()),
            residuals=_histogram(residual),
        ),
        slices=_slices(_lengths(rows), abs(residual), np.ones(len(true))),
        slice_by="mean absolute error by length of the text, in characters",
        samples=pick(rows, worst, verdicts),
    )


def _by_loss(kind: Kind, scores: Scores, rows: Rows | None) -> Scored:
    """A language model (loss per supervised token), or a task of no known kind."""
    loss = _floats(scores["loss"])
    tokens = _floats(scores.get("tokens", np.ones(len(loss))))
    mean = loss / np.maximum(tokens, 1)
    supervised = np.flatnonzero(tokens > 0)
    worst = supervised[np.argsort(-mean[supervised], kind="stable")][:MOST_SAMPLES]
    counted = kind == "language-model"
    verdicts = [
        Verdict(loss=_number(mean[i]), tokens=int(tokens[i]) if counted else None) for i in worst
    ]
    return Scored(
        kind=kind,
        units=len(loss),
        histogram=_histogram(mean[supervised]),
        slices=_slices(tokens.astype(np.int64), loss, tokens) if counted else [],
        slice_by="mean loss per token by number of supervised tokens" if counted else "",
        samples=pick(rows, worst, verdicts),
    )


def _lengths(rows: Rows | None) -> Ints:
    return text_lengths(rows) if rows is not None else np.zeros(0, np.int64)


def _slices(sizes: Ints, values: Floats, weights: Floats) -> list[Slice]:
    """Weighted means over parts of about equal numbers of units, cut by size."""
    if len(sizes) < 20 or len(sizes) != len(values):
        return []
    cuts = np.unique(np.quantile(sizes, [0, 0.2, 0.4, 0.6, 0.8, 1], method="lower"))
    parts = np.searchsorted(cuts[1:], sizes, side="left")
    found = []
    for part in range(len(cuts) - 1 or 1):
        inside = np.flatnonzero(parts == part)
        total = float(weights[inside].sum())
        if not len(inside) or total == 0:
            continue
        low, high = int(sizes[inside].min()), int(sizes[inside].max())
        value = float(values[inside].sum() / total)
        name = f"{low:,}" if low == high else f"{low:,}–{high:,}"
        if np.isfinite(value):
            found.append(Slice(name=name, count=len(inside), value=value))
    return found


def _histogram(values: Floats) -> list[Bin]:
    """A histogram over the middle 99 % of the values; the outermost bins hold the rest too."""
    values = values[np.isfinite(values)]
    if not len(values):
        return []
    low, high = np.quantile(values, [0.005, 0.995])
    cuts = edges(float(low), float(high), _BINS)
    counts, _ = np.histogram(np.clip(values, cuts[0], cuts[-1]), cuts)
    return [
        Bin(low=float(cuts[i]), high=float(cuts[i + 1]), count=int(count))
        for i, count in enumerate(counts)
    ]


def _number(value: object) -> float | None:
    number = float(np.float64(value))  # type: ignore[arg-type]
    return number if np.isfinite(number) else None


def _floats(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _ints(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Ints:
    return np.asarray(values, dtype=np.int64)
