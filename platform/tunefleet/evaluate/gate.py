"""The gate: whether a tuned model may be served.

Decides pass or fail from one metric and the bounds the job names; nothing else. A bound that
is met exactly is passed. Imports ``api`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from tunefleet.api.errors import Problem, SpecError
from tunefleet.api.job import GateSpec
from tunefleet.api.suggest import did_you_mean
from tunefleet.evaluate.result import GateResult


def judge(gate: GateSpec, metrics: Mapping[str, float]) -> GateResult:
    """The verdict on these metrics; raises ``SpecError`` for a metric that is not among them."""
    value = metrics.get(gate.metric)
    if value is None:
        raise SpecError("", problems=[_unknown(gate.metric, metrics)])
    too_low = gate.min is not None and value < gate.min
    too_high = gate.max is not None and value > gate.max
    return GateResult(
        metric=gate.metric,
        value=float(value),
        bound=bound(gate),
        passed=not (too_low or too_high),
    )


def bound(gate: GateSpec) -> str:
    """What the gate asks for, as people write it: ``≥ 0.85``."""
    parts = []
    if gate.min is not None:
        parts.append(f"≥ {gate.min:g}")
    if gate.max is not None:
        parts.append(f"≤ {gate.max:g}")
    return " and ".join(parts)


def _unknown(name: str, metrics: Mapping[str, float]) -> Problem:
    return Problem(
        f"the task reports no metric {name!r}",
        where="spec.serving.gate.metric",
        remedy=did_you_mean(name, metrics) or f"known are {', '.join(metrics)}",
    )
