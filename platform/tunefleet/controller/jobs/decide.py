"""What is to be done about a job, from what was observed: pure, and the same every time.

Decides one step of a job's life at a time: accept, prepare, plan, launch, follow, try again,
finish. Every step is found again from what there is, so that it does not matter which event
was lost or where the controller was killed. The clock is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tunefleet.api.attempt import AttemptSpec, Stage
from tunefleet.api.digest import job_values
from tunefleet.api.errors import SpecError, TunefleetError
from tunefleet.api.job import FineTuneJob
from tunefleet.api.status import FINAL, JobPhase, JobStatus, Reason
from tunefleet.api.words import FailureClass, Phase
from tunefleet.controller.jobs import evidence
from tunefleet.controller.jobs.attempts import gone, in_vain, seconds_since, summary
from tunefleet.controller.jobs.evidence import Evidence
from tunefleet.controller.jobs.observe import Observed
from tunefleet.controller.jobs.summary import Story, status_of, timestamp
from tunefleet.controller.kinds import ATTEMPTS, PREPARE_JOBS, RAY_JOBS
from tunefleet.controller.seen import AttemptSeen, PodSeen
from tunefleet.kube.resources import Resource
from tunefleet.plan.document import Plan
from tunefleet.plan.nodes import machine_of
from tunefleet.plan.planner import make_plan
from tunefleet.render.attempt import attempt as render_attempt
from tunefleet.render.prepare_job import prepare_job
from tunefleet.render.ray_job import ray_job
from tunefleet.render.settings import Runtime

# A driver says how it ended before KubeRay can know: so long its word may be on its way.
WORD_SECONDS = 10.0
FIRST_PAUSE = 10.0
LONGEST_PAUSE = 600.0
ABSENT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Create:
    """An object to be made. That it is there already, and ours, is as good."""

    resource: Resource
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to make, what to tell, and when to look again (None: when something happens)."""

    status: JobStatus
    create: Create | None = None
    again: float | None = None


@dataclass(frozen=True, slots=True)
class Deciding:
    """One decision's circumstances."""

    observed: Observed
    runtime: Runtime
    now: datetime

    @property
    def story(self) -> Story:
        """The story so far, to be gone on with."""
        before = self.observed.seen.status
        newest = self.observed.newest
        story = Story(JobPhase.PENDING, Reason.VALID, run=before.run)
        story.attempts = [summary(a, before) for a in self.observed.attempts]
        story.progress = newest.status.progress if newest else None
        first = self.observed.attempts[0] if self.observed.attempts else None
        if first is not None and first.status.result is not None:
            story.run = first.status.run or story.run
            message = first.status.result.message
            good = first.status.result.phase is Phase.SUCCEEDED
            story.prepared = (
                ("True", Reason.CHECKED, message)
                if good
                else ("False", Reason.INPUT_REFUSED, message)
            )
        return story

    def told(
        self, story: Story, *, create: Create | None = None, again: float | None = None
    ) -> Decision:
        """The decision that tells this story."""
        seen = self.observed.seen
        status = status_of(story, seen.status, seen.metadata.generation, self.now)
        return Decision(status, create, again)


def decide(observed: Observed, runtime: Runtime, now: datetime) -> Decision:
    """The next step of a job's life."""
    here = Deciding(observed, runtime, now)
    before = observed.seen.status
    if observed.seen.going:
        return Decision(before)
    if before.phase in FINAL and (observed.attempts or observed.spec is None):
        generation = observed.seen.metadata.generation
        return Decision(before.model_copy(update={"observed_generation": generation}))
    newest = observed.newest
    if observed.spec is not None and observed.spec.job is None and newest is None:
        return _refuse(here)
    if newest is None:
        return _begin(here)
    if newest.spec.stage is Stage.PREPARE:
        return _prepare(here, newest)
    return _train(here, newest)


# -- accept and prepare ----------------------------------------------------------------


def _refuse(here: Deciding) -> Decision:
    assert here.observed.spec is not None
    lines = [str(problem) for problem in here.observed.spec.problems]
    story = here.story
    story.phase, story.reason = JobPhase.FAILED, Reason.INVALID_SPEC
    story.message = "; ".join(" ".join(line.split()) for line in lines)
    story.accepted = ("False", Reason.INVALID_SPEC, story.message)
    return here.told(story)


def _begin(here: Deciding) -> Decision:
    job = _job(here)
    spec = AttemptSpec(
        job=job.metadata.name,
        owner=here.observed.seen.uid,
        number=0,
        stage=Stage.PREPARE,
        manifest=job_values(job),
    )
    story = here.story
    story.phase, story.reason = JobPhase.PREPARING, Reason.PREPARING
    story.message = "checking data and model"
    return here.told(story, create=_attempt(here, job, spec))


def _prepare(here: Deciding, attempt: AttemptSeen) -> Decision:
    observed, result = here.observed, attempt.status.result
    if result is not None and result.phase is Phase.SUCCEEDED:
        return _plan(here, attempt)
    story = here.story
    if result is not None:
        places = [_place(p.file, p.line, p.where, p.message, p.remedy) for p in result.problems]
        message = "; ".join([result.message, *places])
        return _fail(here, story, Reason.INPUT_REFUSED, message, result.failure)
    story.phase, story.reason = JobPhase.PREPARING, Reason.PREPARING
    pods = observed.pods.get(attempt.name, ())
    if observed.prepare_job is None:
        story.message = "checking data and model"
        if observed.frozen is None:
            return here.told(story, again=1.0)
        job = _manifest(observed.frozen)
        body = prepare_job(job, attempt.name, attempt.uid, here.runtime)
        return here.told(story, create=Create(PREPARE_JOBS, body))
    if observed.prepare_job.failure is not None:
        found = evidence.of_the_end(None, pods)
        message = f"preparing failed: {found.message if pods else observed.prepare_job.failure}"
        return _fail(here, story, Reason.ATTEMPT_FAILED, message, found.failure)
    story.message = evidence.waiting_for(pods) or "checking data and model, tokenising"
    return here.told(story)


def _place(file: str, line: int | None, where: str, message: str, remedy: str) -> str:
    place = f"{file}:{line}" if file and line else file or where
    return ": ".join(part for part in (place, message) if part) + (f" → {remedy}" if remedy else "")


def _plan(here: Deciding, attempt: AttemptSeen) -> Decision:
    story, observed = here.story, here.observed
    story.phase, story.reason = JobPhase.LAUNCHING, Reason.LAUNCHING
    if observed.facts is None or observed.spec is None:
        return here.told(story, again=1.0)
    return _next_attempt(here, story, number=attempt.spec.number + 1, frozen=None)


def _next_attempt(here: Deciding, story: Story, *, number: int, frozen: Plan | None) -> Decision:
    """Plan and make the attempt of that number."""
    observed = here.observed
    assert observed.facts is not None
    if not _has_job(here):
        return _refuse(here)
    job = _job(here)
    try:
        plan = make_plan(job, observed.facts, machine_of(job), frozen=frozen)
    except TunefleetError as error:
        message = " ".join(str(error).split())
        return _fail(here, story, Reason.PLAN_REFUSED, message, FailureClass.USER)
    spec = AttemptSpec(
        job=job.metadata.name,
        owner=observed.seen.uid,
        number=number,
        stage=Stage.TRAIN,
        manifest=job_values(job),
        run=story.run,
        plan=plan.model_dump(mode="json", by_alias=True),
    )
    story.message = (
        f"attempt {number}: {plan.total_steps:,} steps of {plan.batch_size} on "
        f"{plan.workers} worker(s)"
    )
    return here.told(story, create=_attempt(here, job, spec))


# -- train -----------------------------------------------------------------------------


def _train(here: Deciding, attempt: AttemptSeen) -> Decision:
    observed, result = here.observed, attempt.status.result
    story = here.story
    if result is not None:
        story.metrics, story.bundle, story.report = result.metrics, result.bundle, result.report
        if result.phase is Phase.SUCCEEDED:
            story.phase, story.reason = JobPhase.SUCCEEDED, Reason.FINISHED
            story.message = f"finished at step {result.step:,}"
            return here.told(_ended(here, story, attempt))
        if result.phase is Phase.STOPPED and result.failure is not FailureClass.PREEMPTED:
            story.phase, story.reason = JobPhase.STOPPED, Reason.STOPPED
            story.message = result.message
            return here.told(_ended(here, story, attempt))
        failure = result.failure or FailureClass.UNKNOWN
        return _again(here, story, attempt, Evidence(failure, result.message))
    found = observed.ray_jobs.get(attempt.name)
    pods = observed.pods.get(attempt.name, ())
    if found is None:
        return _launch(here, story, attempt)
    story.attempts[-1] = story.attempts[-1].model_copy(update={"launched": True})
    if found.ended:
        waited = seconds_since(found.status.end_time, here.now)
        if waited < WORD_SECONDS:
            return here.told(_follow(story, attempt, pods), again=WORD_SECONDS - waited + 0.5)
        return _again(here, story, attempt, evidence.of_the_end(found, pods))
    return here.told(_follow(story, attempt, pods))


def _launch(here: Deciding, story: Story, attempt: AttemptSeen) -> Decision:
    """Make the RayJob; one that was made and is no longer there was deleted."""
    observed = here.observed
    story.phase, story.reason = JobPhase.LAUNCHING, Reason.LAUNCHING
    if story.attempts[-1].launched:
        return _again(here, story, attempt, evidence.of_the_end(None, ()))
    if not observed.kuberay:
        story.reason = Reason.KUBERAY_MISSING
        story.message = "this cluster has no RayJob: install the KubeRay operator (1.6 or newer)"
        return here.told(story, again=ABSENT_SECONDS)
    if observed.frozen is None or observed.frozen.number != attempt.spec.number:
        return here.told(story, again=1.0)
    job = _manifest(observed.frozen)
    plan = Plan.model_validate(observed.frozen.plan, strict=False)
    story.message = f"attempt {attempt.spec.number}: waiting for {plan.workers + 1} pods"
    body = ray_job(job, attempt.name, attempt.uid, plan, here.runtime)
    return here.told(story, create=Create(RAY_JOBS, body))


def _follow(story: Story, attempt: AttemptSeen, pods: tuple[PodSeen, ...]) -> Story:
    progress = attempt.status.progress
    if progress is None:
        story.phase, story.reason = JobPhase.LAUNCHING, Reason.LAUNCHING
        stuck = evidence.waiting_for(pods)
        run = f"attempt {attempt.spec.number}: {evidence.running(pods)} of {len(pods)} pods run"
        story.message = f"{run}; {stuck}" if stuck else run
        return story
    evaluating = progress.phase is Phase.EVALUATING
    story.phase = JobPhase.EVALUATING if evaluating else JobPhase.RUNNING
    story.reason = Reason.TRAINING
    story.message = progress.note
    return story


def _again(here: Deciding, story: Story, attempt: AttemptSeen, why: Evidence) -> Decision:
    """Try again where that can help and is allowed; else fail."""
    _ended(here, story, attempt, why)
    number = attempt.spec.number
    free = why.failure is FailureClass.PREEMPTED
    if not (why.failure.retryable or free):
        message = f"attempt {number} failed ({why.failure}): {why.message}"
        return _fail(here, story, Reason.ATTEMPT_FAILED, message, why.failure)
    vain = in_vain(story.attempts)
    job = here.observed.spec.job if here.observed.spec is not None else None
    allowed = job.spec.retry.max_failures if job is not None else 0
    if vain > allowed:
        message = (
            f"{vain} attempts failed without a new checkpoint (retry.maxFailures: {allowed}); "
            f"the last one ({why.failure}): {why.message}"
        )
        return _fail(here, story, Reason.TOO_MANY_FAILURES, message, why.failure)
    story.phase, story.reason = JobPhase.LAUNCHING, Reason.RETRYING
    story.message = f"attempt {number} ended ({why.failure}): {why.message}; trying again"
    pause = 0.0 if free else min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** max(0, vain - 1))
    waited = seconds_since(story.attempts[-1].ended, here.now)
    left = [pod for pod in here.observed.pods.get(attempt.name, ()) if not gone(pod, here.now)]
    if waited < pause or left:
        if left:
            story.message += f" when its {len(left)} pods are gone"
        return here.told(story, again=max(1.0, pause - waited) if not left else 15.0)
    if here.observed.facts is None or here.observed.frozen is None:
        return here.told(story, again=1.0)
    plan = Plan.model_validate(here.observed.frozen.plan, strict=False)
    return _next_attempt(here, story, number=number + 1, frozen=plan)


# -- ends ------------------------------------------------------------------------------


def _fail(
    here: Deciding, story: Story, reason: Reason, message: str, failure: FailureClass | None
) -> Decision:
    story.phase, story.reason, story.message = JobPhase.FAILED, reason, message
    if reason is Reason.INPUT_REFUSED:
        story.prepared = ("False", reason, message)
    if story.attempts:
        last = story.attempts[-1]
        story.attempts[-1] = last.model_copy(
            update={"phase": Phase.FAILED.value, "failure": failure, "message": message[:1024]}
        )
    return here.told(story)


def _ended(
    here: Deciding, story: Story, attempt: AttemptSeen, why: Evidence | None = None
) -> Story:
    """The newest attempt's line, now that it has ended."""
    result = attempt.status.result
    last = story.attempts[-1]
    phase = result.phase if result is not None else Phase.FAILED
    story.attempts[-1] = last.model_copy(
        update={
            "phase": phase.value,
            "failure": why.failure if why else None,
            "message": why.message[:1024] if why else "",
            "ended": last.ended or timestamp(here.now),
        }
    )
    return story


def _attempt(here: Deciding, job: FineTuneJob, spec: AttemptSpec) -> Create:
    return Create(ATTEMPTS, render_attempt(job, here.observed.seen.uid, spec))


def _has_job(here: Deciding) -> bool:
    return here.observed.spec is not None and here.observed.spec.job is not None


def _job(here: Deciding) -> FineTuneJob:
    spec = here.observed.spec
    if spec is None or spec.job is None:
        raise SpecError("a job that was not read cannot be gone on with")
    return spec.job


def _manifest(spec: AttemptSpec) -> FineTuneJob:
    return FineTuneJob.model_validate(spec.manifest, strict=False)
