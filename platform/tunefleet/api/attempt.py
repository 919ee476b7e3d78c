"""FineTuneAttempt: one stage of a job's life on a cluster, frozen when it is made.

Decides the shape of ``kind: FineTuneAttempt``, which the controller makes and never changes
but for ``spec.command``, and whose status only the attempt's own pods write. Attempt 0
prepares (checks, facts, tokens); every later one trains, as one RayJob. Imports ``api`` and
the records that travel in it as JSON values, so that it depends on no other package.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from tunefleet.api.base import Document
from tunefleet.api.words import Command, FailureClass, Phase

ATTEMPT_ENVIRONMENT = "TUNEFLEET_ATTEMPT"
NAMESPACE_ENVIRONMENT = "TUNEFLEET_NAMESPACE"
"""Where a pod is told which attempt it belongs to."""

EVENTS_KEPT = 20
PROBLEMS_KEPT = 20


class Stage(StrEnum):
    """What an attempt does."""

    PREPARE = "Prepare"
    TRAIN = "Train"


class AttemptSpec(Document):
    """What an attempt's pods are told.

    ``manifest`` is the job as JSON values as it stood when the attempt was made, ``plan`` a
    :class:`~tunefleet.plan.document.Plan` (None while preparing) and ``run`` the run's id in
    storage, which preparing found or made. ``owner`` is the job's uid, by which storage knows
    the run. ``profile`` is the :class:`~tunefleet.api.profile.ProfileSpec` as it stood then. A
    higher ``sequence`` is a newer command.
    """

    job: str
    owner: str
    number: Annotated[int, Field(ge=0)]
    stage: Stage
    manifest: dict[str, Any]
    run: str | None = None
    plan: dict[str, Any] | None = None
    profile: dict[str, Any] | None = None
    command: Command = Command.NONE
    sequence: Annotated[int, Field(ge=0)] = 0


class AttemptProblem(Document):
    """One thing that is wrong with the job's input, with its place and its remedy."""

    message: str
    where: str = ""
    remedy: str = ""
    file: str = ""
    line: int | None = None


class AttemptBundle(Document):
    """The servable result."""

    uri: str
    digest: str


class AttemptResult(Document):
    """How an attempt ended, in its own words. Written once, as the last thing."""

    phase: Phase
    failure: FailureClass | None = None
    message: str = ""
    problems: list[AttemptProblem] = []
    step: int = 0
    resumed_from: int = 0
    metrics: dict[str, float] = {}
    bundle: AttemptBundle | None = None
    report: str = ""


class AttemptStatus(Document):
    """What an attempt's pods say of themselves.

    ``facts`` is a :class:`~tunefleet.plan.facts.Facts`, ``progress`` a
    :class:`~tunefleet.channel.schema.Progress` and ``events`` the newest of
    :class:`~tunefleet.channel.schema.Event`, all as JSON values.
    """

    run: str | None = None
    facts: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    events: list[dict[str, Any]] = []
    result: AttemptResult | None = None
