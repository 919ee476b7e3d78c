"""Numbers reach trackers in order; one that fails, lags or hangs is said once and left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tunefleet.api.words import Cause, Phase
from tunefleet.channel.schema import EvaluationRecord, Progress, StepRecord
from tunefleet.train.trackers.contract import Ending, Point, TrackedRun
from tunefleet.train.trackers.feed import Feed

RUN = TrackedRun("id", "default", "reviews", "run-0001", 1, 0, {}, Path())
SOON = 10.0


class Remembering:
    """Keeps what it is told; waits or raises where it is asked to."""

    name = "Remembering"

    def __init__(self, *, fails_in: str = "", waits_in: str = "") -> None:
        self.told: list[object] = []
        self.go_on = threading.Event()
        self._fails_in = fails_in
        self._waits_in = waits_in

    def _hear(self, method: str, what: object) -> None:
        if method == self._fails_in:
            raise ConnectionError("no answer\nfrom the server")
        if method == self._waits_in:
            self.go_on.wait(60)
        self.told.append(what)

    def begin(self, run: TrackedRun) -> None:
        self._hear("begin", run)

    def record(self, points: Sequence[Point]) -> None:
        self._hear("record", None)
        self.told.extend(points)

    def save(self) -> None:
        self._hear("save", "saved")

    def end(self, end: Ending | None) -> None:
        self._hear("end", end)


def step(number: int, *, loss: float | None = 0.5) -> StepRecord:
    return StepRecord(
        step=number,
        epoch=0,
        loss=loss,
        grad_norm=None if loss is None else 2.0,
        learning_rate=1e-3,
        weight=8,
        units=8,
        tokens=80,
        seconds=0.1,
    )


def feed_of(*trackers: Remembering, capacity: int = 100) -> tuple[Feed, list[str]]:
    warnings: list[str] = []
    feed = Feed(trackers, RUN, capacity=capacity)
    feed.start(warnings.append)
    return feed, warnings


def eventually(condition: list[str]) -> None:
    deadline = time.monotonic() + SOON
    while not condition and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition


def test_everything_arrives_in_order_under_its_name() -> None:
    tracker = Remembering()
    feed, warnings = feed_of(tracker)
    feed.evaluation(EvaluationRecord(step=0, metrics={"f1": 0.1}, best=False, seconds=1.0))
    feed.step(step(1))
    feed.step(step(2, loss=None))
    feed.progress(
        Progress(
            phase=Phase.RUNNING,
            step=2,
            total_steps=4,
            epoch=0.5,
            epochs=1,
            workers=2,
            samples_per_second=3.0,
            seconds={Cause.TRAIN: 7.0, Cause.INIT: 1.0},
            cost_microdollars=2_500_000,
        )
    )
    feed.saved()
    end = Ending(Phase.SUCCEEDED)
    feed.close(end)
    assert warnings == []
    points = [found for found in tracker.told if isinstance(found, Point)]
    assert points == [
        Point(0, {"validation/f1": 0.1}),
        Point(
            1,
            {
                "train/learning_rate": 1e-3,
                "train/epoch": 0.0,
                "train/loss": 0.5,
                "train/grad_norm": 2.0,
            },
        ),
        Point(2, {"train/learning_rate": 1e-3, "train/epoch": 0.0}),
        Point(
            2, {"train/samples_per_second": 3.0, "cost/worker_seconds": 8.0, "cost/dollars": 2.5}
        ),
    ]
    assert tracker.told[0] is RUN
    assert tracker.told[-1] is end
    assert "saved" in tracker.told


@pytest.mark.parametrize("method", ["begin", "record", "save", "end"])
def test_one_that_raises_is_said_once_and_the_others_go_on(method: str) -> None:
    broken, sound = Remembering(fails_in=method), Remembering()
    feed, warnings = feed_of(broken, sound)
    for number in range(1, 11):
        feed.step(step(number))
    feed.saved()
    if method != "end":
        eventually(warnings)
    feed.step(step(11))
    feed.close(Ending(Phase.SUCCEEDED))
    (said,) = warnings
    assert "Remembering gets no more numbers" in said
    assert "ConnectionError: no answer from the server" in said
    steps = [found.step for found in sound.told if isinstance(found, Point)]
    assert steps == list(range(1, 12))


@pytest.mark.parametrize("method", ["begin", "record", "end"])
def test_one_that_hangs_is_waited_for_no_longer_than_stated(method: str) -> None:
    hanging, sound = Remembering(waits_in=method), Remembering()
    feed, warnings = feed_of(hanging, sound)
    feed.step(step(1))
    began = time.monotonic()
    feed.close(Ending(Phase.SUCCEEDED), seconds=0.3)
    took = time.monotonic() - began
    hanging.go_on.set()
    assert 0.3 <= took < SOON
    assert [said for said in warnings if "did not come to an end within 0 s" in said] == warnings
    assert len(warnings) == 1
    assert isinstance(sound.told[-1], Ending)


def test_one_that_lags_behind_never_makes_a_step_wait() -> None:
    slow = Remembering(waits_in="record")
    feed, warnings = feed_of(slow, capacity=50)
    began = time.monotonic()
    for number in range(1, 2001):
        feed.step(step(number))
    took = time.monotonic() - began
    slow.go_on.set()
    feed.close(Ending(Phase.STOPPED))
    assert took < 1.0
    (said,) = warnings
    assert "it cannot keep up" in said


def test_a_restart_is_told_as_no_end_and_a_second_close_says_nothing() -> None:
    tracker = Remembering()
    feed, _ = feed_of(tracker)
    feed.close(None)
    feed.close(Ending(Phase.FAILED))
    assert tracker.told == [RUN, None]


def test_without_trackers_nothing_is_started() -> None:
    before = threading.active_count()
    feed = Feed((), None)
    feed.start(lambda message: None)
    feed.step(step(1))
    assert threading.active_count() == before
    feed.close(Ending(Phase.SUCCEEDED))
