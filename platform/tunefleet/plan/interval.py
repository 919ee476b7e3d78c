"""When to save: the interval that loses the least time between saving and failing.

Decides Young's interval T = √(2·M·δ) (Young 1974; Daly 2006), with M the mean time to failure
of all workers together and δ what a step waits for a save. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunefleet.api.base import duration_seconds
from tunefleet.api.job import CheckpointsSpec
from tunefleet.api.words import DeviceType
from tunefleet.plan.document import CheckpointPlan
from tunefleet.plan.facts import StorageFacts

# Stated, not measured: a laptop is closed, a spot machine taken back, about once a day.
HOURS_TO_FAILURE = 24.0
# Stated: copying state to host memory, bytes per second.
COPY_RATE = {DeviceType.CPU: 2e9, DeviceType.CUDA: 8e9, DeviceType.MPS: 2e9}
# Stated, where the probe could not measure the store.
WRITE_RATE = 50e6


@dataclass(frozen=True, slots=True)
class SaveCost:
    """What a save costs: its bytes, the stall of a step, and the writing behind it."""

    bytes: int
    stall_seconds: float
    write_seconds: float
    basis: str


def save_cost(size: int, device: DeviceType, storage: StorageFacts) -> SaveCost:
    """The cost of saving ``size`` bytes."""
    copy, write = COPY_RATE[device], storage.write_bytes_per_second or WRITE_RATE
    measured = "measured" if storage.write_bytes_per_second else "assumed"
    basis = (
        f"{size / 1e6:,.1f} MB; copied to host memory at {copy / 1e9:g} GB/s (assumed) = "
        f"{size / copy:.3f} s stall, written in the background at {write / 1e6:,.0f} MB/s "
        f"({measured}) = {size / write:.1f} s"
    )
    return SaveCost(size, size / copy, size / write, basis)


def young_daly(stall_seconds: float, workers: int) -> float:
    """Seconds between saves: √(2 × mean time to failure × stall)."""
    return math.sqrt(2 * HOURS_TO_FAILURE * 3600 / workers * stall_seconds)


def interval_seconds(stall_seconds: float, write_seconds: float, workers: int) -> float:
    """Young's interval, but never so short that a save is not over before the next one."""
    return max(young_daly(stall_seconds, workers), 2 * write_seconds)


def checkpoint_plan(
    spec: CheckpointsSpec, cost: SaveCost, *, workers: int, evaluation_steps: int
) -> CheckpointPlan:
    """The plan for ``checkpoints``, with the formula and its inputs as its basis.

    ``auto`` is Young's interval by the clock, so that it needs no guess at the speed of a
    step, and at every evaluation besides, so that the best weights are there to keep. The
    loop computes it again once the first save was measured.
    """
    every_steps: int | None = None
    every_seconds: float | None = None
    if isinstance(spec.every, int):
        every_steps = spec.every
        basis = f"checkpoints.every: {spec.every} steps; {cost.basis}"
    elif spec.every == "auto":
        wanted = young_daly(cost.stall_seconds, workers)
        every_seconds = interval_seconds(cost.stall_seconds, cost.write_seconds, workers)
        every_steps = evaluation_steps
        basis = (
            f"T = √(2 × MTTF × stall) = √(2 × {HOURS_TO_FAILURE:g} h ÷ {workers} × "
            f"{cost.stall_seconds:.3f} s) = {wanted:,.0f} s, with one failure per "
            f"{HOURS_TO_FAILURE:g} h and worker (assumed); {cost.basis}; never below twice the "
            f"writing; computed again once a save was measured; and at every evaluation "
            f"({evaluation_steps:,} steps), whichever is first"
        )
    else:
        every_seconds = float(duration_seconds(spec.every))
        basis = f"checkpoints.every: {spec.every}; {cost.basis}"
    return CheckpointPlan(
        every_steps=every_steps,
        every_seconds=every_seconds,
        bytes=cost.bytes,
        keep_last=spec.keep.last,
        keep_best=spec.keep.best,
        basis=basis,
        stall_seconds=cost.stall_seconds,
        follows_cost=spec.every == "auto",
    )
