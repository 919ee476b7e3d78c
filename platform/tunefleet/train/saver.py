"""Checkpoints, written in the background.

Decides how long a step waits: only for the copy to host memory, and for the write before it
when that one is still going on. An error of the background write reaches the loop at the
next save, at the latest at the end. Retention runs right after a commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import nn

from tunefleet.plan.document import Plan
from tunefleet.storage.checkpoints import CheckpointWriter, retain
from tunefleet.storage.manifest import Manifest
from tunefleet.storage.run import RunStore
from tunefleet.train.state import HostCopy, RunState


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

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: RunState,
        metric: float | None,
    ) -> None:
        """Copy and go on; raises the error of the save before this one."""
        self.wait()
        self._copy.take(model, optimizer)
        self._pending = self._thread.submit(self._write, state, metric)

    def wait(self) -> None:
        """Until the last save is committed; raises its error."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """Wait, and end the background thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def _write(self, state: RunState, metric: float | None) -> None:
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
