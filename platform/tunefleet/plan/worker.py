"""WorkerConfig: everything one training process is told.

The same document whether Ray, torchrun or a pod starts the process. It holds no secret and
no choice: choices are in the plan. Imports ``api`` and ``plan`` alone.
"""

from __future__ import annotations

from typing import Any, Literal

from tunefleet.api.base import Document
from tunefleet.api.job import TrackingSpec
from tunefleet.api.rates import Rate
from tunefleet.plan.document import Plan


class RunAddress(Document):
    """Where a run lives: ``<uri>/<namespace>/<job>/<run id>/`` and which attempt this is."""

    uri: str
    namespace: str
    job: str
    run: str
    attempt: int


class WorkerConfig(Document):
    """What a worker reads when it starts.

    ``job`` is the job as JSON values (camelCase), so that this module does not depend on
    how a job is validated. ``scratch`` is a local folder shared by the run's processes on
    one machine: progress goes out and commands come in through it (``channel``).
    ``carried``: the process runs where nothing was prepared; model and tokens are fetched from
    where the run keeps them, and ``model_path`` and ``stores`` are those of another machine.
    ``started_ns`` is the machine's monotonic clock at the start of the attempt, where all of its
    processes are on that machine; ``rates`` are the prices of its time, fixed when it starts
    (none: unpriced). ``tracking`` is the job's, with local paths made absolute.
    """

    version: Literal[1] = 1
    address: RunAddress
    job: dict[str, Any]
    plan: Plan
    model_path: str
    labels: list[str]
    stores: dict[str, str]
    scratch: str
    carried: bool = False
    rates: list[Rate] = []
    started_ns: int | None = None
    tracking: TrackingSpec | None = None
