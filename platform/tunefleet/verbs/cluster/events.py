"""``tunefleet events``: what happened to a job, as the cluster and its training told it.

Decides what belongs to a job (its own object, its attempts and everything that is called like
them) and the order: by attempt; the cluster's events by their time, then what training said, which
has an order but no clock of its own. Imports ``kube`` and its siblings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tunefleet.api.base import Document
from tunefleet.controller.kinds import ATTEMPTS, FINE_TUNE_JOBS
from tunefleet.kube.resources import EVENTS
from tunefleet.verbs import sections
from tunefleet.verbs.cluster import jobs
from tunefleet.verbs.cluster.connect import Cluster
from tunefleet.verbs.cluster.jobs import AttemptRead
from tunefleet.verbs.sections import Section

if TYPE_CHECKING:
    from rich.console import Console

WARNING = "Warning"
_TRAINING_WARNINGS = {"warning", "skipped", "unclaimed"}


class Happened(Document):
    """One event. ``time`` is empty for what training said; ``attempt`` None before the first."""

    time: str
    attempt: int | None
    type: str
    reason: str
    object: str
    message: str
    count: int = 1


class EventList(Document):
    """What happened to a job, in order."""

    job: str
    namespace: str
    events: list[Happened]

    def render(self, console: Console) -> None:
        """As a table."""
        if not self.events:
            console.print(
                f"no events of {self.job}: the cluster keeps its own for about an hour",
                highlight=False,
                soft_wrap=True,
            )
            return
        heads = ("when", "attempt", "what", "of", "message")
        rows = [
            (
                f"{jobs.age(each.time)} ago" if each.time else "",
                "" if each.attempt is None else str(each.attempt),
                each.reason,
                each.object,
                each.message + (f" (×{each.count})" if each.count > 1 else ""),
            )
            for each in self.events
        ]
        styles = tuple("yellow" if each.type == WARNING else "" for each in self.events)
        sections.render([Section(self.job, rows, heads, frozenset({0, 1}), styles)], console)


async def events(cluster: Cluster, name: str) -> EventList:
    """The events of a job, its attempts and their children."""
    job = await jobs.job(cluster, name)
    attempts = await jobs.attempts(cluster, job)
    found = []
    async for body in jobs.bodies(cluster, EVENTS):
        seen = _seen(json.loads(body), name, attempts)
        # An earlier job of this name has events too, for an hour.
        if seen is not None and seen.time >= job.metadata.creation_timestamp:
            found.append(seen)
    found += [each for attempt in attempts for each in said(attempt)]
    return EventList(job=name, namespace=cluster.namespace, events=sorted(found, key=_order))


def said(attempt: AttemptRead) -> list[Happened]:
    """What training said of itself, and how the attempt ended."""
    told = [
        Happened(
            time="",
            attempt=attempt.number,
            type=WARNING if event.get("kind") in _TRAINING_WARNINGS else "Normal",
            reason=str(event.get("kind", "")),
            object="training",
            message=str(event.get("message", "")),
        )
        for event in attempt.said
    ]
    result = attempt.result
    if result is not None:
        problems = "; ".join(str(problem.message) for problem in result.problems)
        told.append(
            Happened(
                time="",
                attempt=attempt.number,
                type=WARNING if result.failure else "Normal",
                reason=result.phase.value,
                object="preparing" if attempt.number == 0 else "training",
                message=": ".join(part for part in (result.message, problems) if part)
                or f"ended at step {result.step:,}",
            )
        )
    return told


def _seen(
    event: Mapping[str, object], job: str, attempts: Sequence[AttemptRead]
) -> Happened | None:
    """An event of the cluster; None for one that is about something else."""
    regarding = event.get("regarding")
    if not isinstance(regarding, dict):
        return None
    kind, name = str(regarding.get("kind", "")), str(regarding.get("name", ""))
    time = _time(event)
    attempt = next((a for a in attempts if name == a.name or name.startswith(f"{a.name}-")), None)
    if attempt is None and not (kind == FINE_TUNE_JOBS.kind and name == job):
        return None
    if attempt is None:
        begun = [a.number for a in attempts if a.metadata.creation_timestamp <= time]
        number = max(begun, default=None)
    else:
        number = attempt.number
    return Happened(
        time=time,
        attempt=number,
        type=str(event.get("type", "Normal")),
        reason=str(event.get("reason", "")),
        object=kind if kind in {FINE_TUNE_JOBS.kind, ATTEMPTS.kind} else f"{kind} {name}",
        message=str(event.get("note", "")),
        count=_count(event),
    )


def _time(event: Mapping[str, object]) -> str:
    """When it was said last, to the second; the core group's events have other fields."""
    series = event.get("series")
    last = series.get("lastObservedTime") if isinstance(series, dict) else None
    metadata = event.get("metadata")
    made = metadata.get("creationTimestamp") if isinstance(metadata, dict) else None
    found = last or event.get("deprecatedLastTimestamp") or event.get("eventTime") or made or ""
    return f"{str(found)[:19]}Z" if found else ""


def _count(event: Mapping[str, object]) -> int:
    series = event.get("series")
    found = series.get("count") if isinstance(series, dict) else event.get("deprecatedCount")
    return found if isinstance(found, int) and found > 0 else 1


def _order(event: Happened) -> tuple[int, bool, str]:
    return (-1 if event.attempt is None else event.attempt, not event.time, event.time)
