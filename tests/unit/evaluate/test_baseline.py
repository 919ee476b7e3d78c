from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.unit.evaluate.synthetic import rows_of
from tunefleet.api.tasks import declaration_of
from tunefleet.data.tokens import Rows
from tunefleet.evaluate import baseline

LABELS = ["negative", "positive"]


def rows(texts: Sequence[str], labels: Sequence[int], pairs: Sequence[str] | None = None) -> Rows:
    columns: dict[str, Sequence[object]] = {"text": texts, "label": labels}
    if pairs is not None:
        columns["textPair"] = pairs
    return Rows(columns=columns, ids=np.arange(len(texts), dtype=np.int64))


def test_it_reports_the_tasks_metrics_and_learns_from_words() -> None:
    train = rows_of("single-label", 600, 0, LABELS, 1)
    test = rows_of("single-label", 300, 600, LABELS, 2)
    found = baseline.fit(train, test, LABELS)
    task = declaration_of("text-classification")
    assert found is not None
    assert set(found.metrics) == {metric.name for metric in task.metrics(task.options())}
    assert 0.75 < found.metrics["accuracy"] < 0.95


def test_the_same_rows_give_the_same_numbers_and_predictions_that_explain_them() -> None:
    train = rows_of("single-label", 200, 0, LABELS, 1)
    test = rows_of("single-label", 100, 200, LABELS, 2)
    one, two = (baseline.fit(train, test, LABELS) for _ in range(2))
    assert one is not None
    assert two is not None
    assert one.metrics == two.metrics
    expected = f1_score(test.columns["label"], one.predicted, average="macro")
    assert one.metrics["f1_macro"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        pytest.param(["good", "fine"], [1, 1], id="one class alone"),
        pytest.param(["!?", "…"], [0, 1], id="texts without a word"),
        pytest.param([], [], id="no rows"),
    ],
)
def test_where_nothing_can_be_fitted_there_is_no_baseline(
    texts: list[str], labels: list[int]
) -> None:
    assert baseline.fit(rows(texts, labels), rows(["good"], [1]), LABELS) is None


def test_a_label_that_training_never_saw_counts_as_wrong() -> None:
    train = rows(["good"] * 5 + ["bad"] * 5, [1] * 5 + [0] * 5)
    found = baseline.fit(train, rows(["good", "odd"], [1, 2]), [*LABELS, "strange"])
    assert found is not None
    assert found.metrics["accuracy"] == 0.5
    assert np.isfinite(found.metrics["loss"])


def test_both_texts_of_a_pair_are_read() -> None:
    pairs = ["yes", "no"] * 10
    labels = [1, 0] * 10
    train = rows(["the same"] * 20, labels, pairs)
    found = baseline.fit(train, train, LABELS)
    assert found is not None
    assert found.metrics["accuracy"] == 1.0


def test_large_training_sets_are_thinned_evenly_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(baseline, "MOST_ROWS", 20)
    train = rows(["good", "bad"] * 35, [1, 0] * 35)
    found = baseline.fit(train, rows(["good", "bad"], [1, 0]), LABELS)
    assert found is not None
    assert found.train_rows == 20
    assert "20 of 70" in found.note
