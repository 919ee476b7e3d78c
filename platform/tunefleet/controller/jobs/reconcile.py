"""One job brought a step further: observe, decide, execute.

Decides which change of which object wakes which job. Imports its siblings and ``kube``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

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
from tunefleet.kube.runtime import Follower
from tunefleet.render.names import JOB_LABEL
from tunefleet.render.settings import Runtime as Settings


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
        pods = PodsOfAttempts()

        def woken(old: Seen | None, new: Seen | None) -> None:
            for seen in (old, new):
                name = seen.metadata.labels.get(JOB_LABEL) if seen is not None else None
                if seen is not None and name:
                    queue.add(Name(seen.namespace, name))

        def pod_changed(old: PodSeen | None, new: PodSeen | None) -> None:
            pods.changed(old, new)
            woken(old, new)

        def job_changed(old: Seen | None, new: Seen | None) -> None:
            seen = new or old
            if seen is not None:
                queue.add(Name(seen.namespace, seen.name))

        def workload_changed(old: WorkloadSeen | None, new: WorkloadSeen | None) -> None:
            seen = new or old
            if seen is not None and seen.ray_job:
                woken(None, ray_jobs.cache.get(seen.namespace, seen.ray_job))

        ours = JOB_LABEL
        jobs = Reflector(client, FINE_TUNE_JOBS, job_seen, namespace=namespace, changed=job_changed)
        attempts = Reflector(
            client, ATTEMPTS, AttemptSeen.model_validate_json, namespace=namespace, changed=woken
        )
        prepare_jobs = Reflector(
            client,
            PREPARE_JOBS,
            PrepareJobSeen.model_validate_json,
            namespace=namespace,
            labels=ours,
            changed=woken,
        )
        ray_jobs = Reflector(
            client,
            RAY_JOBS,
            RayJobSeen.model_validate_json,
            namespace=namespace,
            labels=ours,
            changed=woken,
            may_be_absent=True,
        )
        workloads = Reflector(
            client,
            WORKLOADS,
            workload_seen,
            namespace=namespace,
            changed=workload_changed,
            may_be_absent=True,
            or_else=(OLDER_WORKLOADS,),
        )
        pod_watch = Reflector(
            client,
            PODS,
            PodSeen.model_validate_json,
            namespace=namespace,
            labels=ours,
            changed=pod_changed,
        )
        caches = Caches(
            jobs.cache,
            attempts.cache,
            prepare_jobs.cache,
            ray_jobs.cache,
            workloads.cache,
            pods,
            Places(client),
            Kubernetes(client),
        )
        reflectors = (jobs, attempts, prepare_jobs, ray_jobs, workloads, pod_watch)
        return Jobs(client, settings, queue, caches, reflectors, lambda: ray_jobs.served, now)

    def keys(self) -> Iterable[Name]:
        """Every job there is."""
        return iter(self.caches.jobs)

    async def reconcile(self, key: Name) -> float | None:
        """Take one step; in how many seconds to look again."""
        observed = await observe(
            self.client, self.caches, key.namespace, key.name, kuberay=self.kuberay()
        )
        if observed is None:
            return None
        decision = decide(observed, self.settings, self.now())
        return await execute(self.client, observed.seen, decision)
