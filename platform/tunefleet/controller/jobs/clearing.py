"""What a job that has ended leaves behind: nothing that runs and costs.

Decides when a RayJob or a prepare Job is taken away that does not end by itself. KubeRay waits for
ever for a head or a worker on a silent node; a driver may hang after its last word; and what was
made right before a job was cancelled is seen a moment after it. Pure.
"""

from __future__ import annotations

from tunefleet.api.attempt import Stage
from tunefleet.controller.jobs import silence
from tunefleet.controller.jobs.attempts import waited_since
from tunefleet.controller.jobs.decision import Deciding, Decision, Delete
from tunefleet.controller.kinds import PREPARE_JOBS, RAY_JOBS
from tunefleet.controller.seen import AttemptSeen, RayJobSeen

# So long a RayJob may take to end once its driver has said how it went.
REST_SECONDS = 120.0


def at_the_end(here: Deciding) -> Decision:
    """Leave the story as it is told, and take away what still runs."""
    seen = here.observed.seen
    status = seen.status.model_copy(update={"observed_generation": seen.metadata.generation})
    waits = []
    for attempt in here.observed.attempts:
        if attempt.spec.stage is Stage.PREPARE:
            job = here.observed.prepare_job
            if job is not None and job.runs and attempt.status.result is None:
                return Decision(status, delete=Delete.of(PREPARE_JOBS, job))
            continue
        found = here.observed.ray_jobs.get(attempt.name)
        if found is None or found.ended or found.going:
            continue
        wait = _patience(here, attempt, found)
        if wait <= 0:
            return Decision(status, delete=Delete.of(RAY_JOBS, found))
        waits.append(wait)
    return Decision(status, again=min(waits) + 0.5 if waits else None)


def _patience(here: Deciding, attempt: AttemptSeen, found: RayJobSeen) -> float:
    """For how many more seconds it may end by itself: none where nobody is there to end it."""
    pods = here.observed.pods.get(attempt.name, ())
    never = here.beheaded(found, pods) or silence.lost(found, pods, here.now, begun=True)
    told = here.observed.seen.status.attempts
    ended = next((line.ended for line in told if line.number == attempt.spec.number), None)
    # Where nobody has told since when, no later look would know better.
    if attempt.status.result is None or never or ended is None:
        return 0.0
    return REST_SECONDS - waited_since(ended, here.now)
