"""What the objects of a job are called, and by which labels they are found.

Decides the names: KubeRay cuts the prefix of a pod's name at 50 characters, so an attempt's
name stays within 36 and a pod's whole name tells which attempt it belongs to. Pure.
"""

from __future__ import annotations

from tunefleet.api.job import API_VERSION, FineTuneJob

JOB_LABEL = "tunefleet.dev/job"
ATTEMPT_LABEL = "tunefleet.dev/attempt"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
MANAGED_BY = {"app.kubernetes.io/managed-by": "tunefleet"}
WORKER_GROUP = "workers"
CONTAINER = "tunefleet"

_JOB_PART = 26


def attempt_name(job: str, uid: str, number: int) -> str:
    """``<job>-<uid>-<number>``, as the attempt, its Job or RayJob and their pods begin."""
    return f"{job[:_JOB_PART].rstrip('-')}-{uid[:5]}-{number}"


def labels(job: str, attempt: str) -> dict[str, str]:
    """The labels of everything that belongs to an attempt."""
    return {JOB_LABEL: job, ATTEMPT_LABEL: attempt, **MANAGED_BY}


def passed_on(job: FineTuneJob) -> dict[str, str]:
    """The job's labels that are meant for those who queue its pods."""
    return {
        name: value
        for name, value in job.metadata.labels.items()
        if name.partition("/")[0] in {"kueue.x-k8s.io", "scheduling.x-k8s.io"}
    }


def owner(kind: str, name: str, uid: str, api_version: str = API_VERSION) -> dict[str, object]:
    """The owner reference by which the garbage collector takes a child away."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
