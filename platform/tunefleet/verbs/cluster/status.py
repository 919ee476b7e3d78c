"""``tunefleet status``: the jobs of a namespace in a table, or one with all that is known.

Decides the columns, what one job's page says and what comes next. Imports ``kube`` and its
siblings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from tunefleet.api.attempt import AttemptBundle
from tunefleet.api.base import Document
from tunefleet.api.errors import ClusterError
from tunefleet.api.status import (
    AttemptSummary,
    Condition,
    ConditionType,
    JobEvaluation,
    JobPhase,
    JobProgress,
    Reason,
)
from tunefleet.controller.seen import JobSeen
from tunefleet.evaluate import words
from tunefleet.kube.errors import ApiError
from tunefleet.verbs import sections
from tunefleet.verbs.cluster import jobs
from tunefleet.verbs.cluster.connect import Cluster
from tunefleet.verbs.sections import Section

if TYPE_CHECKING:
    from rich.console import Console

EVERY_SECONDS = 2.0
SILENT_SECONDS = 120.0
"""How long an API server may be away while somebody watches."""
SUCCEEDED, FAILED, OUT_OF_BUDGET = 0, 1, 3
_BAR = 24
_STYLES = {
    JobPhase.SUCCEEDED: "green",
    JobPhase.FAILED: "red",
    JobPhase.STOPPED: "yellow",
    JobPhase.SUSPENDED: "yellow",
}


class JobStatusResult(Document):
    """Where a job stands."""

    name: str
    namespace: str
    created: str
    phase: JobPhase
    message: str
    run: str | None
    suspend: bool
    cancel: bool
    conditions: list[Condition]
    attempts: list[AttemptSummary]
    progress: JobProgress | None
    evaluation: JobEvaluation | None
    bundle: AttemptBundle | None
    report: str

    @staticmethod
    def of(seen: JobSeen) -> JobStatusResult:
        """What a job's object says."""
        status = seen.status
        return JobStatusResult(
            name=seen.name,
            namespace=seen.namespace,
            created=seen.metadata.creation_timestamp,
            phase=status.phase,
            message=status.message,
            run=status.run,
            suspend=seen.spec.suspend,
            cancel=seen.spec.cancel,
            conditions=status.conditions,
            attempts=status.attempts,
            progress=status.progress,
            evaluation=status.evaluation,
            bundle=status.bundle,
            report=status.report,
        )

    @property
    def final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.phase in {JobPhase.SUCCEEDED, JobPhase.STOPPED, JobPhase.FAILED}

    @property
    def exit_code(self) -> int:
        """As ``tunefleet run`` ends: 0 succeeded, 3 stopped by its budget, 1 any other end."""
        if self.phase is JobPhase.SUCCEEDED:
            return SUCCEEDED
        told = next((c for c in self.conditions if c.type is ConditionType.SUCCEEDED), None)
        by_budget = told is not None and told.reason is Reason.STOPPED
        return OUT_OF_BUDGET if self.phase is JobPhase.STOPPED and by_budget else FAILED

    @property
    def waits_for_controller(self) -> bool:
        """Whether nobody has looked at the job yet."""
        return not self.conditions

    def line(self) -> str:
        """Where it stands, in a line."""
        parts = [self.phase.value]
        if self.progress is not None and self.phase in {JobPhase.RUNNING, JobPhase.EVALUATING}:
            parts.append(progress_line(self.progress))
        if self.waits_for_controller:
            parts.append("no controller has taken it up yet")
        if self.message:
            parts.append(self.message)
        return "  ".join(parts)

    def render(self, console: Console) -> None:
        """As a page."""
        from rich.text import Text

        head = Text(f"{self.name}", style="bold")
        head.append(f"  namespace {self.namespace}, {jobs.age(self.created)} old", style="dim")
        console.print(head)
        line = Text(self.phase.value, style=_STYLES.get(self.phase, ""))
        waits = "no controller has taken it up yet" if self.waits_for_controller else ""
        line.append(f": {self.message or waits}" if self.message or waits else "")
        console.print(line, soft_wrap=True)
        if self.progress is not None:
            console.print(f"{bar(self.progress)} {progress_line(self.progress)}", highlight=False)
        console.print()
        sections.render(self._sections(), console)
        for name, where in (
            ("bundle", self.bundle.uri if self.bundle else ""),
            ("report", self.report),
        ):
            if where:
                console.print(f"{name}: {where}", highlight=False, soft_wrap=True)
        console.print(f"next: {self._next()}", highlight=False, soft_wrap=True)

    def _next(self) -> str:
        where = f"-n {self.namespace} {self.name}"
        if self.bundle is not None:
            return f"tunefleet predict {self.bundle.uri} --text '…'"
        if self.phase is JobPhase.SUSPENDED:
            return f"tunefleet resume {where}"
        if self.waits_for_controller:
            return "kubectl get deployment --all-namespaces -l app.kubernetes.io/name=tunefleet"
        return f"tunefleet {'logs' if self.final else 'logs --follow'} {where}"

    def _sections(self) -> list[Section]:
        metrics = self.evaluation.metrics if self.evaluation else {}
        found = (
            Section(
                "conditions",
                [
                    (
                        each.type.value,
                        each.status,
                        each.reason.value,
                        jobs.age(each.last_transition_time),
                        each.message,
                    )
                    for each in self.conditions
                ],
                ("type", "is", "reason", "since", "message"),
            ),
            Section(
                "attempts",
                [_attempt_row(each) for each in self.attempts],
                ("attempt", "phase", "workers", "safe step", "resumed from", "failure", "message"),
                frozenset({2, 3, 4}),
            ),
            Section(
                "metrics",
                [(name, words.metric(value)) for name, value in metrics.items()],
                (),
                frozenset({1}),
            ),
        )
        return [section for section in found if section.rows]


def _attempt_row(attempt: AttemptSummary) -> tuple[str, ...]:
    return (
        str(attempt.number),
        attempt.phase,
        str(attempt.workers or ""),
        f"{attempt.step:,}",
        f"{attempt.resumed_from:,}" if attempt.resumed_from else "",
        attempt.failure.value if attempt.failure else "",
        attempt.message,
    )


class JobTable(Document):
    """All jobs of a namespace."""

    namespace: str
    jobs: list[JobStatusResult]

    def render(self, console: Console) -> None:
        """As a table."""
        if not self.jobs:
            text = f"no jobs in the namespace {self.namespace}; next: tunefleet submit job.yaml"
            console.print(text, highlight=False, soft_wrap=True)
            return
        heads = ("job", "phase", "progress", "left", "metric", "best", "attempts", "age", "message")
        rows = [
            (
                job.name,
                job.phase.value,
                f"{job.progress.percent} %" if job.progress else "",
                job.progress.eta if job.progress and not job.final else "",
                job.evaluation.metric if job.evaluation else "",
                words.metric(job.evaluation.best) if job.evaluation else "",
                str(sum(attempt.number > 0 for attempt in job.attempts)),
                jobs.age(job.created),
                job.message.partition("\n")[0][:120],
            )
            for job in self.jobs
        ]
        styles = tuple(_STYLES.get(job.phase, "") for job in self.jobs)
        title = f"namespace {self.namespace}"
        sections.render([Section(title, rows, heads, frozenset({2, 3, 5, 6, 7}), styles)], console)


async def list_jobs(cluster: Cluster) -> JobTable:
    """All jobs of the namespace, the newest first."""
    found = [JobStatusResult.of(seen) for seen in await jobs.jobs(cluster)]
    return JobTable(namespace=cluster.namespace, jobs=found)


async def show_job(cluster: Cluster, name: str) -> JobStatusResult:
    """One job."""
    return JobStatusResult.of(await jobs.job(cluster, name))


async def watch_job(
    cluster: Cluster,
    name: str,
    say: Callable[[JobStatusResult], None],
    *,
    every: float = EVERY_SECONDS,
    silent: float = SILENT_SECONDS,
) -> JobStatusResult:
    """Follow a job to its end; ``say`` is told of every state that differs from the one before.

    An API server that is away for a while is waited for.
    """
    seen = await jobs.job(cluster, name)
    uid, before, away = seen.uid, None, 0.0
    while True:
        found = JobStatusResult.of(seen)
        if found != before:
            say(found)
            before = found
        if found.final:
            return found
        await asyncio.sleep(every)
        try:
            seen = await jobs.job(cluster, name)
            away = 0.0
        except ApiError as error:
            away += every
            if not (error.unreachable or error.status >= 500) or away > silent:
                raise
            continue
        except ClusterError:
            raise _gone(name) from None
        if seen.uid != uid:
            raise _gone(name)


def _gone(name: str) -> ClusterError:
    return ClusterError(
        f"{name} was deleted meanwhile", remedy="its runs are kept in its checkpoints.uri"
    )


def bar(progress: JobProgress) -> str:
    """How far it is, drawn."""
    full = _BAR * progress.step // max(1, progress.total_steps)
    return "━" * full + "╌" * (_BAR - full)


def progress_line(progress: JobProgress) -> str:
    """How far it is, in numbers."""
    parts = [
        f"{progress.percent} %",
        f"step {progress.step:,}/{progress.total_steps:,}",
        f"epoch {progress.epoch:.2f}",
    ]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.samples_per_second is not None:
        parts.append(f"{progress.samples_per_second:.1f} samples/s")
    parts += [f"{progress.eta} left"] if progress.eta else []
    parts += [f"{progress.workers} workers"] if progress.workers else []
    if progress.checkpoint_step is not None:
        parts.append(f"saved at {progress.checkpoint_step:,}")
    return "  ".join(parts)
