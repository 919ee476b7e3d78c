"""How long ``tunefleet run`` takes to its first step, beside bare Ray Train.

Both place two workers with Ray and import the same packages in them. Ours also checks,
tokenises and plans before, and scores the untrained model on the held-out rows: what it does
more is what the row shows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.scale import Scale
from benchmarks.sides import ready
from benchmarks.table import Row
from benchmarks.watch import watch
from benchmarks.workloads import MODEL, job_text, workloads

ALLOWED_SECONDS = 3.0


def measure(scale: Scale) -> Iterator[Row]:
    """One row: seconds from the command to the end of the first step."""
    workload = workloads(scale.scratch / "texts")[0]
    ours: list[float] = []
    theirs: list[float] = []
    for pair in range(scale.starts):
        folder = scale.scratch / "start" / str(pair)
        sides = [(ours, _run), (theirs, _bare)]
        text = job_text(
            workload, name=f"start-{pair}", max_steps=2, seed=17, checkpoints=folder / "runs"
        )
        ready(text, folder)
        for values, side in sides if pair % 2 == 0 else reversed(sides):
            values.append(side(folder, scale))
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


def _run(folder: Path, scale: Scale) -> float:
    """The whole command: load, prepare, plan, Ray, workers, model, first step."""
    scratch = folder / "ours"
    (scratch / "tmp").mkdir(parents=True)
    tunefleet = str(Path(sys.executable).with_name("tunefleet"))
    watched = watch(
        [tunefleet, "run", str(folder / "job.yaml"), "--json"],
        scratch=scratch,
        steps="tmp/tunefleet-*/steps.jsonl",
        environment={
            "TMPDIR": str(scratch / "tmp"),
            "TUNEFLEET_CACHE": str(scale.scratch / "start" / "cache"),
        },
    )
    assert watched.first_step is not None, "the run said nothing of a first step"
    return watched.first_step


def _bare(folder: Path, scale: Scale) -> float:
    """Ray, workers, model, first step."""
    scratch = folder / "bare"
    scratch.mkdir(parents=True)
    config = {
        "model": str(MODEL),
        "steps_file": str(scratch / "steps.jsonl"),
        "scratch": str(scratch / "ray"),
    }
    path = scratch / "config.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "benchmarks.peers.ray_train", str(path)]
    watched = watch(command, scratch=scratch, steps="steps.jsonl")
    assert watched.first_step is not None, "the script said nothing of a first step"
    return watched.first_step
