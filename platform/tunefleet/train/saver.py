"""Checkpoints, written in the background.

Decides how long a step waits: only for the copy to host memory, and for the write before it
when that one is still going on. An error of the background write reaches the loop at the
next save, at the latest at the end. Retention runs right after a commit. What a save cost is
measured, so that the interval between saves can follow it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import nn

from tunefleet.plan.document import Plan
from tunefleet.storage.checkpoints import CheckpointWriter, retain
from tunefleet.storage.manifest import Manifest
from tunefleet.storage.run import RunStore
from tunefleet.train.state import HostCopy, RunState


@dataclass(frozen=True, slots=True)
class SaveTimes:
    """What the last save cost: the copy that a step waited for, and the writing behind it."""

    stall_seconds: float
    write_seconds: float


class Saver:
    """Saves one start's checkpoints; the leader has one, the others none."""

    def __init__(
        self,
        run: RunStore,
        writer: CheckpointWriter,
        plan: Plan,
        digests: Mapping[str, str],
        committed: Callable[[Manifest], None],
    ) -> None:
        self._run = run
        self._writer = writer
        self._plan = plan
        self._digests = dict(digests)
        self._committed = committed
        self._copy = HostCopy()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._stall_seconds = 0.0
        self._measured: SaveTimes | None = None

    @property
    def measured(self) -> SaveTimes | None:
        """What the last save of this start cost, once one is committed."""
        return self._measured

    def reserve(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Make room for the copy in the background; after the optimiser's first step."""
        self.wait()
        self._pending = self._thread.submit(self._copy.reserve, model, optimizer)

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: RunState,
        metric: float | None,
    ) -> None:
        """Copy and go on; raises the error of the save before this one."""
        self.wait()
        began = time.monotonic()
        self._copy.take(model, optimizer)
        self._stall_seconds = time.monotonic() - began
        self._pending = self._thread.submit(self._write, state, metric)

    def wait(self) -> None:
        """Until the last save is committed; raises its error."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """Wait, end the background thread and give the copy's memory back."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._copy = HostCopy()

    def _write(self, state: RunState, metric: float | None) -> None:
        began = time.monotonic()
        manifest = self._writer.commit(
            state.step,
            self._copy.files(state),
            metric=metric,
            chain=state.chain,
            digests=self._digests,
        )
        self._committed(manifest)
        retain(
            self._run,
            keep_last=self._plan.checkpoints.keep_last,
            keep_best=self._plan.checkpoints.keep_best,
            higher_is_better=self._plan.evaluation.higher_is_better,
        )
        self._measured = SaveTimes(self._stall_seconds, time.monotonic() - began)
