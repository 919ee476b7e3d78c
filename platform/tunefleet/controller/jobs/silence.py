"""Nodes that stopped without a word, as the pods tell of them that were there.

Decides when a node counts as silent, when an attempt that had a pod there is over, and when that
pod is waited for no longer: KubeRay waits for it for ever. What Kubernetes writes into a pod is
enough, so that no right to look at nodes is needed. Pure; the clock is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tunefleet.controller.jobs.attempts import SKEW_SECONDS, seconds_since
from tunefleet.controller.seen import PodSeen, RayJobSeen

# Nobody ends a pod of a silent node: after so long storage's fence is what keeps order.
GHOST_SECONDS = 600.0
# KubeRay's, on every pod of a RayCluster; the pod that submits does not have it.
_CLUSTER = "ray.io/cluster"
_NAMED = 3


def unreachable(pod: PodSeen) -> bool:
    """Whether Kubernetes takes a pod for unready because its node is silent, or not ready.

    A kubelet never says that a pod is not ready without a reason; who writes for it knows none.
    """
    return pod.status.phase == "Running" and any(
        each.type == "Ready" and each.status == "False" and not each.reason
        for each in pod.status.conditions
    )


def overdue(pod: PodSeen, now: datetime) -> bool:
    """Whether a pod was to end on its node, grace time and all, and nobody says that it has."""
    return bool(pod.spec.node_name) and not pod.ended and _past_its_end(pod, now) > SKEW_SECONDS


def lost(ray_job: RayJobSeen, pods: Sequence[PodSeen], now: datetime, *, begun: bool) -> str:
    """Why an attempt is over whose RayJob does not end; "" while it is not.

    KubeRay replaces neither head nor worker as long as the old one does not go. The pod that
    submits is not needed any more once the driver has ``begun``.
    """
    for pod in pods:
        needed = _of_cluster(pod, ray_job) or (not begun and _CLUSTER not in pod.metadata.labels)
        if needed and overdue(pod, now):
            return f"{pod.spec.node_name} is silent: {pod.name} was to end there and did not"
    return ""


def beheaded(ray_job: RayJobSeen, pods: Sequence[PodSeen]) -> bool:
    """Whether a RayJob that runs has no head any more, as when its node left the cluster.

    KubeRay makes no other, and asks the one that is gone for ever: unless the pod that submitted
    sees its connection end.
    """
    return (
        ray_job.status.job_deployment_status == "Running"
        and bool(ray_job.status.ray_cluster_name)
        and not any(pod.is_head and _of_cluster(pod, ray_job) for pod in pods)
    )


def gone(pod: PodSeen, now: datetime) -> bool:
    """Whether a pod writes no more. One on a silent node is fenced in storage by its successor.

    Where Kubernetes itself has taken the pod off its node, the node has been silent for long.
    """
    past = _past_its_end(pod, now)
    return pod.ended or past > GHOST_SECONDS or (past > SKEW_SECONDS and _taken_off(pod))


def nodes(pods: Sequence[PodSeen], now: datetime) -> str:
    """Which nodes of these pods are silent; "" where none is."""
    found = sorted({pod.spec.node_name for pod in pods if unreachable(pod) or overdue(pod, now)})
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more nodes" if len(found) > _NAMED else ""
    be = "is" if len(found) == 1 else "are"
    return f"{', '.join(found[:_NAMED])}{more} {be} silent or not ready"


def told(pods: Sequence[PodSeen], now: datetime) -> str:
    """The same, with how many of the pods are there."""
    there = sum(unreachable(pod) or overdue(pod, now) for pod in pods)
    return f"{nodes(pods, now)}, with {there} of {len(pods)} pods" if there else ""


def _of_cluster(pod: PodSeen, ray_job: RayJobSeen) -> bool:
    """Whether it is a pod of the RayCluster that the RayJob has now."""
    return pod.metadata.labels.get(_CLUSTER) == ray_job.status.ray_cluster_name


def _past_its_end(pod: PodSeen, now: datetime) -> float:
    """Seconds since its grace time ended; none for a pod that is not to go."""
    return seconds_since(pod.metadata.deletion_timestamp, now)


def _taken_off(pod: PodSeen) -> bool:
    return any(
        each.type == "DisruptionTarget"
        and each.status == "True"
        and each.reason == "DeletionByTaintManager"
        for each in pod.status.conditions
    )
