"""Training throughput and processor time beside transformers' Trainer.

Two workers, micro-batch 16 each, fp32, fused AdamW, dropout on. Runs alternate; the seed
changes from pair to pair and is the same inside a pair. The stretch is whole sorting windows of
both sides (of the long-tailed texts a random half of ours); what remains of luck in the drawing of
lengths is taken out by counting real tokens and writing the speed as samples of the set's mean
length, which is the same number over an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.scale import Scale
from benchmarks.sides import Ready, ready, run_ours, run_trainer
from benchmarks.table import Row
from benchmarks.watch import Watched
from benchmarks.workloads import Workload, job_text, workloads

SLOW_BETWEEN = (25, 50)
NAMES = {"random": "Trainer, default sampling", "group_by_length": "Trainer, length grouping"}


def measure(scale: Scale) -> Iterator[Row]:
    """Rows for each set of texts and each way of sampling."""
    for workload in workloads(scale.scratch / "texts"):
        yield from _compare(workload, scale)


def _compare(workload: Workload, scale: Scale) -> Iterator[Row]:
    samplings = ["random", "group_by_length"] if workload.grouped else ["random"]
    speed: dict[str, list[float]] = {side: [] for side in ("ours", *samplings)}
    effort: dict[str, list[float]] = {side: [] for side in ("ours", *samplings)}
    slug = workload.data.stem
    between = min(SLOW_BETWEEN, scale.between) if workload.slow else scale.between
    for pair in range(scale.pairs):
        folder = scale.scratch / "throughput" / f"{slug}-{pair}"
        # A few steps more than are looked at, so that no evaluation falls into the stretch.
        text = job_text(
            workload,
            name=slug,
            max_steps=between[1] + 5,
            seed=17 + pair,
            checkpoints=folder / "runs",
        )
        job = ready(text, folder)
        sides = ["ours", *samplings]
        for side in sides if pair % 2 == 0 else reversed(sides):
            if side == "ours":
                watched = run_ours(job, name=side, between=between, stop_after=between[1])
            else:
                watched = run_trainer(
                    job, name=side, sampling=side, between=between, stop_after=between[1]
                )
            per_second, per_sample = _figures(watched, job)
            speed[side].append(per_second)
            effort[side].append(per_sample)
    for sampling, goal in zip(samplings, workload.goals, strict=False):
        yield Row(
            f"training: {workload.name}",
            "samples/s",
            speed["ours"],
            speed[sampling],
            peer=NAMES[sampling],
            goal=goal,
        )
        yield Row(
            f"training: {workload.name}",
            "CPU ms/sample",
            effort["ours"],
            effort[sampling],
            peer=NAMES[sampling],
            better="lower",
            note="all processes",
        )


def _figures(watched: Watched, job: Ready) -> tuple[float, float]:
    """Samples per second, and processor milliseconds per sample, of the set's mean length."""
    stretch = watched.stretch
    assert stretch is not None, "a stretch was asked for"
    samples = stretch.tokens / job.mean_tokens
    return samples / stretch.seconds, 1000 * stretch.cpu_seconds / samples
