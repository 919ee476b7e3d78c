"""Carries numbers to the trackers without ever making training wait.

Decides the names of the numbers, that each tracker has a thread and a bounded queue of its own,
and that one which fails, falls behind or hangs is said once and dropped. Imports ``api``,
``channel`` and the contract.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunefleet.channel.schema import EvaluationRecord, Progress, StepRecord
from tunefleet.train.trackers.contract import Ending, Point, TrackedRun, Tracker

CAPACITY = 20_000
"""How many points a tracker may be behind: minutes of fast steps, a few MB."""

END_SECONDS = 20.0
RESTART_SECONDS = 2.0
_BATCH = 500
_TICK_SECONDS = 1.0

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Saved:
    """A checkpoint was committed."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """Nothing more comes."""

    end: Ending | None


class Feed:
    """The leader's trackers; without any, every method does nothing."""

    def __init__(
        self, trackers: Sequence[Tracker], run: TrackedRun | None, *, capacity: int = CAPACITY
    ) -> None:
        assert run is not None or not trackers
        self._lines = [_Line(tracker, run, capacity) for tracker in trackers if run is not None]
        self._warn: Warn = lambda message: None

    def start(self, warn: Warn) -> None:
        """Begin; ``warn`` is called, from any thread, once for each tracker that is dropped."""
        self._warn = warn
        for line in self._lines:
            line.start(warn)

    def step(self, record: StepRecord) -> None:
        """A step was done. Never waits."""
        values = {"train/learning_rate": record.learning_rate, "train/epoch": float(record.epoch)}
        if record.loss is not None:
            values["train/loss"] = record.loss
        if record.grad_norm is not None:
            values["train/grad_norm"] = record.grad_norm
        self._put(Point(record.step, values))

    def progress(self, progress: Progress) -> None:
        """How fast it goes and what it has cost, after a step. Never waits."""
        found = {
            "train/samples_per_second": progress.samples_per_second,
            "train/tokens_per_second": progress.tokens_per_second,
            "cost/worker_seconds": sum(progress.seconds.values()),
            "cost/dollars": None
            if progress.cost_microdollars is None
            else progress.cost_microdollars / 1e6,
        }
        values = {name: value for name, value in found.items() if value is not None}
        self._put(Point(progress.step, values))

    def evaluation(self, record: EvaluationRecord) -> None:
        """The validation rows were scored. Never waits."""
        values = {f"validation/{name}": value for name, value in record.metrics.items()}
        self._put(Point(record.step, values))

    def saved(self) -> None:
        """A checkpoint was committed. Never waits."""
        self._put(_Saved())

    def close(self, end: Ending | None, *, seconds: float | None = None) -> None:
        """Tell how it ended and wait, but no longer than ``seconds`` over all trackers.

        ``None``: another start goes on with the run at once. May be called again; only the
        first call counts.
        """
        if seconds is None:
            seconds = RESTART_SECONDS if end is None else END_SECONDS
        self._put(_Ended(end))
        deadline = time.monotonic() + seconds
        for line in self._lines:
            if not line.ended(max(0.0, deadline - time.monotonic())):
                line.drop(f"it did not come to an end within {seconds:.0f} s")
        self._lines = []

    def _put(self, message: Point | _Saved | _Ended) -> None:
        for line in self._lines:
            line.put(message)


class _Line:
    """One tracker behind its queue."""

    def __init__(self, tracker: Tracker, run: TrackedRun, capacity: int) -> None:
        self._tracker = tracker
        self._run = run
        self._queue: queue.Queue[Point | _Saved | _Ended] = queue.Queue(capacity)
        self._dropped = threading.Event()
        self._lock = threading.Lock()
        self._warn: Warn = lambda message: None
        # A daemon: a tracker that hangs must not keep the process from ending.
        self._thread = threading.Thread(
            target=self._work, name=f"tracker-{tracker.name}", daemon=True
        )

    def start(self, warn: Warn) -> None:
        self._warn = warn
        self._thread.start()

    def put(self, message: Point | _Saved | _Ended) -> None:
        if self._dropped.is_set():
            return
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self.drop("it cannot keep up")

    def ended(self, seconds: float) -> bool:
        """Wait for the thread; a dropped tracker is not waited for."""
        if self._dropped.is_set():
            return True
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive() or self._dropped.is_set()

    def drop(self, why: str) -> None:
        with self._lock:
            if self._dropped.is_set():
                return
            self._dropped.set()
        self._warn(
            f"{self._tracker.name} gets no more numbers ({why}); training goes on, and the "
            "report has them all"
        )

    def _work(self) -> None:
        try:
            self._tracker.begin(self._run)
            while not self._dropped.is_set():
                if self._handle(self._next()):
                    return
        except BaseException as error:  # whatever a tracker raises, training goes on
            text = " ".join(str(error).split())[:300]
            self.drop(f"{type(error).__name__}: {text}" if text else type(error).__name__)

    def _next(self) -> list[Point | _Saved | _Ended]:
        """What has come since, at least one message, unless nothing comes for a while."""
        try:
            found = [self._queue.get(timeout=_TICK_SECONDS)]
        except queue.Empty:
            return []
        while len(found) < _BATCH:
            try:
                found.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return found

    def _handle(self, messages: Sequence[Point | _Saved | _Ended]) -> bool:
        """Pass messages on in their order; True after the last one ever."""
        points = [message for message in messages if isinstance(message, Point)]
        if points:
            self._tracker.record(points)
        if any(isinstance(message, _Saved) for message in messages):
            self._tracker.save()
        last = next((message for message in messages if isinstance(message, _Ended)), None)
        if last is not None:
            self._tracker.end(last.end)
        return last is not None
