"""Suspending and cancelling: saved first, then stopped; and what is not begun is not waited for.

Decides what ``spec.suspend`` and ``spec.cancel`` mean in each stage. Preparing costs no GPU and
is let go on when a job is suspended. Pure.
"""

from __future__ import annotations

from tunefleet.api.attempt import Stage
from tunefleet.api.status import JobPhase, Reason
from tunefleet.api.words import Command, FailureClass, Phase
from tunefleet.controller.jobs import placing, silence
from tunefleet.controller.jobs.decision import Ask, Deciding, Decision, Delete
from tunefleet.controller.jobs.evidence import Evidence
from tunefleet.controller.jobs.summary import Story
from tunefleet.controller.kinds import PREPARE_JOBS, RAY_JOBS
from tunefleet.controller.seen import AttemptSeen

# No event tells that a pod should have gone by now.
SILENT_SECONDS = 15.0
NOT_BEGUN = Evidence(FailureClass.PREEMPTED, "stopped before it had begun to train")
SAVED = Evidence(FailureClass.PREEMPTED, "suspended; it was saved")


def wanted(here: Deciding) -> Decision | None:
    """The step towards a stop that was asked for; None when none was, or all is done but that."""
    wishes = here.observed.seen.spec
    if not (wishes.suspend or wishes.cancel):
        return None
    newest = here.observed.newest
    story = here.story
    if newest is None:
        return _at_rest(here, story)
    if newest.spec.stage is Stage.PREPARE:
        return _preparing(here, story, newest)
    return _training(here, story, newest)


def _at_rest(here: Deciding, story: Story, delete: Delete | None = None) -> Decision:
    """Nothing runs any more (but what is being deleted)."""
    if here.observed.seen.spec.cancel:
        story.phase, story.reason = JobPhase.STOPPED, Reason.CANCELLED
        story.message = "cancelled; its checkpoints are kept"
    else:
        story.phase, story.reason = JobPhase.SUSPENDED, Reason.SUSPENDED
        story.message = "suspended; set spec.suspend: false to go on"
    return here.told(story, delete=delete)


def _preparing(here: Deciding, story: Story, attempt: AttemptSeen) -> Decision | None:
    job, result = here.observed.prepare_job, attempt.status.result
    if here.observed.seen.spec.cancel:
        return _at_rest(here, story, Delete.of(PREPARE_JOBS, job) if job is not None else None)
    prepared = result is not None and result.phase is Phase.SUCCEEDED
    return _at_rest(here, story) if prepared else None


def _training(here: Deciding, story: Story, attempt: AttemptSeen) -> Decision | None:
    ray_job, result = here.observed.ray_jobs.get(attempt.name), attempt.status.result
    if result is not None:
        if result.phase is Phase.STOPPED and result.failure is not FailureClass.BUDGET:
            # As whoever looks first when it goes on would say.
            why = None if here.observed.seen.spec.cancel else SAVED
            return _at_rest(here, here.end(story, attempt, why))
        # It ended by itself meanwhile: well, or badly.
        finished = result.phase is not Phase.FAILED
        return None if finished else _at_rest(here, here.end(story, attempt))
    if ray_job is None or ray_job.ended:
        # One that was seen to end keeps what was told of it.
        known = story.attempts[-1].ended is not None
        return _at_rest(here, story if known else here.end(story, attempt, NOT_BEGUN))
    if attempt.status.progress is None:
        here.end(story, attempt, NOT_BEGUN)
        return _at_rest(here, story, Delete.of(RAY_JOBS, ray_job))
    pods = here.observed.pods.get(attempt.name, ())
    lost = silence.lost(ray_job, pods, here.now, begun=True)
    if not lost and here.beheaded(ray_job, pods):
        lost = "its head is gone, so that nobody could save"
    if lost:
        here.end(story, attempt, Evidence(FailureClass.INFRASTRUCTURE, lost))
        return _at_rest(here, story, Delete.of(RAY_JOBS, ray_job))
    if halted := placing.halted(ray_job, pods):
        here.end(story, attempt, Evidence(FailureClass.PREEMPTED, halted))
        return _at_rest(here, story, Delete.of(RAY_JOBS, ray_job))
    silent = silence.told(pods, here.now)
    story.phase, story.reason = JobPhase.RUNNING, Reason.SUSPENDING
    story.message = "saving a checkpoint, then stopping" + (f"; {silent}" if silent else "")
    if attempt.spec.command is Command.CHECKPOINT_AND_STOP:
        return here.told(story, again=SILENT_SECONDS if silent else None)
    ask = Ask(attempt.name, Command.CHECKPOINT_AND_STOP, attempt.spec.sequence + 1)
    return here.told(story, ask=ask)
