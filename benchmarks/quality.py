"""Whether the tuned model is as good: accuracy on held-out reviews, three seeds.

The quickstart's work on both sides: the same split, steps, schedule and token ids. Ours goes
the whole way of ``tunefleet run``; the accuracy is that of the bundle's model.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.scale import Scale
from benchmarks.sides import Ready, ready, run_trainer
from benchmarks.table import Row
from benchmarks.watch import watch
from benchmarks.workloads import job_text, workloads

# Two standard errors of an accuracy of 0.77 on 1,060 rows.
NOISE = 0.026


def measure(scale: Scale) -> Iterator[Row]:
    """One row: test accuracy, one pair per seed."""
    reviews = workloads(scale.scratch / "texts")[1]
    ours: list[float] = []
    theirs: list[float] = []
    for seed in scale.quality_seeds:
        folder = scale.scratch / "quality" / str(seed)
        text = job_text(
            reviews,
            name=f"quality-{seed}",
            max_steps=scale.quality_steps,
            seed=seed,
            checkpoints=folder / "runs",
            test=0.1,
        )
        job = ready(text, folder)
        ours.append(_run(job))
        watched = run_trainer(job, name="trainer", sampling="random")
        theirs.append(float(json.loads(watched.stdout.splitlines()[-1])["accuracy"]))
    yield Row(
        f"test accuracy after {scale.quality_steps} steps",
        "",
        ours,
        theirs,
        peer="Trainer, default sampling",
        goal=1 - NOISE / min(theirs),
        note=f"seeds {', '.join(map(str, scale.quality_seeds))}; noise ±{NOISE}",
    )


def _run(job: Ready) -> float:
    tunefleet = str(Path(sys.executable).with_name("tunefleet"))
    watched = watch(
        [tunefleet, "run", str(job.file.path), "--json"],
        scratch=job.scratch / "ours",
        environment={"TUNEFLEET_CACHE": str(job.scratch.parent / "cache")},
    )
    result = json.loads(watched.stdout)
    return float(result["splits"]["test"]["after"]["accuracy"])
