"""Jobs and attempts as a user's verbs read them.

Decides how a job is found, with the nearest name for a wrong one, and which attempts are its
own. Imports ``controller.seen`` and ``kube``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from tunefleet.api.attempt import AttemptResult
from tunefleet.api.errors import ClusterError
from tunefleet.api.status import FINAL, Condition, ConditionType
from tunefleet.api.suggest import did_you_mean
from tunefleet.controller.kinds import ATTEMPTS, FINE_TUNE_JOBS, PODS
from tunefleet.controller.seen import AttemptSeen, JobSeen, PodSeen, job_seen
from tunefleet.kube.errors import ApiError
from tunefleet.kube.resources import Resource
from tunefleet.render.names import ATTEMPT_LABEL, JOB_LABEL
from tunefleet.verbs.cluster.connect import Cluster

_JOB_NAME = "batch.kubernetes.io/job-name"


class _Asked(BaseModel):
    """What an attempt was made for, beside what the controller keeps of it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    manifest: dict[str, Any] = {}
    run: str | None = None


class _Told(BaseModel):
    """What its pods said."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    events: list[dict[str, Any]] = []
    run: str | None = None


class _Whole(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    spec: _Asked = _Asked()
    status: _Told = _Told()


class AttemptRead(AttemptSeen):
    """An attempt with its job, its run's id ("": none yet) and what its training said."""

    manifest: dict[str, Any] = {}
    run: str = ""
    said: list[dict[str, Any]] = []

    @property
    def number(self) -> int:
        """Its number; 0 prepares."""
        return self.spec.number

    @property
    def result(self) -> AttemptResult | None:
        """How it ended, in its own words."""
        return self.status.result


async def job(cluster: Cluster, name: str) -> JobSeen:
    """A job; raises ``ClusterError`` with the nearest name where there is none."""
    return job_seen(json.dumps(await whole_job(cluster, name)).encode())


async def whole_job(cluster: Cluster, name: str) -> dict[str, object]:
    """A job's object as the server has it."""
    try:
        return await cluster.client.get(FINE_TUNE_JOBS, cluster.namespace, name)
    except ApiError as error:
        # A kind that the server does not know has no name in its answer.
        if not (error.not_found and error.details.get("name")):
            raise
    raise _unknown(name, cluster.namespace, [seen.name for seen in await jobs(cluster)])


def _unknown(name: str, namespace: str, known: Sequence[str]) -> ClusterError:
    if not known:
        remedy = "name another namespace with -n, or `tunefleet submit job.yaml`"
        return ClusterError(f"there are no jobs in the namespace {namespace}", remedy=remedy)
    remedy = did_you_mean(name, known) or f"there are {', '.join(sorted(known)[:20])}"
    return ClusterError(f"there is no job {name!r} in the namespace {namespace}", remedy=remedy)


async def jobs(cluster: Cluster) -> list[JobSeen]:
    """All jobs of the namespace, the newest first."""
    found = [job_seen(body) async for body in bodies(cluster, FINE_TUNE_JOBS)]
    return sorted(found, key=lambda job: job.metadata.creation_timestamp, reverse=True)


async def attempts(cluster: Cluster, of: JobSeen) -> list[AttemptRead]:
    """A job's attempts in their order; not those of an earlier job of this name."""
    found = []
    async for body in bodies(cluster, ATTEMPTS, f"{JOB_LABEL}={of.name}"):
        whole = _Whole.model_validate_json(body)
        seen = AttemptRead.model_validate_json(body)
        if seen.owner_uid == of.uid:
            more = {
                "manifest": whole.spec.manifest,
                "run": whole.spec.run or whole.status.run or "",
                "said": whole.status.events,
            }
            found.append(seen.model_copy(update=more))
    return sorted(found, key=lambda attempt: attempt.number)


async def pods(cluster: Cluster, attempt: str) -> dict[str, tuple[PodSeen, list[str]]]:
    """An attempt's pods by name, each with the names of its containers."""
    found = {}
    for selector in (f"{ATTEMPT_LABEL}={attempt}", f"{_JOB_NAME}={attempt}"):
        async for body in bodies(cluster, PODS, selector):
            seen = PodSeen.read(body)
            spec = cast("dict[str, list[dict[str, str]]]", json.loads(body).get("spec", {}))
            names = [container["name"] for container in spec.get("containers", [])]
            found[seen.name] = (seen, names)
    return dict(sorted(found.items()))


async def bodies(cluster: Cluster, kind: Resource, labels: str = "") -> AsyncIterator[bytes]:
    """The objects of a kind in the namespace."""
    async for page in cluster.client.list_pages(kind, cluster.namespace, labels=labels):
        for body in page.items:
            yield body


def condition(seen: JobSeen, kind: ConditionType) -> Condition | None:
    """A condition of a job, where it has it."""
    return next((c for c in seen.status.conditions if c.type is kind), None)


def is_final(seen: JobSeen) -> bool:
    """Whether nothing more happens to a job by itself."""
    return seen.status.phase in FINAL


def age(moment: str | None, now: datetime | None = None) -> str:
    """How long ago a moment was, as ``kubectl`` writes it: ``45s``, ``12m``, ``3h5m``, ``2d``."""
    if not moment:
        return ""
    passed = (now or datetime.now(UTC)) - datetime.fromisoformat(moment)
    seconds = max(0, int(passed.total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if minutes < 2:
        return f"{seconds}s"
    if hours < 3:
        return f"{minutes}m"
    return f"{hours}h" if days < 2 else f"{days}d"
