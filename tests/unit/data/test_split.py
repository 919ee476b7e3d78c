"""Held-out rows: a partition, stratified, grouped, and the same at every call."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunefleet.data.split import TEST, VALIDATION, held_out, quota

fractions = st.floats(0.02, 0.9)
label_lists = st.lists(st.integers(0, 5), min_size=2, max_size=200)

calm = settings(deadline=None, max_examples=60)


@calm
@given(label_lists, fractions, st.integers(0, 2**32 - 1))
def test_a_label_is_held_out_within_one_row_of_its_share(
    labels: list[int], fraction: float, seed: int
) -> None:
    rows = np.arange(len(labels), dtype=np.int64)
    count = min(quota(len(labels), fraction), len(labels) - 1)
    held = held_out(rows, count, seed=seed, purpose=VALIDATION, labels=labels)
    assert len(set(held.tolist())) == len(held) <= count
    taken = Counter(labels[i] for i in held)
    share = count / len(labels)
    for label, size in Counter(labels).items():
        assert taken[label] < size, "a label keeps a training row"
        assert abs(taken[label] - min(size * share, size - 1)) < 1


@calm
@given(st.lists(st.integers(0, 9), min_size=2, max_size=200), fractions, st.integers(0, 999))
def test_a_group_is_never_split(groups: list[int], fraction: float, seed: int) -> None:
    rows = np.arange(len(groups), dtype=np.int64)
    count = min(quota(len(groups), fraction), len(groups) - 1)
    held = set(held_out(rows, count, seed=seed, purpose=TEST, groups=groups).tolist())
    out = {groups[i] for i in held}
    left = {groups[i] for i in range(len(groups)) if i not in held}
    assert not out & left
    if len(set(groups)) > 1:
        assert out
        assert left


@calm
@given(st.integers(2, 300), fractions, st.integers(0, 999))
def test_rows_without_labels_are_held_out_exactly(rows: int, fraction: float, seed: int) -> None:
    count = min(quota(rows, fraction), rows - 1)
    held = held_out(np.arange(rows, dtype=np.int64), count, seed=seed, purpose=TEST)
    assert len(set(held.tolist())) == count
    assert held.tolist() == sorted(held.tolist())


def test_only_available_rows_are_taken() -> None:
    left = np.array([3, 5, 8, 13, 21], np.int64)
    held = held_out(left, 2, seed=1, purpose=VALIDATION)
    assert set(held.tolist()) < set(left.tolist())


def test_purposes_and_seeds_draw_differently() -> None:
    rows = np.arange(1000, dtype=np.int64)
    drawn = {
        held_out(rows, 10, seed=seed, purpose=purpose).tobytes()
        for seed in (1, 2)
        for purpose in (VALIDATION, TEST)
    }
    assert len(drawn) == 4


def test_a_split_never_changes_silently() -> None:
    rows = np.arange(500, dtype=np.int64)
    labels = [i % 7 % 3 for i in range(500)]
    groups = [f"customer {i % 41}" for i in range(500)]
    digest = hashlib.sha256()
    for held in (
        held_out(rows, 50, seed=17, purpose=TEST),
        held_out(rows, 50, seed=17, purpose=VALIDATION, labels=labels),
        held_out(rows, 50, seed=17, purpose=VALIDATION, groups=groups),
    ):
        digest.update(held.astype("<i8").tobytes())
    assert digest.hexdigest() == "745f2a49ed98c4a868eb0bd9ec3869375eee06fe599cb5d093239a695dc38537"


@pytest.mark.parametrize(
    ("rows", "fraction", "count"),
    [
        pytest.param(100, 0.1, 10, id="a tenth of a hundred"),
        pytest.param(15, 0.1, 2, id="half a row is rounded up"),
        pytest.param(3, 0.1, 1, id="never less than one row"),
    ],
)
def test_quota(rows: int, fraction: float, count: int) -> None:
    assert quota(rows, fraction) == count
