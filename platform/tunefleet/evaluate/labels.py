"""Label tasks in numbers: classification report, confusion matrix, calibration.

Decides how many classes are drawn and what happens to the rest. The report itself is
scikit-learn's, over the full list of labels, so that unseen ones stay visible. Imports
numpy; scikit-learn inside the functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tunefleet.evaluate.content import (
    Bin,
    ClassificationContent,
    ClassRow,
    ConfusedPair,
    ConfusionContent,
)
from tunefleet.evaluate.measures import ECE_BINS, Floats, Ints, bin_of, confusion

MOST_CLASSES = 16
_MOST_PAIRS = 12

Truths = npt.NDArray[np.bool_]


def classification(true: Ints, guess: Ints, labels: list[str]) -> ClassificationContent:
    """The classification report of one label per unit."""
    from sklearn.metrics import classification_report

    given = {
        "labels": list(range(len(labels))),
        "target_names": labels,
        "zero_division": 0,
    }
    numbers: dict[str, Any] = classification_report(
        true, guess, output_dict=True, **{**given, "target_names": _keys(labels)}
    )
    averages = ("macro avg", "weighted avg")
    return ClassificationContent(
        classes=[_row(labels[i], numbers[key]) for i, key in enumerate(_keys(labels))],
        accuracy=float((true == guess).mean()),
        averages=[_row(name, numbers[name]) for name in averages],
        text=str(classification_report(true, guess, **given)),
    )


def multi_label_classification(
    true: Truths, guess: Truths, probabilities: Floats, labels: list[str]
) -> ClassificationContent:
    """The classification report of several labels per unit, with average precision."""
    from sklearn.metrics import average_precision_score, classification_report

    numbers: dict[str, Any] = classification_report(
        true, guess, target_names=_keys(labels), zero_division=0, output_dict=True
    )
    rows = []
    for i, key in enumerate(_keys(labels)):
        column = true[:, i]
        precision = (
            float(average_precision_score(column, probabilities[:, i])) if column.any() else None
        )
        rows.append(_row(labels[i], numbers[key], precision))
    averages = ("micro avg", "macro avg", "weighted avg", "samples avg")
    return ClassificationContent(
        classes=rows,
        accuracy=None,
        averages=[_row(name, numbers[name]) for name in averages],
        text=str(classification_report(true, guess, target_names=labels, zero_division=0)),
    )


def _keys(labels: list[str]) -> list[str]:
    # A label may be called "accuracy" or "macro avg"; numbers cannot be mixed up.
    return [f"\0{i}" for i in range(len(labels))]


def _row(name: str, numbers: dict[str, Any], average_precision: float | None = None) -> ClassRow:
    return ClassRow(
        name=name,
        precision=float(numbers["precision"]),
        recall=float(numbers["recall"]),
        f1=float(numbers["f1-score"]),
        support=int(numbers["support"]),
        average_precision=average_precision,
    )


def confusion_content(true: Ints, guess: Ints, labels: list[str]) -> ConfusionContent:
    """The confusion matrix; with many classes those with the most mistakes, and the rest."""
    cells = confusion(true, guess, len(labels))
    wrong = cells.copy()
    np.fill_diagonal(wrong, 0)
    if len(labels) <= MOST_CLASSES:
        shown, gathered, counts = list(labels), 0, cells
    else:
        involved = wrong.sum(axis=0) + wrong.sum(axis=1)
        kept = np.sort(np.argsort(-involved, kind="stable")[: MOST_CLASSES - 1])
        place = np.full(len(labels), MOST_CLASSES - 1)
        place[kept] = np.arange(MOST_CLASSES - 1)
        counts = np.zeros((MOST_CLASSES, MOST_CLASSES), np.int64)
        np.add.at(counts, (place[:, None], place[None, :]), cells)
        gathered = len(labels) - len(kept)
        shown = [labels[i] for i in kept] + [f"{gathered} other classes"]
    return ConfusionContent(
        labels=shown,
        counts=[[int(count) for count in row] for row in counts],
        gathered=gathered,
        pairs=_pairs(cells, wrong, labels),
    )


def _pairs(cells: Ints, wrong: Ints, labels: list[str]) -> list[ConfusedPair]:
    order = np.argsort(-wrong.ravel(), kind="stable")[:_MOST_PAIRS]
    found = []
    for position in order.tolist():
        true, guess = divmod(position, len(labels))
        if wrong[true, guess]:
            found.append(
                ConfusedPair(
                    true=labels[true],
                    predicted=labels[guess],
                    count=int(wrong[true, guess]),
                    of=int(cells[true].sum()),
                )
            )
    return found


def calibration_of(confidence: Floats, happened: Truths) -> list[Bin]:
    """The reliability diagram's bins: mean confidence against how often it came true."""
    bins = bin_of(confidence)
    counts = np.bincount(bins, minlength=ECE_BINS)
    sums = np.bincount(bins, weights=confidence, minlength=ECE_BINS)
    right = np.bincount(bins, weights=happened.astype(np.float64), minlength=ECE_BINS)
    return [
        Bin(
            low=i / ECE_BINS,
            high=(i + 1) / ECE_BINS,
            count=int(counts[i]),
            marked=round(right[i]),
            mean=float(sums[i] / counts[i]) if counts[i] else None,
            rate=float(right[i] / counts[i]) if counts[i] else None,
        )
        for i in range(ECE_BINS)
    ]


def share_bins(values: Floats, marked: Truths, *, low: float) -> list[Bin]:
    """A histogram of probabilities from ``low`` to 1 in steps of 0.05."""
    first = int(np.floor(low * 20 + 1e-9))
    places = np.clip(np.floor(values * 20).astype(np.int64), first, 19)
    counts = np.bincount(places, minlength=20)
    hits = np.bincount(places[marked], minlength=20)
    return [
        Bin(low=i / 20, high=(i + 1) / 20, count=int(counts[i]), marked=int(hits[i]))
        for i in range(first, 20)
    ]
