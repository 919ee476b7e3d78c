"""What a run says while it goes on, and what may be asked of it.

Decides the schema of progress and events; the back ends (a local folder, a terminal, later a
Kubernetes object) only carry it. Imports ``api`` alone.
"""

from __future__ import annotations

from typing import Literal

from tunefleet.api.base import Document
from tunefleet.api.words import Cause, Command, Phase

EventKind = Literal["resumed", "checkpoint", "evaluation", "skipped", "warning", "unclaimed"]


class Progress(Document):
    """The newest state of a run; each one replaces the one before.

    ``loss`` is the mean over supervised examples or tokens since the last progress.
    ``seconds`` is worker-seconds by cause over all workers and attempts of the run so far, and
    ``cost_microdollars`` what they cost (None: unpriced), of which ``unpriced_seconds`` have no
    price. What is left of a budget is None where there is no such limit.
    """

    phase: Phase
    step: int
    total_steps: int
    epoch: float
    epochs: int
    workers: int
    loss: float | None = None
    learning_rate: float | None = None
    samples_per_second: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    checkpoint_step: int | None = None
    best_metric: float | None = None
    metric_name: str | None = None
    seconds: dict[Cause, float] = {}
    cost_microdollars: int | None = None
    unpriced_seconds: float = 0.0
    budget_left_microdollars: int | None = None
    budget_left_seconds: float | None = None
    note: str = ""


class StepRecord(Document):
    """One optimiser step in the run's history (``loss`` None: the step was skipped)."""

    step: int
    epoch: int
    loss: float | None
    grad_norm: float | None
    learning_rate: float
    weight: int
    units: int
    tokens: int
    seconds: float


class EvaluationRecord(Document):
    """One evaluation of the validation rows."""

    step: int
    metrics: dict[str, float]
    best: bool
    seconds: float


class Event(Document):
    """Something that happened; events are in the order in which they were written.

    ``unclaimed``: a group of workers could not even claim its start, because storage does not
    answer; it is the only place where that can be said.
    """

    kind: EventKind
    message: str
    step: int | None = None


class CommandRecord(Document):
    """What is asked of a run. A higher ``sequence`` replaces a lower one."""

    command: Command
    sequence: int
    reason: str = ""
