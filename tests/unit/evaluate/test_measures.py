from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tunefleet.evaluate.labels import calibration_of, confusion_content, share_bins
from tunefleet.evaluate.measures import (
    classification_metrics,
    edges,
    expected_calibration_error,
)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 6), st.integers(1, 120), st.integers(0, 2**16))
def test_the_metrics_of_a_classification_are_scikit_learns(
    classes: int, count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.ones(classes), count)
    label = random.integers(0, classes, count)
    guess = shares.argmax(axis=1)
    found = classification_metrics(label, shares)
    every = {"labels": range(classes), "average": "macro", "zero_division": 0}
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(label, guess))
    assert found["f1_macro"] == pytest.approx(sk.f1_score(label, guess, **every))
    assert found["loss"] == pytest.approx(sk.log_loss(label, shares, labels=range(classes)))
    if len(np.unique(np.concatenate([label, guess]))) > 1:
        assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(label, guess), abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_the_calibration_error_is_the_weighted_gap_over_fifteen_bins(
    given_rows: list[tuple[float, bool]],
) -> None:
    confidence = np.array([row[0] for row in given_rows])
    right = np.array([row[1] for row in given_rows])
    total = 0.0
    for i in range(15):
        low, high = i / 15, (i + 1) / 15
        inside = (confidence > low) & (confidence <= high)
        if i == 0:
            inside |= confidence <= 0
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, right) == pytest.approx(total, abs=0.02)
    bins = calibration_of(confidence, right)
    assert sum(item.count for item in bins) == len(confidence)
    assert sum(item.marked for item in bins) == right.sum()


@settings(deadline=None)
@given(
    st.floats(-1e6, 1e6),
    st.floats(0, 1e6),
    st.integers(1, 40),
)
def test_bin_edges_cover_the_values_with_round_steps(low: float, width: float, bins: int) -> None:
    cuts = edges(low, low + width, bins)
    assert cuts[0] <= low + 1e-6
    assert cuts[-1] >= low + width - 1e-6
    assert 1 <= len(cuts) - 1 <= 2 * bins + 2
    assert (np.diff(cuts) > 0).all()


def test_a_histogram_of_probabilities_counts_every_value_once() -> None:
    values = np.array([0.0, 0.05, 0.5, 0.999, 1.0])
    marked = np.array([True, False, True, True, False])
    bins = share_bins(values, marked, low=0.0)
    assert (sum(b.count for b in bins), sum(b.marked for b in bins)) == (5, 3)
    assert bins[-1].count == 2


def test_many_classes_are_gathered_and_no_row_is_lost() -> None:
    random = np.random.default_rng(1)
    label = random.integers(0, 60, 900)
    guess = np.where(random.random(900) < 0.7, label, random.integers(0, 60, 900))
    names = [f"class {i}" for i in range(60)]
    found = confusion_content(label, guess, names)
    assert sum(map(sum, found.counts)) == 900
    assert found.labels[-1] == "45 other classes"
    assert found.gathered == 45
    worst = found.pairs[0]
    true, predicted = names.index(worst.true), names.index(worst.predicted)
    assert worst.count == int(((label == true) & (guess == predicted)).sum())
    assert worst.of == int((label == true).sum())
