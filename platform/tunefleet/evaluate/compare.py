"""Runs side by side: which settings differ, and what became of the metrics.

Decides which settings count as choices (the job file, and what the plan made of it) and how
a difference is judged. Pure: records in, records out. Imports ``api`` and ``plan`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tunefleet.api.base import Document
from tunefleet.evaluate.content import MetricValue, SplitContent

_MISSING = "\N{EN DASH}"
_TOLERANCE = 1e-4

# What a plan settles and a job file may leave open; estimates and reasons are no settings.
_PLANNED = (
    "epochs",
    "totalSteps",
    "batchSize",
    "microBatch",
    "maxLength",
    "workers",
    "device",
    "precision",
    "parameters",
    "trainableParameters",
    "trainUnits",
    "modelDigest",
    "dataDigest",
)


class Difference(Document):
    """A setting that is not the same in all runs; one value per run, in their order."""

    name: str
    values: list[str]


class Gap(Document):
    """A run's metric minus the first run's, with its paired 95 % interval where known."""

    value: float
    low: float | None = None
    high: float | None = None


class MetricComparison(Document):
    """A metric of a split in every run; ``gaps[0]`` is None, and so is what is unknown."""

    split: str
    name: str
    higher: bool
    values: list[MetricValue | None]
    gaps: list[Gap | None]


class Comparison(Document):
    """Runs side by side; the first one is what the others are compared with."""

    runs: list[str]
    settings: list[Difference]
    metrics: list[MetricComparison]
    outcomes: list[Difference]


@dataclass(frozen=True, slots=True)
class Side:
    """A run to be compared: its name, job and plan as JSON values, and what came of it.

    ``gaps`` are the paired intervals of (split, metric) against the first run.
    """

    name: str
    job: Mapping[str, object]
    plan: Mapping[str, object]
    splits: Sequence[SplitContent] = ()
    gaps: Mapping[tuple[str, str], Gap] = field(default_factory=dict)


def compare(sides: Sequence[Side], outcomes: Mapping[str, Sequence[str]]) -> Comparison:
    """The comparison; ``outcomes`` (state, cost, time …) are shown whether they differ or not."""
    return Comparison(
        runs=[side.name for side in sides],
        settings=_settings(sides),
        metrics=_metrics(sides),
        outcomes=[Difference(name=name, values=list(v)) for name, v in outcomes.items()],
    )


def flatten(value: object, path: str = "") -> dict[str, str]:
    """Nested JSON values as one level: ``training.optimizer.learningRate`` → ``2e-05``."""
    if isinstance(value, Mapping):
        found: dict[str, str] = {}
        for key, inner in value.items():
            found |= flatten(inner, f"{path}.{key}" if path else str(key))
        return found
    if isinstance(value, list):
        return {path: ", ".join(_written(item) for item in value)}
    return {path: _written(value)}


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _MISSING if value is None else str(value)


def _settings(sides: Sequence[Side]) -> list[Difference]:
    flat = []
    for side in sides:
        given = flatten(side.job.get("spec", {}), "spec")
        planned = {key: side.plan[key] for key in _PLANNED if key in side.plan}
        flat.append(given | flatten(planned, "plan"))
    names = dict.fromkeys(name for values in flat for name in values)
    return [
        Difference(name=name, values=[values.get(name, _MISSING) for values in flat])
        for name in names
        if len({values.get(name) for values in flat}) > 1
    ]


def _metrics(sides: Sequence[Side]) -> list[MetricComparison]:
    tables = [
        {(split.split, metric.name): metric for split in side.splits for metric in split.metrics}
        for side in sides
    ]
    found = []
    for split, name in dict.fromkeys(key for table in tables for key in table):
        values = [table.get((split, name)) for table in tables]
        known = next(value for value in values if value is not None)
        gaps = [
            _gap(values[0], value, side.gaps.get((split, name)))
            for side, value in zip(sides[1:], values[1:], strict=True)
        ]
        found.append(
            MetricComparison(
                split=split, name=name, higher=known.higher, values=values, gaps=[None, *gaps]
            )
        )
    return found


def _gap(first: MetricValue | None, other: MetricValue | None, known: Gap | None) -> Gap | None:
    if first is None or other is None or first.after is None or other.after is None:
        return None
    value = other.after - first.after
    # An interval around another difference than the reported one would mislead.
    if known is None or abs(known.value - value) > _TOLERANCE * max(1.0, abs(value)):
        return Gap(value=value)
    return Gap(value=value, low=known.low, high=known.high)
