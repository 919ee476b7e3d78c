from __future__ import annotations

import pytest

from tunefleet.evaluate.compare import Gap, Side, compare, flatten
from tunefleet.evaluate.content import MetricValue, SplitContent


def side(name: str, after: float | None, **spec: object) -> Side:
    value = MetricValue(name="loss", help="", higher=False, after=after)
    splits = [SplitContent(split="test", units=10, metrics=[value])] if after is not None else []
    return Side(name=name, job={"spec": spec}, plan={"microBatch": 8, "seconds": 3}, splits=splits)


@pytest.mark.parametrize(
    ("value", "flat"),
    [
        pytest.param({"a": {"b": 1}}, {"a.b": "1"}, id="nested names are joined by dots"),
        pytest.param({"a": ["x", 2]}, {"a": "x, 2"}, id="lists are one value"),
        pytest.param({"a": None, "b": True}, {"a": "–", "b": "true"}, id="as people write them"),
    ],
)
def test_settings_are_flattened(value: object, flat: dict[str, str]) -> None:
    assert flatten(value) == flat


def test_only_settings_that_differ_are_named_and_a_missing_one_differs() -> None:
    found = compare([side("a", 1.0, lr=1, seed=3), side("b", 1.0, lr=2, seed=3, extra=1)], {})
    assert [(item.name, item.values) for item in found.settings] == [
        ("spec.lr", ["1", "2"]),
        ("spec.extra", ["–", "1"]),
    ]


def test_estimates_of_the_plan_are_no_settings() -> None:
    one, other = side("a", 1.0), side("b", 1.0)
    moved = Side(name="b", job=other.job, plan={"microBatch": 16, "seconds": 9})
    assert [item.name for item in compare([one, moved], {}).settings] == ["plan.microBatch"]


def test_differences_are_against_the_first_run() -> None:
    sides = [side("a", 0.5), side("b", 0.25), side("c", None)]
    known = {("test", "loss"): Gap(value=-0.25, low=-0.3, high=-0.1)}
    sides[1] = Side(
        name="b", job=sides[1].job, plan=sides[1].plan, splits=sides[1].splits, gaps=known
    )
    (metric,) = compare(sides, {}).metrics
    assert metric.higher is False
    assert metric.gaps == [None, Gap(value=-0.25, low=-0.3, high=-0.1), None]
    assert metric.values[2] is None
