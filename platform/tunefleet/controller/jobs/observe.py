"""Everything that one decision about a job stands on, read before it is made.

Decides which caches are asked, and what is read from the server instead: the job's spec, and
facts where a plan is to be made. No decision is made here. Imports ``kube``, ``api`` and
``plan``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pydantic import ValidationError

from tunefleet.api.attempt import AttemptSpec, Stage
from tunefleet.api.errors import Problem
from tunefleet.api.job import FineTuneJob
from tunefleet.api.profile import ProfileSpec, beyond_limits, with_defaults
from tunefleet.api.status import FINAL
from tunefleet.controller.gpus import GpusInUse
from tunefleet.controller.jobs.language import judge, no_profile, unreadable_profile
from tunefleet.controller.jobs.silence import beheaded
from tunefleet.controller.kinds import ATTEMPTS, FINE_TUNE_JOBS, PROFILES
from tunefleet.controller.places import Places
from tunefleet.controller.pods import PodsOfAttempts
from tunefleet.controller.seen import (
    AttemptSeen,
    JobSeen,
    PodSeen,
    PrepareJobSeen,
    RayJobSeen,
    WorkloadSeen,
    job_seen,
)
from tunefleet.controller.versions import Kubernetes
from tunefleet.kube.cache import Cache
from tunefleet.kube.client import Client
from tunefleet.kube.errors import ApiError
from tunefleet.plan.facts import Facts
from tunefleet.render.names import QUEUE_LABEL

ChildT = TypeVar("ChildT", PrepareJobSeen, RayJobSeen)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a job asks for; no job and ``problems`` where that cannot be honoured.

    ``profile`` is the one it names; what the job leaves open is filled in from it.
    """

    job: FineTuneJob | None
    problems: tuple[Problem, ...] = ()
    profile: ProfileSpec | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """A job and all that belongs to it.

    ``spec``, ``facts`` (what preparing published) and ``frozen`` (what the newest attempt was
    told) are None where no decision can need them. ``workload`` is what Kueue keeps of the newest
    attempt, and ``place`` where in its queue that waits. ``too_old`` is what a job that has not
    begun is told of a Kubernetes that is not enough. ``gpus_of_others`` is what the jobs beside it
    have of its profile's GPUs, in its namespace. Without ``pods_known`` pods cannot be followed
    now, and nothing follows from one that is not there.
    """

    seen: JobSeen
    spec: Spec | None = None
    attempts: tuple[AttemptSeen, ...] = ()
    facts: Facts | None = None
    frozen: AttemptSpec | None = None
    prepare_job: PrepareJobSeen | None = None
    ray_jobs: Mapping[str, RayJobSeen] = field(default_factory=dict)
    pods: Mapping[str, tuple[PodSeen, ...]] = field(default_factory=dict)
    pods_known: bool = True
    workload: WorkloadSeen | None = None
    place: int | None = None
    kuberay: bool = True
    too_old: str = ""
    gpus_of_others: int = 0

    @property
    def newest(self) -> AttemptSeen | None:
        """The attempt with the highest number."""
        return self.attempts[-1] if self.attempts else None


@dataclass(frozen=True, slots=True)
class Caches:
    """What the reflectors keep, and what is asked of the cluster now and then."""

    jobs: Cache[JobSeen]
    attempts: Cache[AttemptSeen]
    prepare_jobs: Cache[PrepareJobSeen]
    ray_jobs: Cache[RayJobSeen]
    workloads: Cache[WorkloadSeen]
    pods: PodsOfAttempts
    places: Places
    kubernetes: Kubernetes
    gpus: GpusInUse


async def observe(
    client: Client,
    caches: Caches,
    namespace: str,
    name: str,
    *,
    kuberay: bool,
    pods_known: bool,
) -> Observed | None:
    """What there is of a job now; None when there is no such job.

    Raises :class:`~tunefleet.kube.errors.ApiError` when the server does not answer.
    """
    seen = caches.jobs.get(namespace, name)
    if seen is None:
        return None
    attempts = tuple(sorted(caches.attempts.owned_by(seen.uid), key=lambda a: a.spec.number))
    first = attempts[0] if attempts else None
    observed = Observed(
        seen=seen,
        attempts=attempts,
        prepare_job=_own(caches.prepare_jobs, first) if first else None,
        ray_jobs={
            attempt.name: found
            for attempt in attempts
            if (found := _own(caches.ray_jobs, attempt)) is not None
        },
        pods={attempt.name: caches.pods.of(namespace, attempt.name) for attempt in attempts},
        pods_known=pods_known,
        kuberay=kuberay,
    )
    observed = await _queued(caches, observed)
    if not wants_spec(observed):
        return observed
    try:
        whole = await client.get(FINE_TUNE_JOBS, namespace, name)
    except ApiError as error:
        if error.not_found:
            return None
        raise
    seen = job_seen(json.dumps(whole).encode())
    job, problems = judge(whole)
    frozen = await _frozen(client, observed.newest)
    observed = replace(
        observed,
        seen=seen,
        spec=_kept(job, problems, frozen) if frozen else await _profiled(client, job, problems),
        facts=await _facts(client, first),
        frozen=frozen,
        too_old="" if attempts else await caches.kubernetes.too_old(),
    )
    # The last of all: nobody else decides between this and the decision.
    profile = job.spec.profile if job is not None else None
    others = caches.gpus.of_others(namespace, profile, seen.uid) if profile else 0
    return replace(observed, gpus_of_others=others)


async def _queued(caches: Caches, observed: Observed) -> Observed:
    """The same with what Kueue says of the newest attempt, where it says anything."""
    newest = observed.newest
    ray_job = observed.ray_jobs.get(newest.name) if newest is not None else None
    workload = next(iter(caches.workloads.owned_by(ray_job.uid)), None) if ray_job else None
    if ray_job is None or workload is None:
        return observed
    queue, place = ray_job.metadata.labels.get(QUEUE_LABEL), None
    if ray_job.spec.suspend and queue:
        place = await caches.places.of(workload.namespace, queue, workload.name)
    return replace(observed, workload=workload, place=place)


def _own(cache: Cache[ChildT], attempt: AttemptSeen) -> ChildT | None:
    """An attempt's child; one that only has its name is somebody else's."""
    found = cache.get(attempt.namespace, attempt.name)
    return found if found is not None and found.owner_uid == attempt.uid else None


def wants_spec(observed: Observed) -> bool:
    """Whether something may have to be made from the spec, or the spec is new."""
    seen, newest = observed.seen, observed.newest
    if seen.going:
        return False
    if seen.status.observed_generation != seen.metadata.generation:
        return True
    if seen.status.phase in FINAL:
        return False
    if newest is None or newest.status.result is not None:
        return True
    # What was told to be over is followed by the next, though its RayJob may still be there.
    if any(a.number == newest.spec.number and a.ended for a in seen.status.attempts):
        return True
    ray_job = observed.ray_jobs.get(newest.name)
    child = observed.prepare_job if newest.spec.stage is Stage.PREPARE else ray_job
    if child is None or (ray_job is not None and ray_job.ended):
        return True
    # An attempt may end whose RayJob does not: its pods go or are gone.
    pods = observed.pods.get(newest.name, ())
    headless = ray_job is not None and beheaded(ray_job, pods)
    return headless or any(pod.going for pod in pods)


def _kept(job: FineTuneJob | None, problems: Sequence[Problem], frozen: AttemptSpec) -> Spec:
    """The job under the profile as it stood when the job began: a later change is for others."""
    if job is None or frozen.profile is None:
        return Spec(job, tuple(problems))
    profile = ProfileSpec.model_validate(frozen.profile)
    return Spec(with_defaults(job, profile), (), profile)


async def _profiled(client: Client, job: FineTuneJob | None, problems: Sequence[Problem]) -> Spec:
    """The job under its profile, held to its limits."""
    name = job.spec.profile if job is not None else None
    if job is None or name is None:
        return Spec(job, tuple(problems))
    try:
        found = await client.get(PROFILES, None, name)
        profile = ProfileSpec.model_validate_json(json.dumps(found.get("spec")))
    except ApiError as error:
        if not error.not_found:
            raise
        return Spec(None, (no_profile(name),))
    except ValidationError as error:
        return Spec(None, (unreadable_profile(name, error),))
    beyond = beyond_limits(job, name, profile)
    if beyond:
        return Spec(None, tuple(beyond), profile)
    return Spec(with_defaults(job, profile), (), profile)


async def _frozen(client: Client, attempt: AttemptSeen | None) -> AttemptSpec | None:
    """What an attempt's pods are told; None where there is no attempt."""
    if attempt is None:
        return None
    whole = await client.get(ATTEMPTS, attempt.namespace, attempt.name)
    return AttemptSpec.from_json(json.dumps(whole.get("spec")))


async def _facts(client: Client, attempt: AttemptSeen | None) -> Facts | None:
    """The facts that preparing published; None while there are none, or when they were deleted."""
    if attempt is None or attempt.status.result is None or attempt.status.run is None:
        return None
    try:
        whole = await client.get(ATTEMPTS, attempt.namespace, attempt.name)
    except ApiError as error:
        if error.not_found:
            return None
        raise
    status = whole.get("status")
    found = status.get("facts") if isinstance(status, dict) else None
    return None if found is None else Facts.from_json(json.dumps(found))
