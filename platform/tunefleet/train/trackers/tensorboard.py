"""TensorBoard: event files in ``tracking/tensorboard`` of the run's folder.

Decides that all attempts of a run write into one folder, and that an attempt begins by
declaring void what an earlier one wrote of steps that are done again, so that no curve shows
a step twice. The only file that imports TensorBoard's writer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunefleet.train.trackers.contract import Ending, Point, TrackedRun

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
_FLUSH_SECONDS = 5


class TensorBoard:
    """Writes event files."""

    name = "TensorBoard"

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None
        self._run: TrackedRun | None = None
        self._last = 0

    def begin(self, run: TrackedRun) -> None:
        """Open a new event file in the run's one log folder."""
        from torch.utils.tensorboard import SummaryWriter

        self._run = run
        self._last = max(0, run.since - 1)
        folder = run.folder / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        # A reader drops whatever it has read of this and later steps when it comes to here.
        writer = SummaryWriter(str(folder), purge_step=run.since, flush_secs=_FLUSH_SECONDS)
        settings = json.dumps(run.settings, indent=2, ensure_ascii=False)
        # At the first step to come: an attempt that begins there again replaces it.
        writer.add_text("settings", f"```json\n{settings}\n```", run.since)
        writer.add_text("run", f"{run.job} {run.run}, attempt {run.attempt}", run.since)
        writer.flush()
        self._writer = writer

    def record(self, points: Sequence[Point]) -> None:
        """Append the numbers; the file reaches the disk a few seconds later."""
        assert self._writer is not None
        for point in points:
            self._last = max(self._last, point.step)
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.step)

    def save(self) -> None:
        """Bring the file to the disk, and to the store where that is elsewhere."""
        assert self._writer is not None
        assert self._run is not None
        self._writer.flush()
        self._run.keep()

    def end(self, end: Ending | None) -> None:
        """Add the summary and close the file."""
        assert self._writer is not None
        if end is not None:
            for name, value in end.metrics.items():
                self._writer.add_scalar(name, value, self._last)
            facts = {"state": end.phase.value, "message": end.message, **end.facts}
            lines = [f"- {name}: {value}" for name, value in facts.items() if value]
            self._writer.add_text("end", "\n".join(lines), self._last)
        self.save()
        self._writer.close()
