from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tunefleet.api.tasks import declarations
from tunefleet.tasks import metrics
from tunefleet.tasks.contract import Scores


def _single(label: list[int], predicted: list[int], confidence: list[float]) -> Scores:
    return {
        "loss": np.array([-math.log(c) for c in confidence], np.float32),
        "label": np.array(label, np.int32),
        "predicted": np.array(predicted, np.int32),
        "confidence": np.array(confidence, np.float32),
    }


def test_single_label_metrics_by_hand() -> None:
    scores = _single([0, 0, 1, 1], [0, 1, 1, 1], [0.9, 0.8, 0.7, 0.6])
    found = metrics.single_label(scores, 2)
    assert found["accuracy"] == 0.75
    # Class 0: P 1, R 1/2, F1 2/3; class 1: P 2/3, R 1, F1 4/5.
    assert found["f1_macro"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    # (TP·TN - FP·FN) / sqrt(...) with TP 2, TN 1, FP 1, FN 0.
    assert found["mcc"] == pytest.approx(2 / math.sqrt(3 * 2 * 2 * 1))
    assert found["ece"] == pytest.approx((0.1 + 0.8 + 0.3 + 0.4) / 4)
    assert found["loss"] == pytest.approx(-sum(map(math.log, [0.9, 0.8, 0.7, 0.6])) / 4)


def test_a_label_that_a_split_lacks_counts_as_zero_in_the_macro_average() -> None:
    scores = _single([0, 1], [0, 1], [0.9, 0.9])
    assert metrics.single_label(scores, 2)["f1_macro"] == 1.0
    assert metrics.single_label(scores, 4)["f1_macro"] == 0.5


def test_calibration_error_weighs_fifteen_bins_by_their_size() -> None:
    confidence = np.repeat([0.95, 0.55], [300, 100])
    right = np.concatenate([np.arange(300) < 240, np.arange(100) < 55])
    expected = (300 * abs(0.8 - 0.95) + 100 * abs(0.55 - 0.55)) / 400
    assert metrics.calibration_error(confidence, right) == pytest.approx(expected)


@pytest.mark.parametrize("sure", [0.0, 1.0, 1 / 15, 14 / 15])
def test_every_confidence_has_a_bin(sure: float) -> None:
    error = metrics.calibration_error(np.array([sure]), np.array([True]))
    assert error == pytest.approx(1 - sure)


def test_multi_label_metrics_by_hand() -> None:
    scores: Scores = {
        "loss": np.array([0.5, 1.5], np.float32),
        "labels": np.array([[1, 0, 0], [1, 1, 0]], np.uint8),
        "probabilities": np.array([[0.9, 0.2, 0.1], [0.4, 0.8, 0.7]], np.float32),
    }
    found = metrics.multi_label(scores, 0.5)
    # Label 0: TP 1, FN 1; label 1: TP 1; label 2: FP 1.
    assert found["f1_micro"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["f1_macro"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    # Label 2 has no row; the others are ranked without fault.
    assert found["map"] == 1.0
    assert found["exact_match"] == 0.5
    assert found["loss"] == 1.0


def test_one_label_alone_is_scored_as_present_or_absent() -> None:
    scores: Scores = {
        "loss": np.zeros(3, np.float32),
        "labels": np.array([[1], [0], [1]], np.uint8),
        "probabilities": np.array([[0.9], [0.1], [0.2]], np.float32),
    }
    found = metrics.multi_label(scores, 0.5)
    assert found["f1_micro"] == found["f1_macro"] == pytest.approx(2 / 3)


def test_regression_metrics_by_hand() -> None:
    scores: Scores = {
        "loss": np.array([1, 0, 4], np.float32),
        "label": np.array([1, 2, 3], np.float32),
        "predicted": np.array([2, 2, 5], np.float32),
    }
    found = metrics.regression(scores)
    assert found["rmse"] == pytest.approx(math.sqrt(5 / 3))
    assert found["mae"] == pytest.approx(1.0)
    assert found["pearson"] == pytest.approx(3 / math.sqrt(2 * 6))
    assert found["spearman"] == pytest.approx(1.5 / math.sqrt(2 * 1.5))
    assert found["loss"] == pytest.approx(5 / 3)


def test_language_metrics_weigh_tokens_not_rows() -> None:
    scores: Scores = {
        "loss": np.array([2.0, 30.0], np.float32),
        "tokens": np.array([1, 9], np.int32),
        "correct": np.array([1, 2], np.int32),
    }
    found = metrics.language_model(scores)
    assert found == {
        "loss": pytest.approx(3.2),
        "perplexity": pytest.approx(math.exp(3.2)),
        "token_accuracy": pytest.approx(0.3),
    }


finite = st.floats(-1e3, 1e3, width=32)


@given(arrays.arrays(np.float32, 5, elements=finite), arrays.arrays(np.float32, 5, elements=finite))
def test_regression_metrics_are_finite_and_correlations_bounded(
    truth: np.typing.NDArray[np.float32], predicted: np.typing.NDArray[np.float32]
) -> None:
    loss = (truth.astype(np.float64) - predicted) ** 2
    found = metrics.regression({"loss": loss, "label": truth, "predicted": predicted})
    assert all(math.isfinite(value) for value in found.values())
    assert -1.0001 <= found["pearson"] <= 1.0001
    assert -1.0001 <= found["spearman"] <= 1.0001


@pytest.mark.parametrize(
    "found",
    [
        metrics.single_label(_single([0], [0], [0.5]), 3),
        metrics.multi_label(
            {
                "loss": np.ones(1, np.float32),
                "labels": np.zeros((1, 2), np.uint8),
                "probabilities": np.zeros((1, 2), np.float32),
            },
            0.5,
        ),
        metrics.regression({k: np.ones(2, np.float32) for k in ("loss", "label", "predicted")}),
        metrics.language_model(
            {"loss": np.array([1e30]), "tokens": np.array([1]), "correct": np.array([0])}
        ),
    ],
    ids=["one row", "no label anywhere", "constant predictions", "a loss beyond all bounds"],
)
def test_metrics_of_poor_splits_are_finite(found: dict[str, float]) -> None:
    assert all(math.isfinite(value) for value in found.values())


def test_no_units_are_refused() -> None:
    with pytest.raises(ValueError, match="no units"):
        metrics.single_label(_single([], [], []), 2)
    with pytest.raises(ValueError, match="no supervised tokens"):
        metrics.language_model({k: np.zeros(1) for k in ("loss", "tokens", "correct")})


def test_every_declared_metric_is_computed_and_no_other() -> None:
    declared = declarations()["text-classification"]
    single = metrics.single_label(_single([0], [0], [0.5]), 2)
    assert list(single) == [metric.name for metric in declared.metrics(declared.options())]
