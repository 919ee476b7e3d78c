"""Preparing: attempt 0, whose pod checks data and model, tokenises and publishes the facts.

Decides what is made for it and how its end is told; and that a job whose attempt 0 was deleted
while it trained prepares once more before it is planned again. Pure.
"""

from __future__ import annotations

from tunefleet.api.attempt import AttemptSpec, Stage
from tunefleet.api.digest import job_values
from tunefleet.api.status import JobPhase, Reason
from tunefleet.api.words import FailureClass, Phase
from tunefleet.controller.jobs import evidence, silence
from tunefleet.controller.jobs.decision import Create, Deciding, Decision, manifest_of
from tunefleet.controller.jobs.summary import Story
from tunefleet.controller.kinds import PREPARE_JOBS
from tunefleet.controller.seen import AttemptSeen
from tunefleet.render.prepare_job import prepare_job

# Nobody upgrades a cluster in less.
TOO_OLD_SECONDS = 300.0


def begin(here: Deciding, story: Story) -> Decision:
    """Make the attempt that prepares."""
    job = here.job
    story.phase, story.reason = JobPhase.PREPARING, Reason.PREPARING
    story.message = "checking data and model"
    if here.observed.too_old:
        story.phase, story.reason = JobPhase.PENDING, Reason.KUBERNETES_TOO_OLD
        story.message = here.observed.too_old
        return here.told(story, again=TOO_OLD_SECONDS)
    if job is None:
        return here.told(story, again=1.0)
    spec = AttemptSpec(
        job=job.metadata.name,
        owner=here.observed.seen.uid,
        number=0,
        stage=Stage.PREPARE,
        manifest=job_values(job),
        profile=here.snapshot,
    )
    return here.told(story, create=here.attempt(job, spec))


def prepare(here: Deciding, story: Story, attempt: AttemptSeen) -> Decision | None:
    """The next step of preparing; None when it ended well."""
    observed, result = here.observed, attempt.status.result
    if result is not None and result.phase is Phase.SUCCEEDED:
        return None
    if result is not None:
        places = [_place(p.file, p.line, p.where, p.message, p.remedy) for p in result.problems]
        message = "; ".join([result.message, *places])
        return here.fail(story, Reason.INPUT_REFUSED, message, result.failure)
    story.phase, story.reason = JobPhase.PREPARING, Reason.PREPARING
    story.message = "checking data and model"
    pods = observed.pods.get(attempt.name, ())
    if observed.prepare_job is None:
        if observed.frozen is None:
            return here.told(story, again=1.0)
        job = manifest_of(observed.frozen)
        runtime = here.runtime_of(observed.frozen)
        body = prepare_job(job, attempt.name, attempt.uid, runtime)
        return here.told(story, create=Create(PREPARE_JOBS, body))
    given_up = observed.prepare_job.failure
    if given_up is not None:
        found = evidence.of_the_end(None, pods)
        failure = found.failure if pods else FailureClass.INFRASTRUCTURE
        message = f"preparing failed: {found.message if pods else given_up}"
        return here.fail(story, Reason.ATTEMPT_FAILED, message, failure)
    # Kubernetes makes another pod as soon as it takes this one off its node.
    waits = silence.told(pods, here.now) or evidence.waiting_for(pods)
    story.message = waits or "checking data and model, tokenising"
    return here.told(story)


def once_more(here: Deciding, story: Story) -> Decision:
    """The next step towards facts that are not there any more."""
    first = here.observed.attempts[0]
    if first.spec.stage is not Stage.PREPARE:
        return begin(here, story)
    return prepare(here, story, first) or here.told(story, again=1.0)


def _place(file: str, line: int | None, where: str, message: str, remedy: str) -> str:
    place = f"{file}:{line}" if file and line else file or where
    return ": ".join(part for part in (place, message) if part) + (f" → {remedy}" if remedy else "")
