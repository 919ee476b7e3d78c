"""What is told of an attempt that a queue holds back, or has taken its place from.

Decides which of a Workload's conditions a user has to know, in Kueue's own words. Pure.
"""

from __future__ import annotations

from tunefleet.controller.seen import RayJobSeen, Told, WorkloadSeen
from tunefleet.render.names import QUEUE_LABEL

_TOLD = 600


def waiting(ray_job: RayJobSeen, workload: WorkloadSeen | None, place: int | None) -> str:
    """What a RayJob that is suspended waits for."""
    queue = ray_job.metadata.labels.get(QUEUE_LABEL)
    if queue is None and workload is None:
        patch = '{"spec":{"suspend":false}}'
        where = f"--namespace={ray_job.namespace} {ray_job.name}"
        remedy = f"kubectl patch rayjob {where} --type=merge --patch='{patch}'"
        return f"its RayJob was suspended by hand; it goes on after `{remedy}`"
    said = "waiting to be admitted"
    said += f" by the queue {queue}" if queue else ""
    said += f", place {place}" if place is not None else ""
    why = _why(workload) if workload is not None else ""
    return f"{said}: {why}" if why else said


def taken(workload: WorkloadSeen | None) -> str:
    """Why an attempt had to go that was saved and stopped."""
    evicted = workload.condition("Evicted") if workload is not None else None
    if evicted is None or evicted.status != "True":
        return "its pods had to go; it was saved"
    return f"Kueue took its place ({_words(evicted)}); it was saved"


def _why(workload: WorkloadSeen) -> str:
    """What keeps a Workload from being admitted; "" once nothing does."""
    evicted, reserved = workload.condition("Evicted"), workload.condition("QuotaReserved")
    told = [evicted] if evicted is not None and evicted.status == "True" else []
    if reserved is None or reserved.status != "True":
        told += [reserved] if reserved is not None else []
        return "; ".join(map(_words, told))
    admitted = workload.condition("Admitted")
    if admitted is None:
        return "its quota is reserved; admission checks are under way"
    return "" if admitted.status == "True" else _words(admitted)


def _words(told: Told) -> str:
    said = " ".join(told.message.split())[:_TOLD]
    return ": ".join(part for part in (told.reason, said) if part)
