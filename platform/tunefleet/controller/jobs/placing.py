"""Of a range of workers: how many an attempt asks for, and when it is gone on with fewer.

Decides that as many are asked for as may be, that an attempt whose other workers found no place
for long ends without being a failure, and that no more are asked for again after an attempt that
left no new checkpoint. So between two checkpoints the number only falls, and every job comes to
rest with one. Pure; the clock is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tunefleet.api.status import AttemptSummary
from tunefleet.controller.jobs.attempts import waited_since
from tunefleet.controller.seen import AttemptSeen, PodSeen, RayJobSeen, Told

# An autoscaler takes two to four minutes for a node with a GPU; for longer than that, workers that
# have a place are paid for and do nothing.
PATIENCE_SECONDS = 300.0
_TOLD = 600


@dataclass(frozen=True, slots=True)
class Shortage:
    """What an attempt could be gone on with in ``wait`` seconds (none left: now), and why."""

    placed: int
    wait: float
    why: str


def shortage(attempt: AttemptSeen, pods: Sequence[PodSeen], now: datetime) -> Shortage | None:
    """How many of an attempt's workers have a place, where these are too few and yet enough.

    None where no worker is known to be without a place, or waiting is all that can be done.
    """
    plan, least = attempt.spec.plan, attempt.least
    if plan is None or least is None:
        return None
    there = [pod for pod in pods if not pod.going and not pod.ended]
    workers = [pod for pod in there if pod.is_worker]
    without = [pod for pod in workers if not pod.placed]
    placed = len(workers) - len(without)
    headed = any(pod.is_head and pod.placed for pod in there)
    if not without or not headed or not least <= placed < plan.workers:
        return None
    waited = []
    for pod in without:
        told = pod.unschedulable
        if told is None:
            # The scheduler has not looked yet, or somebody holds the pod back.
            return None
        waited.append(waited_since(told.last_transition_time, now))
    told = without[0].unschedulable
    said = _said(told) if told is not None else ""
    return Shortage(
        placed,
        PATIENCE_SECONDS - min(waited),
        f"{placed} of {plan.workers} workers had a place after {PATIENCE_SECONDS:.0f} s; "
        f"{without[0].name}: {said}",
    )


def halted(ray_job: RayJobSeen, pods: Sequence[PodSeen]) -> str:
    """Why an attempt that has trained cannot now, and has nothing to save; "" where it can.

    Workers train all together: what they held beyond the last checkpoint went with the one that
    is missing. A RayJob runs from when all had a place.
    """
    if ray_job.status.job_deployment_status != "Running":
        return ""
    missing = [pod for pod in pods if pod.is_worker and not (pod.placed or pod.going or pod.ended)]
    if not missing:
        return ""
    told = missing[0].unschedulable
    said = f" ({_said(told)})" if told is not None else ""
    return f"{missing[0].name} has no place{said}, so that there was nothing to save"


def next_number(attempts: Sequence[AttemptSummary]) -> int | None:
    """How many workers the attempt after these asks for; None: as many as may be."""
    *earlier, last = attempts
    if last.placed is not None:
        return last.placed
    reached = max((attempt.step for attempt in earlier), default=0)
    return None if last.step > reached else last.workers


def _said(told: Told) -> str:
    return " ".join(told.message.split())[:_TOLD]
