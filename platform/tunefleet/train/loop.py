"""The training loop: steps, evaluations, checkpoints, and when to stop.

A stranger should read it in two minutes. It decides *when* things happen; how a step is
computed is ``step``, how a split is scored ``scoring``, what a checkpoint holds ``state``,
how it is written ``saver``. It runs the same under Ray, under torchrun and alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from tunefleet.api.words import Cause, Command, Phase
from tunefleet.channel.schema import EvaluationRecord
from tunefleet.cost.clock import CauseClock
from tunefleet.data.tokens import TokenStore
from tunefleet.plan.document import Plan
from tunefleet.plan.interval import interval_seconds
from tunefleet.tasks.contract import Task
from tunefleet.train import ledger
from tunefleet.train.failures import DivergedError
from tunefleet.train.group import Group
from tunefleet.train.history import HistoryBuilder
from tunefleet.train.metering import Meter
from tunefleet.train.moving import saving_seconds
from tunefleet.train.node_files import NodeFiles
from tunefleet.train.reporting import Reporter
from tunefleet.train.saver import Saver
from tunefleet.train.scoring import score_split
from tunefleet.train.state import RunState
from tunefleet.train.step import ExactStep, StepResult, StepWork, Votes

MAX_SKIPPED_IN_A_ROW = 5
DIVERGED_REMEDY = (
    "lower training.optimizer.learningRate, raise warmup, or look for broken rows with "
    "`tunefleet check --show 5`; the last good checkpoint is kept"
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop works with. ``saver`` and ``reporter`` are the leader's alone.

    ``beat`` says that it goes on; ``expect``, by how many seconds the next beat may be late.
    """

    plan: Plan
    task: Task
    model: nn.Module
    stores: Mapping[str, TokenStore]
    group: Group
    device: torch.device
    clock: CauseClock
    meter: Meter
    model_path: Path
    files: NodeFiles
    saver: Saver | None = None
    reporter: Reporter | None = None
    interrupted: Callable[[], bool] = lambda: False
    beat: Callable[[], None] = lambda: None
    expect: Callable[[float], None] = lambda seconds: None


@dataclass(frozen=True, slots=True)
class LoopEnd:
    """How the loop ended: all steps done (or stopped early), or asked to stop before."""

    state: RunState
    asked_to_stop: bool


class Loop:
    """One process's part in a run."""

    def __init__(self, parts: Parts, exact: ExactStep, state: RunState | None) -> None:
        self._parts = parts
        self._exact = exact
        self._state = state or RunState(step=0, chain="")
        self._history = HistoryBuilder(self._state.history)
        self._skipped_in_a_row = 0
        self._has_room = False
        self._saved_at = time.monotonic()
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="batches")

    def run(self) -> LoopEnd:
        """Train until the plan is done, patience is out, or somebody asks to stop."""
        if not self._state.before:
            self._look_before()
        if self._parts.reporter:
            self._parts.reporter.begin(self._state.step, self._state.best_metric)
        self._parts.meter.begin_loop(self._state.step)
        self._parts.model.train()
        try:
            if self._evaluation_was_put_off():
                self._evaluate()
            for work in self._prefetched():
                result = self._take_step(work)
                self._make_room()
                due, last = self._evaluation_is_due(), self._is_through()
                # Who has to stop has no time to evaluate first; the next start makes up for it.
                if result.stop or (not due and (result.save or self._checkpoint_is_due())):
                    self._save(metric=None)
                if due and (last or not result.stop):
                    self._evaluate()
                if result.stop:
                    return self._end(asked_to_stop=True)
                if self._state.finished:
                    break
        finally:
            self._ahead.shutdown(wait=False, cancel_futures=True)
        return self._end(asked_to_stop=False)

    def _end(self, *, asked_to_stop: bool) -> LoopEnd:
        self._parts.expect(saving_seconds(self._parts.plan))
        if self._parts.saver:
            with self._parts.clock.cause(Cause.CHECKPOINT):
                self._parts.saver.wait()
        return LoopEnd(self._state, asked_to_stop=asked_to_stop and not self._state.finished)

    def _prefetched(self) -> Iterator[StepWork]:
        """This worker's share of each step to come, collated one step ahead."""
        if self._state.finished:
            return
        steps = range(self._state.step, self._parts.plan.total_steps)
        coming = self._ahead.submit(self._exact.work, steps.start) if steps else None
        for number in steps:
            assert coming is not None
            with self._parts.clock.cause(Cause.DATA_WAIT):
                work = coming.result()
            if number + 1 in steps:
                coming = self._ahead.submit(self._exact.work, number + 1)
            yield work

    def _take_step(self, work: StepWork) -> StepResult:
        began = time.monotonic()
        with self._parts.clock.cause(Cause.TRAIN):
            result = self._exact.run(work, self._votes())
        done = self._state.step + 1
        self._history.add_step(done, result)
        self._state = self._state.model_copy(
            update={"step": done, "chain": ledger.extend(self._state.chain, done, result.digest)}
        )
        self._parts.meter.stepped(done)
        if self._parts.reporter:
            self._parts.reporter.step(done, result, time.monotonic() - began)
        self._parts.beat()
        self._skipped_in_a_row = 0 if result.applied else self._skipped_in_a_row + 1
        if self._skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise DivergedError(
                f"loss or gradient was not finite in {MAX_SKIPPED_IN_A_ROW} steps in a row, "
                f"up to step {done}",
                remedy=DIVERGED_REMEDY,
            )
        return result

    def _make_room(self) -> None:
        """After the first step the optimiser's state is there: reserve its host copy."""
        if self._parts.saver and not self._has_room:
            self._has_room = True
            self._parts.saver.reserve(self._parts.model, self._exact.optimizer)

    def _votes(self) -> Votes:
        reporter = self._parts.reporter
        asked = reporter.asked() if reporter else Command.NONE
        every = self._seconds_between_saves()
        late = every is not None and time.monotonic() - self._saved_at >= every
        return Votes(
            stop=self._parts.interrupted()
            or asked is Command.CHECKPOINT_AND_STOP
            or (reporter is not None and reporter.budget_is_spent()),
            save=asked is Command.CHECKPOINT_NOW or (self._parts.group.leads and late),
        )

    def _seconds_between_saves(self) -> float | None:
        planned = self._parts.plan.checkpoints
        measured = self._parts.saver.measured if self._parts.saver else None
        if measured is None or not planned.follows_cost:
            return planned.every_seconds
        return interval_seconds(
            measured.stall_seconds, measured.write_seconds, self._parts.group.world
        )

    def _checkpoint_is_due(self) -> bool:
        every = self._parts.plan.checkpoints.every_steps
        return every is not None and self._state.step % every == 0

    def _is_through(self) -> bool:
        return self._state.step == self._parts.plan.total_steps

    def _evaluation_is_due(self) -> bool:
        return self._is_through() or self._state.step % self._parts.plan.evaluation.every_steps == 0

    def _evaluation_was_put_off(self) -> bool:
        """Whether the run was stopped where it was to be evaluated, before that was done."""
        step = self._state.step
        known = any(record.step == step for record in self._state.history.evaluations)
        return step > 0 and not known and not self._state.finished and self._evaluation_is_due()

    def _save(self, metric: float | None) -> None:
        self._saved_at = time.monotonic()
        self._state = self._state.model_copy(update={"history": self._history.snapshot()})
        with self._parts.clock.cause(Cause.CHECKPOINT):
            self._parts.meter.join()
            # The leader may wait for the save before this one, and the others in their next step.
            self._parts.expect(saving_seconds(self._parts.plan))
            if self._parts.saver:
                self._parts.saver.save(
                    self._parts.model, self._exact.optimizer, self._state, metric
                )

    def _look_before(self) -> None:
        """Score the base model on every held-out split: what training has to beat."""
        before = {}
        for split in ("validation", "test"):
            if split in self._parts.stores:
                with self._evaluating(f"scoring the base model on {split}"):
                    before[split] = self._score(split)
        self._state = self._state.model_copy(update={"before": before})
        record = EvaluationRecord(step=0, metrics=before["validation"], best=False, seconds=0.0)
        self._history.add_evaluation(record)
        if self._parts.reporter:
            self._parts.reporter.base(record)

    def _score(self, split: str) -> dict[str, float]:
        parts = self._parts
        scores = score_split(
            parts.task,
            parts.model,
            parts.stores[split],
            micro_batch=parts.plan.evaluation.micro_batch,
            group=parts.group,
            device=parts.device,
            precision=parts.plan.precision,
            tick=parts.beat,
        )
        metrics = parts.task.metrics(scores)
        wild = [name for name, value in metrics.items() if not math.isfinite(value)]
        if wild:
            raise DivergedError(
                f"{', '.join(wild)} on {split} is not finite after step {self._state.step}",
                remedy=DIVERGED_REMEDY,
            )
        return metrics

    def _evaluate(self) -> None:
        began = time.monotonic()
        with self._evaluating("scoring validation"):
            metrics = self._score("validation")
        metric = metrics[self._parts.plan.evaluation.metric]
        record = EvaluationRecord(
            step=self._state.step,
            metrics=metrics,
            best=self._improves(metric, 0.0),
            seconds=time.monotonic() - began,
        )
        self._history.add_evaluation(record)
        self._judge(metric, record.best)
        if self._parts.reporter:
            self._parts.reporter.evaluation(record)
        self._save(metric=metric)

    def _judge(self, metric: float, best: bool) -> None:
        """Best so far, patience, and whether the run is finished."""
        enough = self._improves(metric, self._parts.plan.evaluation.min_delta)
        unimproved = 0 if enough else self._state.unimproved + 1
        patience = self._parts.plan.evaluation.patience
        out_of_patience = patience is not None and unimproved >= patience
        update: dict[str, object] = {
            "unimproved": unimproved,
            "finished": out_of_patience or self._state.step >= self._parts.plan.total_steps,
        }
        if best:
            update |= {"best_step": self._state.step, "best_metric": metric}
        self._state = self._state.model_copy(update=update)

    def _improves(self, metric: float, by: float) -> bool:
        best = self._state.best_metric
        if not math.isfinite(metric):
            return False
        if best is None:
            return True
        higher = self._parts.plan.evaluation.higher_is_better
        return metric > best + by if higher else metric < best - by

    @contextmanager
    def _evaluating(self, note: str) -> Iterator[None]:
        if self._parts.reporter:
            self._parts.reporter.phase(Phase.EVALUATING, self._state.step, note)
        with self._parts.clock.cause(Cause.EVALUATION):
            yield
        if self._parts.reporter:
            self._parts.reporter.paused()
