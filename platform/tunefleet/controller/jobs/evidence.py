"""What an attempt died of, read from what is left of it.

Decides the class of a failure and one sentence of evidence where the driver left no word: the
pods' end before KubeRay's, because a cluster that lost its head says little. And what pods that
do not run are waiting for. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunefleet.api.words import FailureClass
from tunefleet.controller.jobs.silence import unreachable
from tunefleet.controller.seen import PodSeen, RayJobSeen

_TOLD = 600
_KILLED = 137
_EVICTIONS = {"Evicted", "Preempting", "Shutdown", "NodeLost", "NodeShutdown", "Terminated"}
# A container that waits for one of these will not get over it soon.
_STUCK = {
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why an attempt ended."""

    failure: FailureClass
    message: str


def of_the_end(ray_job: RayJobSeen | None, pods: Sequence[PodSeen]) -> Evidence:
    """Why an attempt ended whose driver left no word."""
    found = sorted(_ends(pods), key=lambda end: _ORDER.index(end.failure))
    if found:
        return found[0]
    if ray_job is None:
        return Evidence(
            FailureClass.INFRASTRUCTURE, "its RayJob was deleted before the attempt had ended"
        )
    status = ray_job.status
    said = ": ".join(part for part in (status.reason, status.message) if part)
    failure = {
        "AppFailed": FailureClass.UNKNOWN,
        "ValidationFailed": FailureClass.USER,
    }.get(status.reason, FailureClass.INFRASTRUCTURE)
    return Evidence(failure, f"KubeRay: {said[:_TOLD] or status.job_deployment_status}")


_ORDER = (
    FailureClass.OUT_OF_MEMORY,
    FailureClass.PREEMPTED,
    FailureClass.INFRASTRUCTURE,
    FailureClass.UNKNOWN,
)


def _ends(pods: Sequence[PodSeen]) -> Iterator[Evidence]:
    for pod in pods:
        node = f" on {pod.spec.node_name}" if pod.spec.node_name else ""
        if pod.status.reason in _EVICTIONS:
            said = pod.status.message or pod.status.reason
            yield Evidence(FailureClass.PREEMPTED, f"{pod.name}{node}: {said[:_TOLD]}")
        if unreachable(pod):
            said = f"{pod.spec.node_name} is silent or not ready, with {pod.name} on it"
            yield Evidence(FailureClass.INFRASTRUCTURE, said)
        for container in pod.status.container_statuses:
            ended = container.state.terminated or container.last_state.terminated
            if ended is None or ended.exit_code == 0:
                continue
            if ended.reason == "OOMKilled":
                yield Evidence(
                    FailureClass.OUT_OF_MEMORY,
                    f"{pod.name}{node} used more memory than it may (OOMKilled); raise "
                    "workers.resources.memory, or set a smaller training.microBatch",
                )
            elif ended.exit_code == _KILLED:
                yield Evidence(FailureClass.INFRASTRUCTURE, f"{pod.name}{node} was killed")
            else:
                said = f": {_end_of(ended.message)}" if ended.message else ""
                yield Evidence(
                    FailureClass.UNKNOWN,
                    f"{pod.name}{node}, container {container.name} ended with exit code "
                    f"{ended.exit_code}{said}",
                )


def waiting_for(pods: Sequence[PodSeen]) -> str:
    """What the pods that do not run yet wait for, in their own words; "" when nothing is known."""
    for pod in pods:
        for container in (*pod.status.init_container_statuses, *pod.status.container_statuses):
            waiting = container.state.waiting
            if waiting is not None and waiting.reason in _STUCK:
                said = f": {waiting.message}" if waiting.message else ""
                return f"{pod.name}: {waiting.reason}{said}"[:_TOLD]
        for condition in pod.status.conditions:
            if condition.type == "PodScheduled" and condition.status == "False":
                return f"{pod.name}: {condition.reason}: {condition.message}"[:_TOLD]
    return ""


def running(pods: Sequence[PodSeen]) -> int:
    """How many pods run."""
    return sum(pod.status.phase == "Running" and not pod.going for pod in pods)


def _end_of(text: str) -> str:
    """The last lines of a log."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-_TOLD:]
