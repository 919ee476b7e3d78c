"""What a constant answer reaches: the floor under every metric.

Decides the constant from the training rows alone (the commonest class, the usual labels, the
mean) and judges it on the split that is looked at. Imports numpy, ``api``, ``data``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tunefleet.data.tokens import Rows
from tunefleet.evaluate.measures import confusion, f1_of, matthews
from tunefleet.plan.facts import Facts
from tunefleet.tasks.contract import Scores


@dataclass(frozen=True, slots=True)
class Chance:
    """The constant's metrics and the constant in words."""

    metrics: dict[str, float] = field(default_factory=dict)
    note: str = ""


def chance(kind: str, scores: Scores, facts: Facts, rows: Callable[[str], Rows]) -> Chance:
    """The chance level of a kind of task on these scores."""
    labels = facts.data.labels
    if kind == "single-label" and labels:
        return _majority(scores, facts, labels)
    if kind == "multi-label" and labels:
        return _usual_labels(scores, facts, labels)
    if kind == "regression":
        return _mean(scores, np.asarray(rows("train").columns["label"], dtype=np.float64))
    if kind == "language-model":
        size = facts.model.vocab_size
        note = f"every one of the {size:,} tokens held equally likely"
        return Chance({"loss": float(np.log(size)), "perplexity": float(size)}, note)
    return Chance()


def _majority(scores: Scores, facts: Facts, labels: list[str]) -> Chance:
    counts = [facts.data.train.classes.get(label, 0) for label in labels]
    commonest = int(np.argmax(counts))
    true = np.asarray(scores["label"], dtype=np.int64)
    cells = confusion(true, np.full_like(true, commonest), max(len(labels), int(true.max()) + 1))
    actual, guessed, hits = cells.sum(axis=1), cells.sum(axis=0), np.diag(cells)
    f1 = f1_of(*(part.astype(np.float64) for part in (hits, actual, guessed)))
    metrics = {
        "accuracy": float(hits.sum() / len(true)),
        "f1_macro": float(f1.mean()),
        "mcc": matthews(hits, actual, guessed),
    }
    note = f"always answering “{labels[commonest]}”, the commonest class of the training rows"
    return Chance(metrics, note)


def _usual_labels(scores: Scores, facts: Facts, labels: list[str]) -> Chance:
    counts = np.array([facts.data.train.classes.get(label, 0) for label in labels])
    usual = counts * 2 > facts.data.train.rows
    if not usual.any():
        usual[int(counts.argmax())] = True
    true = np.asarray(scores["labels"], dtype=np.int64) > 0
    guess = np.broadcast_to(usual, true.shape)
    parts = [part.sum(axis=0).astype(np.float64) for part in (true & guess, true, guess)]
    metrics = {
        "f1_macro": float(f1_of(*parts).mean()),
        "f1_micro": float(f1_of(*(part.sum(keepdims=True) for part in parts))[0]),
        "exact_match": float((true == guess).all(axis=1).mean()),
    }
    named = ", ".join(f"“{labels[i]}”" for i in np.flatnonzero(usual)[:5])
    return Chance(metrics, f"always answering {named}, the usual labels of the training rows")


def _mean(scores: Scores, train: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Chance:
    true = np.asarray(scores["label"], dtype=np.float64)
    error = true - train.mean()
    squared = float((error**2).mean())
    metrics = {"rmse": squared**0.5, "mae": float(abs(error).mean()), "loss": squared}
    return Chance(metrics, f"always answering {train.mean():.4g}, the mean of the training rows")
