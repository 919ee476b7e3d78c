"""The judge sees what it is there to see."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.oracle import Start, _redone, _samples_once


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


def at(moment: float, event: str, file: str) -> dict[str, Any]:
    op = "create" if file == "MANIFEST.json" else "write"
    key = f"checkpoints/00000009-1.1.3-*/{file}"
    return {"t": moment, "event": event, "op": op, "key": key}


WRITTEN = [at(1.0, "begin", "weights"), at(2.0, "end", "weights")]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        (WRITTEN, None),
        ([*WRITTEN, at(3.0, "begin", "MANIFEST.json"), at(9.0, "end", "MANIFEST.json")], None),
        ([*WRITTEN, at(3.0, "begin", "MANIFEST.json"), at(4.0, "end", "MANIFEST.json")], "3 are"),
        ([], "3 are"),
    ],
    ids=[
        "a checkpoint was being written",
        "one was, whose writer slept until after its successor had begun",
        "none was any more",
        "none was",
    ],
)
def test_two_intervals_are_done_again_only_where_a_checkpoint_was_being_written(
    events: list[dict[str, Any]], said: str | None
) -> None:
    starts = {(1, 1): Start((1, 1), 1, 0, ""), (2, 1): Start((2, 1), 1, 6, "")}
    before = {"t": 2.5, "attempt": 1, "claimed": 1, "step": 11, "done": True}
    after = {"t": 6.0, "attempt": 2, "claimed": 1, "step": 7, "done": True}
    worst, problems = _redone(starts, [before, after], events, 3)
    assert worst == 5
    assert (said is None) == (problems == [])
    assert said is None or said in problems[0]
