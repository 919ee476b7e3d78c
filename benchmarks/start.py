"""How long ``tunefleet run`` takes to its first step, beside bare Ray Train.

Both place two workers with Ray and import the same packages in them. Ours also checks,
tokenises and plans before, and scores the untrained model on the held-out rows: what it does
more is what the row shows.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import ray_sides
from benchmarks.ray_sides import Side
from benchmarks.scale import Scale
from benchmarks.sides import ready
from benchmarks.table import Row
from benchmarks.watch import watch
from benchmarks.workloads import job_text, workloads

ALLOWED_SECONDS = 3.0


def measure(scale: Scale) -> Iterator[Row]:
    """One row: seconds from the command to the end of the first step."""
    workload = workloads(scale.scratch / "texts")[0]
    ours: list[float] = []
    theirs: list[float] = []
    for pair in range(scale.starts):
        folder = scale.scratch / "start" / str(pair)
        sides = [(ours, ray_sides.ours(folder)), (theirs, ray_sides.bare(folder, steps=1))]
        text = job_text(
            workload, name=f"start-{pair}", max_steps=2, seed=17, checkpoints=folder / "runs"
        )
        ready(text, folder)
        for values, side in sides if pair % 2 == 0 else reversed(sides):
            values.append(_first_step(side))
    allowed = [value + ALLOWED_SECONDS for value in theirs]
    yield Row(
        "command to first step",
        "s",
        ours,
        theirs,
        peer="bare Ray Train",
        better="lower",
        limit=sorted(allowed)[len(allowed) // 2],
        note=f"limit: bare Ray Train + {ALLOWED_SECONDS:g} s",
    )


def _first_step(side: Side) -> float:
    watched = watch(
        side.command, scratch=side.scratch, steps=side.steps, environment=side.environment
    )
    assert watched.first_step is not None, "nothing was said of a first step"
    return watched.first_step
