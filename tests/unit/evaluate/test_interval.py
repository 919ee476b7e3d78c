from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.unit.evaluate.synthetic import KINDS, metrics_of, rows_of, scores_of
from tunefleet.evaluate.interval import difference, interval, paired
from tunefleet.tasks.contract import Scores

LABELS = {"single-label": ["a", "b", "c"], "multi-label": ["p", "q", "r", "s"]}


def scores(kind: str, count: int = 300, seed: int = 3) -> Scores:
    labels = LABELS.get(kind, [])
    return scores_of(kind, rows_of(kind, count, 0, labels, seed), labels, seed)


CASES = [
    (kind, name)
    for kind in KINDS
    for name in metrics_of(kind, scores(kind))
    if name != "ece"  # the sample's is made up; its formula is tested with the measures
]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{n} of {k}" for k, n in CASES])
def test_the_value_is_that_of_independent_formulas_and_lies_inside(kind: str, name: str) -> None:
    data = scores(kind)
    found = interval(data, name, seed=1, classes=len(LABELS.get(kind, [])))
    assert found is not None
    assert found.value == pytest.approx(metrics_of(kind, data)[name], rel=1e-5)
    assert found.low < found.value < found.high
    assert found == interval(data, name, seed=1, classes=len(LABELS.get(kind, [])))


def test_the_interval_of_a_share_is_about_the_binomial_one() -> None:
    count, right = 400, 320
    data: Scores = {
        "loss": np.zeros(count, np.float32),
        "label": np.zeros(count, np.int32),
        "predicted": (np.arange(count) >= right).astype(np.int32),
        "confidence": np.ones(count, np.float32),
    }
    found = interval(data, "accuracy", seed=2, classes=2)
    exact = stats.binom(count, right / count)
    assert found is not None
    assert found.low == pytest.approx(exact.ppf(0.025) / count, abs=0.01)
    assert found.high == pytest.approx(exact.ppf(0.975) / count, abs=0.01)


def test_tied_scores_share_one_precision_as_in_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score

    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (80, 3)).astype(np.uint8)
    coarse = random.integers(0, 5, (80, 3)) / 5
    data: Scores = {"loss": np.zeros(80), "labels": labels, "probabilities": coarse}
    found = interval(data, "map", seed=1)
    assert found is not None
    assert found.value == pytest.approx(average_precision_score(labels, coarse))


def test_few_units_and_unknown_metrics_have_no_interval() -> None:
    assert interval(scores("single-label", 9), "accuracy", seed=1, classes=3) is None
    assert interval(scores("single-label"), "bleu", seed=1, classes=3) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_does_not_differ_from_itself_in_another_order(kind: str) -> None:
    data = scores(kind)
    turned = {name: values[::-1] for name, values in data.items()}
    found = difference(data, turned, "loss", seed=1)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-9)


def test_a_better_model_on_the_same_units_is_seen_to_be_better() -> None:
    worse = scores("single-label")
    better = {**worse, "predicted": worse["label"]}
    found = difference(better, worse, "f1_macro", seed=1, classes=3)
    again = paired(
        worse["label"].astype(np.int64),
        worse["label"].astype(np.int64),
        worse["predicted"].astype(np.int64),
        "f1_macro",
        seed=1,
        classes=3,
    )
    assert found is not None
    assert again is not None
    assert found.value == pytest.approx(again.value)
    assert 0 < found.low < found.value < found.high


@pytest.mark.parametrize("name", ["ids", "label"])
def test_other_units_or_other_labels_are_not_compared(name: str) -> None:
    one = scores("single-label")
    other = {**one, name: one[name] + 1}
    assert difference(one, other, "accuracy", seed=1, classes=3) is None
