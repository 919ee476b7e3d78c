"""The judge sees what it is there to see."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.oracle import Start, _samples_once


def line(step: int, *ids: int, start: int = 1) -> dict[str, Any]:
    return {"attempt": 1, "claimed": start, "step": step, "epoch": 0, "ids": list(ids)}


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([line(1, 1, 2), line(2, 3)], None),
        ([line(1, 1, 2), line(2, 2)], "used more than once"),
        ([line(1, 1, 2), line(2)], "no sample is on record"),
        ([line(1, 1, 2), line(2, 3, start=9)], "no sample is on record"),
    ],
    ids=[
        "every id once is well",
        "an id used twice is seen",
        "a step without a record is seen",
        "what a start outside the history did does not count",
    ],
)
def test_ids_are_counted_in_the_surviving_history(
    samples: list[dict[str, Any]], said: str | None
) -> None:
    starts = {(1, 1): Start((1, 1), 1, 0, "")}
    problems = list(_samples_once(starts, samples, 3))
    assert (said is None) == (problems == [])
    assert said is None or said in problems[0]
