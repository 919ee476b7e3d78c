"""``tunefleet cancel``, ``suspend``, ``resume`` and ``delete``: what is wished of a job.

Decides when a wish makes sense: one that nothing would come of is refused. Imports ``kube`` and
its siblings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunefleet.api.base import Document
from tunefleet.api.errors import ClusterError
from tunefleet.api.status import ConditionType, JobPhase, Reason
from tunefleet.controller.kinds import FINE_TUNE_JOBS
from tunefleet.controller.seen import JobSeen
from tunefleet.verbs.cluster import jobs
from tunefleet.verbs.cluster.connect import Cluster

if TYPE_CHECKING:
    from rich.console import Console


class Changed(Document):
    """What was asked of a job, and what comes of it. ``changed`` False: it was so already."""

    job: str
    namespace: str
    asked: str
    changed: bool
    message: str

    def render(self, console: Console) -> None:
        """In a line."""
        console.print(self.message, highlight=False, soft_wrap=True)


async def cancel(cluster: Cluster, name: str) -> Changed:
    """Save a checkpoint, stop, and never go on."""
    seen = await jobs.job(cluster, name)
    if seen.spec.cancel:
        return _done(cluster, seen, "cancel", f"{name} is cancelled already", changed=False)
    _refuse_ended(seen, "cancel")
    await _wish(cluster, name, {"cancel": True})
    begun = seen.status.phase in {JobPhase.RUNNING, JobPhase.EVALUATING}
    first = "it saves a checkpoint and stops" if begun else "it stops"
    follow = f"follow it with: tunefleet status {name} --watch"
    return _done(cluster, seen, "cancel", f"{name} is being cancelled: {first}; {follow}")


async def suspend(cluster: Cluster, name: str) -> Changed:
    """Save a checkpoint, give the machines back, and wait."""
    seen = await jobs.job(cluster, name)
    _refuse_ended(seen, "suspend")
    if seen.spec.suspend:
        return _done(cluster, seen, "suspend", f"{name} is suspended already", changed=False)
    await _wish(cluster, name, {"suspend": True})
    message = f"{name} is being suspended; go on with: tunefleet resume {name}"
    return _done(cluster, seen, "suspend", message)


async def resume(cluster: Cluster, name: str) -> Changed:
    """Go on from the last checkpoint."""
    seen = await jobs.job(cluster, name)
    _refuse_ended(seen, "resume")
    if not seen.spec.suspend:
        return _done(cluster, seen, "resume", f"{name} is not suspended", changed=False)
    await _wish(cluster, name, {"suspend": False})
    step = seen.status.progress.checkpoint_step if seen.status.progress else None
    begins = f"goes on from step {step:,}" if step else "begins"
    message = f"{name} {begins}; follow it with: tunefleet status {name} --watch"
    return _done(cluster, seen, "resume", message)


async def is_ended(cluster: Cluster, name: str) -> bool:
    """Whether deleting a job would interrupt nothing."""
    return jobs.is_final(await jobs.job(cluster, name))


async def delete(cluster: Cluster, name: str) -> Changed:
    """Take a job and all that belongs to it away, but for what lies in storage."""
    whole = await jobs.whole_job(cluster, name)
    seen = await jobs.job(cluster, name)
    await cluster.client.delete(FINE_TUNE_JOBS, cluster.namespace, name, uid=seen.uid)
    kept = _storage(whole)
    place = f"{kept.rstrip('/')}/{cluster.namespace}/{name}" if kept else "its storage"
    message = f"{name} is deleted; its runs stay in {place}"
    return _done(cluster, seen, "delete", message)


def _storage(whole: dict[str, object]) -> str:
    spec = whole.get("spec")
    checkpoints = spec.get("checkpoints") if isinstance(spec, dict) else None
    return str(checkpoints.get("uri", "")) if isinstance(checkpoints, dict) else ""


def _refuse_ended(seen: JobSeen, asked: str) -> None:
    if not jobs.is_final(seen):
        return
    told = jobs.condition(seen, ConditionType.SUCCEEDED)
    cancelled = told is not None and told.reason is Reason.CANCELLED
    how = "was cancelled" if cancelled else f"has ended ({seen.status.phase})"
    raise ClusterError(
        f"{seen.name} {how}: there is nothing to {asked}",
        remedy=f"`tunefleet status {seen.name}` shows it; `tunefleet submit` with --fresh-name "
        "makes a new job of the same file",
    )


async def _wish(cluster: Cluster, name: str, wish: dict[str, bool]) -> None:
    await cluster.client.patch(FINE_TUNE_JOBS, cluster.namespace, name, {"spec": wish})


def _done(
    cluster: Cluster, seen: JobSeen, asked: str, message: str, *, changed: bool = True
) -> Changed:
    return Changed(
        job=seen.name,
        namespace=cluster.namespace,
        asked=asked,
        changed=changed,
        message=message,
    )
