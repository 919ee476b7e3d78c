"""What is to be done about a job, from what was observed: pure, and the same every time.

Decides one step of a job's life at a time: accept, prepare, stop, train, finish; each step has
a file of its own. A step is found again from what there is, so that it does not matter which
event was lost or where the controller was killed. The clock is handed in.
"""

from __future__ import annotations

from datetime import datetime

from tunefleet.api.attempt import AttemptSpec, Stage
from tunefleet.api.digest import job_values
from tunefleet.api.status import FINAL, JobPhase, Reason
from tunefleet.api.words import FailureClass, Phase
from tunefleet.controller.jobs import evidence, stopping, training
from tunefleet.controller.jobs.decision import Create, Deciding, Decision
from tunefleet.controller.jobs.observe import Observed
from tunefleet.controller.kinds import PREPARE_JOBS
from tunefleet.controller.seen import AttemptSeen
from tunefleet.render.prepare_job import prepare_job
from tunefleet.render.settings import Runtime


def decide(observed: Observed, runtime: Runtime, now: datetime) -> Decision:
    """The next step of a job's life."""
    here = Deciding(observed, runtime, now)
    before, newest = observed.seen.status, observed.newest
    if observed.seen.going:
        return Decision(before)
    if before.phase in FINAL and (newest is not None or observed.spec is None):
        generation = observed.seen.metadata.generation
        return Decision(before.model_copy(update={"observed_generation": generation}))
    if observed.spec is not None and observed.spec.job is None and newest is None:
        return here.refuse()
    stop = stopping.wanted(here)
    if stop is not None:
        return stop
    if newest is None:
        return _begin(here)
    if newest.spec.stage is Stage.PREPARE:
        return _prepare(here, newest)
    return training.train(here, newest)


def _begin(here: Deciding) -> Decision:
    story, job = here.story, here.job
    story.phase, story.reason = JobPhase.PREPARING, Reason.PREPARING
    story.message = "checking data and model"
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


def _prepare(here: Deciding, attempt: AttemptSeen) -> Decision:
    observed, result = here.observed, attempt.status.result
    story = here.story
    if result is not None and result.phase is Phase.SUCCEEDED:
        return training.first(here, story)
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
        job = training.manifest_of(observed.frozen)
        runtime = here.runtime_of(observed.frozen)
        body = prepare_job(job, attempt.name, attempt.uid, runtime)
        return here.told(story, create=Create(PREPARE_JOBS, body))
    given_up = observed.prepare_job.failure
    if given_up is not None:
        found = evidence.of_the_end(None, pods)
        failure = found.failure if pods else FailureClass.INFRASTRUCTURE
        message = f"preparing failed: {found.message if pods else given_up}"
        return here.fail(story, Reason.ATTEMPT_FAILED, message, failure)
    story.message = evidence.waiting_for(pods) or "checking data and model, tokenising"
    return here.told(story)


def _place(file: str, line: int | None, where: str, message: str, remedy: str) -> str:
    place = f"{file}:{line}" if file and line else file or where
    return ": ".join(part for part in (place, message) if part) + (f" → {remedy}" if remedy else "")
