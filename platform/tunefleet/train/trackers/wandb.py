"""Weights & Biases: one run of theirs for one of ours, online or offline.

Decides the id (the run's identity, opened again by every attempt), that code, host name and
packages are not sent, and how a step that is done again is kept out of the curves.
The key comes from the environment; with ``WANDB_MODE=offline`` files are kept under
``tracking/wandb`` of the run's folder until ``wandb sync`` uploads them. The only file that
imports wandb.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunefleet.api.words import Phase
from tunefleet.train.trackers.contract import Ending, Point, TrackedRun

if TYPE_CHECKING:
    import wandb

_MARKS = "last-steps.json"


class Wandb:
    """Logs to a project of Weights & Biases."""

    name = "Weights & Biases"

    def __init__(self, project: str) -> None:
        self._project = project
        self._run: wandb.Run | None = None
        self._tracked: TrackedRun | None = None
        self._marks = Path()
        self._seen: dict[str, int] = {}
        self._floor = 0

    def begin(self, run: TrackedRun) -> None:
        """Open the run under its id; an earlier attempt's is gone on with."""
        # Failures of this client are told as events of ours, not sent to its makers.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        folder = Path(os.environ.get("WANDB_DIR", run.folder))
        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        self._tracked = run
        self._marks = folder / "wandb" / f"{run.identity}-{_MARKS}"
        if self._marks.is_file():
            self._seen = json.loads(self._marks.read_text())
        self._run = wandb.init(
            project=self._project,
            id=run.identity,
            name=f"{run.job} {run.run}",
            group=run.job,
            resume="allow",
            reinit="create_new",
            dir=str(folder),
            config=dict(run.settings),
            allow_val_change=True,
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_save_requirements=False,
            ),
        )
        # Online, what the server has already is not sent again: it would refuse it.
        self._floor = self._run.step if self._run.resumed else 0
        self._run.summary["attempt"] = run.attempt

    def record(self, points: Sequence[Point]) -> None:
        """Log what is not there yet."""
        assert self._run is not None
        for point in points:
            new = {
                name: value
                for name, value in point.values.items()
                if point.step >= self._floor and point.step > self._seen.get(name, -1)
            }
            if new:
                self._run.log(new, step=point.step)
                self._seen |= dict.fromkeys(new, point.step)
        self._note()

    def save(self) -> None:
        """Bring local files to the store where that is elsewhere."""
        assert self._tracked is not None
        self._tracked.keep()

    def end(self, end: Ending | None) -> None:
        """Close the run with its summary; one that goes on is left as preempted."""
        assert self._run is not None
        if end is None:
            self._run.mark_preempting()
            self._run.finish(exit_code=1)
        else:
            facts = {"state": end.phase.value, "message": end.message, **end.facts, **end.metrics}
            self._run.summary.update({name: value for name, value in facts.items() if value != ""})
            self._run.finish(exit_code=1 if end.phase is Phase.FAILED else 0)
        self.save()

    def _note(self) -> None:
        draft = self._marks.with_suffix(".draft")
        draft.write_text(json.dumps(self._seen))
        draft.replace(self._marks)
