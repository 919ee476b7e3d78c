"""The status of a job, put together from what was observed and decided.

Decides which conditions a stage has and what the short lines say. A condition's transition
time moves only when its status does. Pure; the clock is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from tunefleet.api.attempt import AttemptBundle
from tunefleet.api.status import (
    ATTEMPTS_KEPT,
    FINAL,
    AttemptSummary,
    Condition,
    ConditionType,
    JobEvaluation,
    JobPhase,
    JobProgress,
    JobStatus,
    Reason,
)
from tunefleet.channel.schema import Progress

Truth = Literal["True", "False", "Unknown"]

MESSAGE_LIMIT = 4096


@dataclass(slots=True)
class Story:
    """What is to be told of a job now; handed through the steps of a decision."""

    phase: JobPhase
    reason: Reason
    message: str = ""
    accepted: tuple[Truth, Reason, str] = ("True", Reason.VALID, "")
    prepared: tuple[Truth, Reason, str] = ("Unknown", Reason.PREPARING, "")
    run: str | None = None
    attempts: list[AttemptSummary] = field(default_factory=list)
    progress: Progress | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    bundle: AttemptBundle | None = None
    report: str = ""


def status_of(story: Story, before: JobStatus, generation: int, now: datetime) -> JobStatus:
    """The status that tells ``story``, after ``before``."""
    conditions = _merged(before.conditions, _conditions(story), generation, now)
    return JobStatus(
        observed_generation=generation,
        phase=story.phase,
        message=story.message[:MESSAGE_LIMIT],
        conditions=conditions,
        run=story.run or before.run,
        attempts=story.attempts[-ATTEMPTS_KEPT:],
        progress=_progress(story.progress) or before.progress,
        evaluation=_evaluation(story) or before.evaluation,
        bundle=story.bundle or before.bundle,
        report=story.report or before.report,
    )


def _conditions(story: Story) -> list[tuple[ConditionType, Truth, Reason, str]]:
    phase, told = story.phase, (story.reason, story.message)
    final = phase in FINAL
    succeeded: Truth = "True" if phase is JobPhase.SUCCEEDED else "False" if final else "Unknown"
    runs: Truth = "True" if phase in {JobPhase.RUNNING, JobPhase.EVALUATING} else "False"
    failed: Truth = "True" if phase is JobPhase.FAILED else "False"
    return [
        (ConditionType.ACCEPTED, *story.accepted),
        (ConditionType.PREPARED, *story.prepared),
        (ConditionType.RUNNING, runs, *told),
        (ConditionType.SUCCEEDED, succeeded, *told),
        (ConditionType.FAILED, failed, *told),
        (ConditionType.RECONCILING, "False" if final else "True", *told),
        (ConditionType.STALLED, failed, *told),
    ]


def _merged(
    before: Sequence[Condition],
    told: Iterable[tuple[ConditionType, Truth, Reason, str]],
    generation: int,
    now: datetime,
) -> list[Condition]:
    known = {condition.type: condition for condition in before}
    merged = []
    for kind, truth, reason, message in told:
        old = known.get(kind)
        moved = old is None or old.status != truth
        merged.append(
            Condition(
                type=kind,
                status=truth,
                reason=reason,
                message=message[:MESSAGE_LIMIT],
                last_transition_time=timestamp(now)
                if moved or old is None
                else old.last_transition_time,
                observed_generation=generation,
            )
        )
    return merged


def timestamp(moment: datetime) -> str:
    """A moment as Kubernetes writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _progress(progress: Progress | None) -> JobProgress | None:
    if progress is None:
        return None
    return JobProgress(
        step=progress.step,
        total_steps=progress.total_steps,
        percent=100 * progress.step // max(1, progress.total_steps),
        epoch=round(progress.epoch, 3),
        loss=progress.loss,
        samples_per_second=progress.samples_per_second,
        eta=_clock(progress.eta_seconds),
        checkpoint_step=progress.checkpoint_step,
        workers=progress.workers,
    )


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _rounded(value: float | None) -> float | None:
    """Enough digits for a table."""
    return None if value is None else round(value, 4)


def _evaluation(story: Story) -> JobEvaluation | None:
    progress = story.progress
    if progress is None and not story.metrics:
        return None
    return JobEvaluation(
        metric=(progress.metric_name or "") if progress else "",
        best=_rounded(progress.best_metric) if progress else None,
        metrics=story.metrics,
    )
