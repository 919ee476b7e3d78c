from __future__ import annotations

import pytest

from tunefleet.api.errors import SpecError
from tunefleet.api.job import GateSpec
from tunefleet.evaluate.gate import judge

METRICS = {"f1_macro": 0.85, "loss": 0.4}


@pytest.mark.parametrize(
    ("gate", "passed", "bound"),
    [
        pytest.param(
            {"metric": "f1_macro", "min": 0.8}, True, "≥ 0.8", id="above the minimum passes"
        ),
        pytest.param(
            {"metric": "f1_macro", "min": 0.85}, True, "≥ 0.85", id="the minimum itself passes"
        ),
        pytest.param(
            {"metric": "f1_macro", "min": 0.9}, False, "≥ 0.9", id="below the minimum fails"
        ),
        pytest.param({"metric": "loss", "max": 0.4}, True, "≤ 0.4", id="the maximum itself passes"),
        pytest.param(
            {"metric": "loss", "max": 0.39}, False, "≤ 0.39", id="above the maximum fails"
        ),
        pytest.param(
            {"metric": "loss", "min": 0.1, "max": 0.3},
            False,
            "≥ 0.1 and ≤ 0.3",
            id="both bounds must hold",
        ),
    ],
)
def test_a_gate_compares_one_metric_with_its_bounds(
    gate: dict[str, object], passed: bool, bound: str
) -> None:
    result = judge(GateSpec.model_validate(gate), METRICS)
    assert (result.passed, result.bound) == (passed, bound)
    assert result.value == METRICS[result.metric]


def test_an_unknown_metric_is_named_with_its_nearest_neighbour() -> None:
    with pytest.raises(SpecError, match=r"spec\.serving\.gate\.metric.*f1_micro") as caught:
        judge(GateSpec(metric="f1_micro", min=0.5), METRICS)
    assert "f1_macro" in str(caught.value)
