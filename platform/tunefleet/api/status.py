"""The status of a FineTuneJob: what everybody may read of where it stands.

Decides the conditions, their reasons and the bounded summary beside them. Conditions are the
truth (``kubectl wait --for=condition=Succeeded``); ``phase`` sums them up for people. Imports
``api`` alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tunefleet.api.attempt import AttemptBundle
from tunefleet.api.base import Document
from tunefleet.api.words import FailureClass

ATTEMPTS_KEPT = 20

BY_TYPE = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
"""Conditions are one list to read and one entry each to own."""


class JobPhase(StrEnum):
    """Where a job stands, in a word."""

    PENDING = "Pending"
    PREPARING = "Preparing"
    QUEUED = "Queued"
    LAUNCHING = "Launching"
    RUNNING = "Running"
    EVALUATING = "Evaluating"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    STOPPED = "Stopped"
    FAILED = "Failed"


FINAL = frozenset({JobPhase.SUCCEEDED, JobPhase.STOPPED, JobPhase.FAILED})
"""Where nothing more happens to a job by itself."""


class ConditionType(StrEnum):
    """What can be waited for. Each is True, False or Unknown.

    ``RECONCILING`` and ``STALLED`` are the two that kstatus, and with it Argo CD and Flux,
    derive an object's health from.
    """

    ACCEPTED = "Accepted"
    PREPARED = "Prepared"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Reason(StrEnum):
    """Why a condition is as it is; a closed list, for machines."""

    VALID = "Valid"
    INVALID_SPEC = "InvalidSpec"
    NAMESPACE_LIMIT = "NamespaceLimit"
    NAME_TAKEN = "NameTaken"
    KUBERNETES_TOO_OLD = "KubernetesTooOld"
    KUBERAY_MISSING = "KubeRayMissing"
    KUBERAY_TOO_OLD = "KubeRayTooOld"
    PREPARING = "Preparing"
    CHECKED = "Checked"
    INPUT_REFUSED = "InputRefused"
    PLAN_REFUSED = "PlanRefused"
    QUEUED = "Queued"
    LAUNCHING = "Launching"
    TRAINING = "Training"
    RETRYING = "Retrying"
    SUSPENDING = "Suspending"
    SUSPENDED = "Suspended"
    CANCELLED = "Cancelled"
    FINISHED = "Finished"
    STOPPED = "Stopped"
    ATTEMPT_FAILED = "AttemptFailed"
    TOO_MANY_FAILURES = "TooManyFailures"


class Condition(Document):
    """A condition as Kubernetes has them (``metav1.Condition``)."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: Reason
    message: str = ""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    observed_generation: int | None = None


class AttemptSummary(Document):
    """One line on an attempt that was made.

    ``step`` is the last one that is safe in a checkpoint (of an attempt that goes on: the last
    one that was told). ``workers`` is how many it was planned with, and ``placed`` how many of
    them had a place where that is why it ended. ``launched``: its Job or RayJob has been made,
    and is not made again. ``ended`` is when that was noticed.
    """

    name: str
    number: int
    phase: str
    failure: FailureClass | None = None
    message: str = ""
    step: int = 0
    resumed_from: int = 0
    workers: int | None = None
    placed: int | None = None
    launched: bool = False
    ended: str | None = None


class JobProgress(Document):
    """How far training is. ``percent`` is of all steps; ``eta`` is text such as ``12:03``."""

    step: int = 0
    total_steps: int = 0
    percent: int = 0
    epoch: float = 0.0
    loss: float | None = None
    samples_per_second: float | None = None
    eta: str = ""
    checkpoint_step: int | None = None
    workers: int = 0


class JobEvaluation(Document):
    """The metric that chooses the best checkpoint, and all final metrics once there are any."""

    metric: str = ""
    best: float | None = None
    metrics: dict[str, float] = {}


class JobStatus(Document):
    """``status`` of a FineTuneJob, bounded in size."""

    observed_generation: int = 0
    phase: JobPhase = JobPhase.PENDING
    message: str = ""
    conditions: Annotated[list[Condition], Field(json_schema_extra=BY_TYPE)] = []
    run: str | None = None
    attempts: list[AttemptSummary] = []
    progress: JobProgress | None = None
    evaluation: JobEvaluation | None = None
    bundle: AttemptBundle | None = None
    report: str = ""
