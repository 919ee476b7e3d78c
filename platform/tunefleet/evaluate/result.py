"""What came out of a run: the records that reports, comparisons and scripts read.

Decides the shape of ``report/result.json`` (also printed by ``tunefleet run --json``) and of
the run's history. Imports ``api`` and ``channel`` alone.
"""

from __future__ import annotations

from typing import Literal

from tunefleet.api.base import Document
from tunefleet.api.words import Cause, FailureClass, Phase
from tunefleet.channel.schema import EvaluationRecord


class CurvePoint(Document):
    """A stretch of steps ending at ``step``: weighted mean loss, mean gradient norm."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float


class History(Document):
    """What happened up to a checkpoint; bounded in size, carried in every checkpoint."""

    curve: list[CurvePoint] = []
    stride: int = 1
    evaluations: list[EvaluationRecord] = []
    skipped_steps: list[int] = []
    samples: int = 0
    tokens: int = 0


class SplitResult(Document):
    """A split's metrics before training (the base model) and after it."""

    before: dict[str, float]
    after: dict[str, float]
    units: int


class BundleResult(Document):
    """Where the bundle is, and the digest of what affects its answers."""

    uri: str
    path: str
    digest: str
    bytes: int


class CheckpointResult(Document):
    """A committed checkpoint."""

    step: int
    name: str
    bytes: int
    metric: float | None = None


class GateResult(Document):
    """Whether the tuned model reached what the job asks for before it is served."""

    metric: str
    value: float
    bound: str
    passed: bool


class Outcome(Document):
    """What the workers leave behind when a run is finished (``report/outcome.json``)."""

    version: Literal[1] = 1
    steps: int
    best_step: int | None
    stopped_early: bool
    chain: str
    splits: dict[str, SplitResult]
    bundle: BundleResult
    history: History


class RunResult(Document):
    """The end of a run. ``seconds`` are worker-seconds by cause over all attempts.

    They are wall time (``metered_seconds``, from the start of the command to the end of its
    workers, over all attempts) × workers; ``unpriced_seconds`` of them have no price. ``money``
    is micro-dollars by cause and adds up to ``cost_microdollars`` (None: unpriced, not free).
    ``failure`` says why a run that did not finish ended.

    ``splits`` is keyed by ``validation`` and, where the job has one, ``test``.
    ``resumed_from`` is the step at which this attempt went on (0: it began).
    ``report_copy`` is where a report that was put into a remote store can be opened here.
    """

    version: Literal[1] = 1
    phase: Phase
    failure: FailureClass | None = None
    message: str = ""
    job: str
    namespace: str
    run: str
    attempt: int
    run_uri: str
    task: str
    metric: str
    steps: int
    total_steps: int
    best_step: int | None = None
    stopped_early: bool = False
    resumed_from: int
    workers: int
    splits: dict[str, SplitResult] = {}
    gate: GateResult | None = None
    bundle: BundleResult | None = None
    report: str | None = None
    report_copy: str | None = None
    seconds: dict[Cause, float] = {}
    wall_seconds: float
    metered_seconds: float = 0.0
    cost_microdollars: int | None = None
    money: dict[Cause, int] = {}
    unpriced_seconds: float = 0.0
    price_microdollars_per_hour: int | None = None
    checkpoints: list[CheckpointResult] = []
    digest_chain: str = ""
    environment: dict[str, str] = {}
