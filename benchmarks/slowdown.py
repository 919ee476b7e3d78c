"""How much saving slows training down, at one checkpoint a minute and at the planned interval.

Saves are forced far closer than anybody would (the write of one is over before the next), so
that what one costs stands out of the noise; the slow-down at a longer interval is that cost
spread over it. Both sides are ours, with and without saves.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.scale import Scale
from benchmarks.sides import Ready, ready, run_ours
from benchmarks.table import Row
from benchmarks.workloads import job_text, workloads

EVERY_STEPS = 10
PER_MINUTE_GOAL, PLANNED_GOAL = 0.05, 0.01


def measure(scale: Scale) -> Iterator[Row]:
    """Two rows, in percent of the time of training."""
    workload = workloads(scale.scratch / "texts")[0]
    first, last = scale.between
    per_save: list[float] = []
    planned = 0.0
    for pair in range(scale.pairs):
        folder = scale.scratch / "slowdown" / str(pair)

        def made(save: int | str | None, folder: Path = folder) -> Ready:
            text = job_text(
                workload,
                name="slowdown",
                max_steps=last + 5,
                seed=17,
                checkpoints=folder / "runs",
                save=save,
            )
            return ready(text, folder)

        seconds = {}
        sides = {"saving": EVERY_STEPS, "bare": None}
        for name in sides if pair % 2 == 0 else reversed(sides):
            watched = run_ours(made(sides[name]), name=name, between=scale.between, stop_after=last)
            assert watched.stretch is not None
            seconds[name] = watched.stretch.seconds
        per_save.append((seconds["saving"] - seconds["bare"]) / ((last - first) // EVERY_STEPS))
        planned = made("auto").plan.checkpoints.every_seconds or 0.0
    assert planned > 0, "auto plans an interval in seconds"
    note = f"{median(per_save):.2f} s a save, from one every {EVERY_STEPS} steps"
    for what, interval, limit in (
        ("slow-down at a checkpoint a minute", 60.0, PER_MINUTE_GOAL),
        (f"slow-down at the planned interval, {planned:.0f} s", planned, PLANNED_GOAL),
    ):
        yield Row(
            what,
            "%",
            [100 * cost / interval for cost in per_save],
            better="lower",
            limit=100 * limit,
            note=note,
        )
