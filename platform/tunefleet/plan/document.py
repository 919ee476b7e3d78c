"""The plan as a record: what will be run, how big, how dear, and why.

Decides the shape of ``plan.json``. Once a run has started its plan is frozen: micro-batches
are the unit of work and their cut never changes during a job's life. Imports ``api`` alone.
"""

from __future__ import annotations

from typing import Literal

from tunefleet.api.base import Document
from tunefleet.api.words import DeviceType, Precision

Place = Literal["device", "host"]


class Decision(Document):
    """A value that the user left open, what was chosen, and why."""

    field: str
    value: str
    reason: str


class MemoryPart(Document):
    """A part of a worker's memory (bytes).

    ``place`` tells a GPU's own memory from the machine's; without a GPU all of it is
    ``device``. ``exact`` parts are counted to the byte, the others are estimated.
    """

    name: str
    bytes: int
    basis: str
    place: Place = "device"
    exact: bool = False


class Estimate(Document):
    """A number with the way it was found; ``low`` and ``high`` bound it where known."""

    value: float
    low: float | None = None
    high: float | None = None
    basis: str


class CheckpointPlan(Document):
    """When checkpoints are taken: after so many steps or seconds, whichever is first.

    ``bytes`` is the size of one. ``stall_seconds`` is how long a step is expected to wait
    for the copy to host memory. ``follows_cost``: ``every_seconds`` is Young's interval, to be
    computed again from what a save was measured to cost.
    """

    every_steps: int | None = None
    every_seconds: float | None = None
    bytes: int
    keep_last: int
    keep_best: int
    basis: str
    stall_seconds: float = 0.0
    follows_cost: bool = False


class OptimizerPlan(Document):
    """The optimiser with every default settled. ``warmup_steps`` counts optimiser steps."""

    name: Literal["adamw", "sgd"]
    learning_rate: float
    weight_decay: float
    schedule: Literal["linear", "cosine", "constant"]
    warmup_steps: int
    clip_norm: float | None
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum: float = 0.0


class EvaluationPlan(Document):
    """When and how the validation rows are scored (``every_steps`` in optimiser steps)."""

    every_steps: int
    micro_batch: int
    metric: str
    higher_is_better: bool
    patience: int | None = None
    min_delta: float = 0.0


class BudgetPlan(Document):
    """The limits of a run over all its attempts, and what is kept back at its end.

    ``reserve`` is in seconds: it stops when spent + reserve reaches a limit. ``ending_seconds``
    is the part of it that comes after the last look at the clock: the checkpoint, and what
    ends a run. ``start_seconds`` is what a start is expected to take before its first step.
    """

    max_microdollars: int | None = None
    max_seconds: int | None = None
    on_exceeded: Literal["Warn", "CheckpointAndStop"]
    reserve: Estimate
    ending_seconds: float
    start_seconds: float


class Plan(Document):
    """What will be run. ``micro_batch`` in units; ``total_steps`` in optimiser steps.

    ``padding`` is the expected share of computed tokens that is padding, ``padded_tokens``
    what one epoch computes. ``memory`` is per worker, ``memory_available`` what one worker
    may use of its device (without a GPU: of the machine). ``price_microdollars_per_hour``
    is per worker; without it ``cost_dollars`` is None: unpriced, not free.
    """

    version: Literal[1] = 1
    job: str
    namespace: str
    task: str
    spec_digest: str
    model_digest: str
    data_digest: str
    parameters: int
    trainable_parameters: int
    seed: int
    epochs: int
    batch_size: int
    micro_batch: int
    micro_batches_per_step: int
    window_steps: int
    steps_per_epoch: int
    total_steps: int
    max_length: int
    device: DeviceType
    precision: Precision
    gradient_checkpointing: bool
    workers: int
    threads_per_worker: int
    optimizer: OptimizerPlan
    evaluation: EvaluationPlan
    checkpoints: CheckpointPlan
    max_failures: int
    train_units: int
    train_tokens: int
    padding: Estimate
    memory: list[MemoryPart]
    memory_available: int
    seconds: Estimate
    cost_dollars: Estimate | None = None
    price_microdollars_per_hour: int | None = None
    budget: BudgetPlan | None = None
    padded_tokens: int = 0
    device_name: str = ""
    decisions: list[Decision] = []
    warnings: list[str] = []
