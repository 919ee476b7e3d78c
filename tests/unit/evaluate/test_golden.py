from __future__ import annotations

import numpy as np
import pytest

from tunefleet.evaluate.golden import compare

WANTED = {"logits": np.array([[1.0, -2.0], [100.0, 0.0]], np.float32)}


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        pytest.param([[0, 0], [0, 0]], True, id="the same"),
        pytest.param([[1.9e-4, 0], [0, 0]], True, id="within absolute and relative tolerance"),
        pytest.param([[2.1e-4, 0], [0, 0]], False, id="just outside"),
        pytest.param([[0, 0], [9e-3, 0]], True, id="a large number may differ by more"),
        pytest.param([[0, 0], [0, 2e-4]], False, id="a zero may not"),
        pytest.param([[float("nan"), 0], [0, 0]], False, id="not a number"),
        pytest.param([[0, 0], [0, float("inf")]], False, id="infinity"),
    ],
)
def test_outputs_are_compared_by_absolute_and_relative_difference(
    change: list[list[float]], passes: bool
) -> None:
    found = {"logits": WANTED["logits"].astype(np.float64) + np.array(change)}
    worst = compare(WANTED, found, 1e-4)
    assert (worst.difference <= worst.allowed) is passes


def test_the_worst_place_is_named() -> None:
    found = {"logits": WANTED["logits"] + np.array([[0, 0], [0, 0.5]], np.float32)}
    worst = compare(WANTED, found, 1e-4)
    assert (worst.name, worst.unit) == ("logits", 1)
    assert worst.difference == pytest.approx(0.5)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param({}, id="an output that is missing"),
        pytest.param({"logits": np.zeros((2, 3))}, id="an output of another shape"),
    ],
)
def test_other_outputs_are_infinitely_far(found: dict[str, np.ndarray]) -> None:
    assert compare(WANTED, found, 1e-4).difference == float("inf")
