"""Peak memory of a worker beside transformers' Trainer, one checkpoint of each included.

The goal allows a host copy of the training state above the peer: weights and two moments.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.scale import Scale
from benchmarks.sides import ready, run_ours, run_trainer
from benchmarks.table import Row
from benchmarks.workloads import job_text, workloads

STEPS = 12
STATE_BYTES_PER_PARAMETER = 12


def measure(scale: Scale) -> Iterator[Row]:
    """One row: the largest resident set of any one process, from start to end."""
    workload = workloads(scale.scratch / "texts")[0]
    folder = scale.scratch / "memory"
    text = job_text(workload, name="memory", max_steps=STEPS, seed=17, checkpoints=folder / "runs")
    job = ready(text, folder)
    ours = run_ours(job, name="ours").peak_bytes
    theirs = run_trainer(job, name="trainer", sampling="random", save_steps=STEPS).peak_bytes
    copy = job.facts.model.parameters * STATE_BYTES_PER_PARAMETER
    yield Row(
        "peak memory of a worker",
        "MB",
        [ours / 1e6],
        [theirs / 1e6],
        peer="Trainer",
        better="lower",
        limit=(theirs + copy) / 1e6,
        note=f"limit: Trainer + {copy / 1e6:.0f} MB of state",
    )
