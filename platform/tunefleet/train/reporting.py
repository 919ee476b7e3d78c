"""What the leader says while a run goes on: progress, events, the cost so far.

Decides when to speak (at most twice a second) and how rates and the remaining time are
found (over a sliding window). The other workers stay silent.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tunefleet.api.words import Command, Phase
from tunefleet.channel.folder import RunEnd
from tunefleet.channel.schema import EvaluationRecord, Event, EventKind, Progress, StepRecord
from tunefleet.plan.document import Plan
from tunefleet.train.budget import BudgetWatch
from tunefleet.train.metering import Meter
from tunefleet.train.step import StepResult
from tunefleet.train.trackers.feed import Feed

_EVERY_SECONDS = 0.5
_WINDOW_SECONDS = 30.0


@dataclass(slots=True)
class _Pace:
    """Units and tokens of recent steps with the moment each was done."""

    marks: deque[tuple[float, int, int]]

    def add(self, now: float, units: int, tokens: int) -> None:
        self.marks.append((now, units, tokens))
        while len(self.marks) > 2 and now - self.marks[0][0] > _WINDOW_SECONDS:
            self.marks.popleft()

    def rates(self) -> tuple[float, float, float] | None:
        """(units, tokens, steps) per second."""
        if len(self.marks) < 2:
            return None
        seconds = self.marks[-1][0] - self.marks[0][0]
        if seconds <= 0:
            return None
        recent = list(self.marks)[1:]
        return (
            sum(mark[1] for mark in recent) / seconds,
            sum(mark[2] for mark in recent) / seconds,
            len(recent) / seconds,
        )


class Reporter:
    """The leader's voice."""

    def __init__(
        self,
        out: RunEnd,
        plan: Plan,
        meter: Meter,
        *,
        budget: BudgetWatch | None = None,
        trackers: Feed | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out
        self._plan = plan
        self._meter = meter
        self._budget = budget
        self._trackers = trackers or Feed((), None)
        self._now = now
        self._pace = _Pace(deque())
        self._said = float("-inf")
        self._asked_at = float("-inf")
        self._obeyed = 0
        self._loss: tuple[float, int] = (0.0, 0)
        self._best: float | None = None
        self._checkpoint: int | None = None

    def begin(self, step: int, best: float | None) -> None:
        """Say where the loop begins."""
        self._best = best
        self._checkpoint = step or None
        self._pace.marks.append((self._now(), 0, 0))
        self.phase(Phase.RUNNING, step)

    def step(self, done: int, result: StepResult, seconds: float) -> None:
        """Record a step; say the progress when it is time."""
        self._pace.add(self._now(), result.units, result.tokens)
        finite = result.loss if result.applied else None
        if finite is not None:
            self._loss = (self._loss[0] + finite * result.weight, self._loss[1] + result.weight)
        record = StepRecord(
            step=done,
            epoch=result.epoch,
            loss=finite,
            grad_norm=result.grad_norm if result.applied else None,
            learning_rate=result.learning_rate,
            weight=result.weight,
            units=result.units,
            tokens=result.tokens,
            seconds=seconds,
        )
        self._out.step(record)
        self._trackers.step(record)
        if not result.applied:
            self.event(
                "skipped",
                f"step {done}: loss or gradient was not finite; the weights were left alone",
                done,
            )
        if self._now() - self._said >= _EVERY_SECONDS or done == self._plan.total_steps:
            self._trackers.progress(self._speak(done, result.learning_rate))

    def _speak(self, done: int, rate: float | None) -> Progress:
        self._said = self._now()
        loss_sum, weight = self._loss
        self._loss = (0.0, 0)
        rates = self._pace.rates()
        account = self._meter.account(self._meter.spent())
        left = self._budget.left(account) if self._budget else None
        progress = Progress(
            phase=Phase.RUNNING,
            step=done,
            total_steps=self._plan.total_steps,
            epoch=done / self._plan.steps_per_epoch,
            epochs=self._plan.epochs,
            workers=self._meter.workers,
            loss=loss_sum / weight if weight else None,
            learning_rate=rate,
            samples_per_second=rates[0] if rates else None,
            tokens_per_second=rates[1] if rates else None,
            eta_seconds=(self._plan.total_steps - done) / rates[2] if rates else None,
            checkpoint_step=self._checkpoint,
            best_metric=self._best,
            metric_name=self._plan.evaluation.metric,
            seconds=account.seconds,
            cost_microdollars=account.microdollars,
            unpriced_seconds=account.unpriced_seconds,
            budget_left_microdollars=left.microdollars if left else None,
            budget_left_seconds=left.seconds if left else None,
        )
        self._out.progress(progress)
        return progress

    def budget_is_spent(self) -> bool:
        """Whether the run has to stop with the coming step to end inside its budget."""
        if self._budget is None:
            return False
        record = self._meter.spent()
        return self._budget.must_stop(record, self._meter.account(record))

    def phase(self, phase: Phase, step: int, note: str = "") -> None:
        """Say that something other than steps goes on."""
        progress = self._speak(step, None)
        self._out.progress(progress.model_copy(update={"phase": phase, "note": note}))

    def paused(self) -> None:
        """Steps stood still (an evaluation): start a new window for the rates."""
        self._pace.marks.clear()
        self._pace.marks.append((self._now(), 0, 0))

    def base(self, record: EvaluationRecord) -> None:
        """Note what the base model reached: where the curves begin."""
        self._trackers.evaluation(record)

    def evaluation(self, record: EvaluationRecord) -> None:
        """Say what an evaluation found."""
        self._trackers.evaluation(record)
        name = self._plan.evaluation.metric
        if record.best:
            self._best = record.metrics[name]
        numbers = ", ".join(f"{key} {value:.4f}" for key, value in record.metrics.items())
        best = "  (best so far)" if record.best else ""
        self.event("evaluation", f"validation at step {record.step}: {numbers}{best}", record.step)

    def checkpoint(self, step: int, name: str) -> None:
        """Say that a checkpoint is committed."""
        self._checkpoint = step
        self._trackers.saved()
        self.event("checkpoint", f"checkpoint {name} committed", step)

    def event(self, kind: EventKind, message: str, step: int | None = None) -> None:
        """Say that something happened."""
        self._out.event(Event(kind=kind, message=message, step=step))

    def asked(self) -> Command:
        """What is asked, once each time it is asked; looked up at most five times a second."""
        now = self._now()
        if now - self._asked_at < 0.2:
            return Command.NONE
        self._asked_at = now
        record = self._out.command()
        if record is None or record.sequence <= self._obeyed:
            return Command.NONE
        self._obeyed = record.sequence
        return record.command
