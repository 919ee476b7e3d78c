"""One job brought a step further: observe, decide, execute.

Decides which change of which object wakes which job. Imports its siblings and ``kube``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from tunefleet.controller.gpus import GpusInUse
from tunefleet.controller.jobs.decide import decide
from tunefleet.controller.jobs.execute import execute
from tunefleet.controller.jobs.observe import Caches, observe
from tunefleet.controller.kinds import (
    ATTEMPTS,
    FINE_TUNE_JOBS,
    OLDER_WORKLOADS,
    PODS,
    PREPARE_JOBS,
    RAY_JOBS,
    WORKLOADS,
)
from tunefleet.controller.places import Places
from tunefleet.controller.pods import PodsOfAttempts
from tunefleet.controller.seen import (
    AttemptSeen,
    JobSeen,
    PodSeen,
    PrepareJobSeen,
    RayJobSeen,
    Seen,
    WorkloadSeen,
    job_seen,
    workload_seen,
)
from tunefleet.controller.versions import Kubernetes
from tunefleet.kube.cache import Name
from tunefleet.kube.client import Client
from tunefleet.kube.queue import WorkQueue
from tunefleet.kube.reflector import Reflector
from tunefleet.kube.resources import Resource
from tunefleet.kube.runtime import Follower
from tunefleet.render.names import JOB_LABEL
from tunefleet.render.settings import Runtime as Settings

SeenT = TypeVar("SeenT", bound=Seen)


def _utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Jobs:
    """The reconciler of FineTuneJobs and the reflectors that feed it."""

    client: Client
    settings: Settings
    queue: WorkQueue[Name]
    caches: Caches
    reflectors: tuple[Follower, ...]
    kuberay: Callable[[], bool]
    pods_known: Callable[[], bool]
    now: Callable[[], datetime] = _utc

    @staticmethod
    def of(
        client: Client,
        settings: Settings,
        *,
        namespace: str | None = None,
        now: Callable[[], datetime] = _utc,
    ) -> Jobs:
        """Reflectors of all kinds that a job's life consists of, in one namespace or in all."""
        queue: WorkQueue[Name] = WorkQueue()
        gpus = GpusInUse()

        def woken(old: Seen | None, new: Seen | None) -> None:
            for seen in (old, new):
                name = seen.metadata.labels.get(JOB_LABEL) if seen is not None else None
                if seen is not None and name:
                    queue.add(Name(seen.namespace, name))

        def pod_changed(old: PodSeen | None, new: PodSeen | None) -> None:
            pods.changed(old, new)
            woken(old, new)

        def job_changed(old: JobSeen | None, new: JobSeen | None) -> None:
            gpus.job_changed(old, new)
            seen = new or old
            if seen is not None:
                queue.add(Name(seen.namespace, seen.name))

        def workload_changed(old: WorkloadSeen | None, new: WorkloadSeen | None) -> None:
            seen = new or old
            if seen is not None and seen.ray_job:
                woken(None, ray_jobs.cache.get(seen.namespace, seen.ray_job))

        def follow(
            resource: Resource,
            project: Callable[[bytes], SeenT],
            changed: Callable[[SeenT | None, SeenT | None], None],
            labels: str = "",
            or_else: Sequence[Resource] | None = None,
        ) -> Reflector[SeenT]:
            """``or_else`` is for a kind of somebody else's that may not be there."""
            return Reflector(
                client,
                resource,
                project,
                namespace=namespace,
                labels=labels,
                changed=changed,
                may_be_absent=or_else is not None,
                or_else=or_else or (),
            )

        jobs = follow(FINE_TUNE_JOBS, job_seen, job_changed)

        def attempt_changed(old: AttemptSeen | None, new: AttemptSeen | None) -> None:
            gpus.changed(old, new)
            woken(old, new)

        attempts = follow(ATTEMPTS, AttemptSeen.read, attempt_changed)
        prepared = follow(PREPARE_JOBS, PrepareJobSeen.read, woken, JOB_LABEL)
        ray_jobs = follow(RAY_JOBS, RayJobSeen.read, woken, JOB_LABEL, or_else=())
        older = (OLDER_WORKLOADS,)
        workloads = follow(WORKLOADS, workload_seen, workload_changed, or_else=older)
        pod_watch = follow(PODS, PodSeen.read, pod_changed, JOB_LABEL)
        pods = PodsOfAttempts(pod_watch.cache)
        caches = Caches(
            jobs.cache,
            attempts.cache,
            prepared.cache,
            ray_jobs.cache,
            workloads.cache,
            pods,
            Places(client),
            Kubernetes(client),
            gpus,
        )
        reflectors = (jobs, attempts, prepared, ray_jobs, workloads, pod_watch)
        return Jobs(
            client,
            settings,
            queue,
            caches,
            reflectors,
            kuberay=lambda: ray_jobs.served,
            pods_known=lambda: pod_watch.true,
            now=now,
        )

    def keys(self) -> Iterable[Name]:
        """Every job there is."""
        return iter(self.caches.jobs)

    async def reconcile(self, key: Name) -> float | None:
        """Take one step; in how many seconds to look again."""
        observed = await observe(
            self.client,
            self.caches,
            key.namespace,
            key.name,
            kuberay=self.kuberay(),
            pods_known=self.pods_known(),
        )
        if observed is None:
            return None
        decision = decide(observed, self.settings, self.now())
        if decision.create is not None and decision.create.resource == ATTEMPTS:
            self.caches.gpus.promise(observed.seen, decision.create.body)
        return await execute(self.client, observed.seen, decision)
