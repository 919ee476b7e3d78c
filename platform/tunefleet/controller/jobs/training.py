"""Attempts that train: planned, launched, followed, tried again, finished.

Decides when a next attempt is made and with which plan: only when the last one can write no
more, only for failures that a retry can mend, and only as often as the job allows without a new
checkpoint in between. Pure.
"""

from __future__ import annotations

import json

from tunefleet.api.attempt import AttemptResult, AttemptSpec, Stage
from tunefleet.api.digest import job_values
from tunefleet.api.errors import TunefleetError
from tunefleet.api.job import FineTuneJob
from tunefleet.api.profile import waits_for_gpus
from tunefleet.api.status import AttemptSummary, ConditionType, JobPhase, Reason
from tunefleet.api.words import FailureClass, Phase
from tunefleet.controller.jobs import evidence, placing, preparing, queueing, silence
from tunefleet.controller.jobs.attempts import in_vain, waited_since
from tunefleet.controller.jobs.decision import Create, Deciding, Decision, Delete, manifest_of
from tunefleet.controller.jobs.evidence import Evidence
from tunefleet.controller.jobs.summary import Story
from tunefleet.controller.kinds import RAY_JOBS
from tunefleet.controller.seen import AttemptSeen, RayJobSeen
from tunefleet.controller.versions import OLDEST_KUBERAY
from tunefleet.plan.document import Plan
from tunefleet.plan.nodes import machine_of
from tunefleet.plan.notes import some
from tunefleet.plan.planner import make_plan
from tunefleet.render.ray_job import ray_job

# A driver says how it ended before KubeRay can know: so long its word may be on its way.
WORD_SECONDS = 10.0
# A RayJob ends by itself when its driver has; one that does not is taken away.
LINGER_SECONDS = 60.0
FIRST_PAUSE = 10.0
LONGEST_PAUSE = 600.0
ABSENT_SECONDS = 30.0
PODS_SECONDS = 15.0
# What no event tells: that a queue moves up, and that others gave their GPUs back.
PLACE_SECONDS = 60.0
GPUS_SECONDS = 15.0


def first(here: Deciding, story: Story) -> Decision:
    """Plan what was prepared, and make the first attempt that trains."""
    story.phase, story.reason = JobPhase.LAUNCHING, Reason.LAUNCHING
    if here.observed.facts is None or here.observed.spec is None:
        return here.told(story, again=1.0)
    return _next(here, story, number=1, before=None)


def train(here: Deciding, attempt: AttemptSeen) -> Decision:
    """The next step of an attempt that trains."""
    observed, result = here.observed, attempt.status.result
    story = here.story
    if result is not None:
        return _with_result(here, story, attempt, result)
    last = story.attempts[-1]
    if last.ended is not None:
        failure = last.failure or FailureClass.UNKNOWN
        return _again(here, story, attempt, Evidence(failure, last.message))
    found = observed.ray_jobs.get(attempt.name)
    pods = observed.pods.get(attempt.name, ())
    if found is None:
        return _launch(here, story, attempt)
    story.attempts[-1] = last.model_copy(update={"launched": True})
    if found.ended:
        waited = waited_since(found.status.end_time, here.now)
        if waited < WORD_SECONDS:
            _follow(here, story, attempt, found)
            return here.told(story, again=WORD_SECONDS - waited + 0.5)
        return _again(here, story, attempt, evidence.of_the_end(found, pods))
    begun = attempt.status.progress is not None
    lost = silence.lost(found, pods, here.now, begun=begun)
    if lost:
        return _again(here, story, attempt, Evidence(FailureClass.INFRASTRUCTURE, lost))
    if begun and here.beheaded(found, pods):
        return _without_a_head(here, story, attempt)
    _follow(here, story, attempt, found)
    short = None if found.spec.suspend else placing.shortage(attempt, pods, here.now)
    if short is not None:
        return _short(here, story, attempt, short)
    # No event tells that a pod should have gone by now.
    if any(pod.going and not pod.ended for pod in pods):
        return here.told(story, again=PODS_SECONDS)
    return here.told(story, again=None if observed.place is None else PLACE_SECONDS)


def _short(here: Deciding, story: Story, attempt: AttemptSeen, short: placing.Shortage) -> Decision:
    """Wait for places; then say that this attempt is over, and do the rest when that is known.

    Said first and done later, so that how many had a place is not lost with their pods.
    """
    if short.wait > 0:
        patience = f"{placing.PATIENCE_SECONDS:.0f} s"
        story.message += f"; after {patience} it is gone on with {some(short.placed, 'worker')}"
        return here.told(story, again=short.wait + 0.5)
    here.end(story, attempt, Evidence(FailureClass.UNPLACED, short.why))
    story.attempts[-1] = story.attempts[-1].model_copy(update={"placed": short.placed})
    story.phase, story.reason = JobPhase.LAUNCHING, Reason.RETRYING
    story.message = _ended(story.attempts[-1])
    return here.told(story, again=1.0)


def _with_result(
    here: Deciding, story: Story, attempt: AttemptSeen, result: AttemptResult
) -> Decision:
    story.metrics, story.bundle, story.report = result.metrics, result.bundle, result.report
    if result.phase is Phase.SUCCEEDED:
        story.phase, story.reason = JobPhase.SUCCEEDED, Reason.FINISHED
        story.message = f"finished at step {result.step:,}"
        return here.told(here.end(story, attempt))
    if result.phase is Phase.STOPPED and result.failure is FailureClass.BUDGET:
        story.phase, story.reason = JobPhase.STOPPED, Reason.STOPPED
        story.message = result.message
        return here.told(here.end(story, attempt))
    last = story.attempts[-1]
    if last.failure is FailureClass.UNPLACED:
        # Its own word came while its pods were taken away, and is of no weight.
        return _again(here, story, attempt, Evidence(last.failure, last.message))
    if result.phase is Phase.STOPPED:
        # What was told at its end stands: the Workload goes with its RayJob.
        told = story.attempts[-1].message or queueing.taken(here.observed.workload)
        return _again(here, story, attempt, Evidence(FailureClass.PREEMPTED, told))
    failure = result.failure or FailureClass.UNKNOWN
    return _again(here, story, attempt, Evidence(failure, result.message))


def _launch(here: Deciding, story: Story, attempt: AttemptSeen) -> Decision:
    """Make the RayJob; one that was made and is no longer there was deleted."""
    observed = here.observed
    story.phase, story.reason = JobPhase.LAUNCHING, Reason.LAUNCHING
    if story.attempts[-1].launched:
        return _again(here, story, attempt, evidence.of_the_end(None, ()))
    if not observed.kuberay:
        story.reason = Reason.KUBERAY_MISSING
        story.message = "this cluster has no RayJob: install the KubeRay operator "
        story.message += f"({OLDEST_KUBERAY} or newer)"
        return here.told(story, again=ABSENT_SECONDS)
    if observed.frozen is None or observed.frozen.number != attempt.spec.number:
        return here.told(story, again=1.0)
    plan = _plan_of(observed.frozen)
    story.message = f"attempt {attempt.spec.number}: waiting for {plan.workers + 1} pods"
    job = manifest_of(observed.frozen)
    runtime = here.runtime_of(observed.frozen)
    body = ray_job(job, attempt.name, attempt.uid, plan, runtime)
    return here.told(story, create=Create(RAY_JOBS, body))


def _follow(here: Deciding, story: Story, attempt: AttemptSeen, found: RayJobSeen) -> None:
    """Tell where an attempt stands that has not ended."""
    progress, number = attempt.status.progress, attempt.spec.number
    pods = here.observed.pods.get(attempt.name, ())
    silent = silence.told(pods, here.now)
    if found.spec.suspend:
        story.phase, story.reason = JobPhase.QUEUED, Reason.QUEUED
        why = queueing.waiting(found, here.observed.workload, here.observed.place)
        story.message = f"attempt {number}: {why}"
        return
    if progress is None:
        story.phase, story.reason = JobPhase.LAUNCHING, Reason.LAUNCHING
        stuck = " ".join(found.refused_pods.split()) or silent or evidence.waiting_for(pods)
        run = f"attempt {number}: {evidence.running(pods)} of {len(pods)} pods run"
        story.message = f"{run}; {stuck}" if stuck else run
        return
    evaluating = progress.phase is Phase.EVALUATING
    story.phase = JobPhase.EVALUATING if evaluating else JobPhase.RUNNING
    story.reason = Reason.TRAINING
    story.message = "; ".join(part for part in (progress.note, silent) if part)


def _without_a_head(here: Deciding, story: Story, attempt: AttemptSeen) -> Decision:
    """Wait for the end of a RayJob whose head is gone, but not for ever.

    Since when it is gone nobody says: the job does not count as running from then on.
    """
    known = {condition.type: condition for condition in here.observed.seen.status.conditions}
    runs = known.get(ConditionType.RUNNING)
    since = runs.last_transition_time if runs is not None and runs.status == "False" else None
    waited = waited_since(since, here.now)
    if waited > LINGER_SECONDS:
        why = "its head is gone, and nobody says how it ended; its node may have left the cluster"
        return _again(here, story, attempt, Evidence(FailureClass.INFRASTRUCTURE, why))
    story.phase, story.reason = JobPhase.LAUNCHING, Reason.RETRYING
    story.message = f"attempt {attempt.spec.number}: its head is gone; its RayJob is about to end"
    return here.told(story, again=LINGER_SECONDS - max(0.0, waited) + 0.5)


def _again(here: Deciding, story: Story, attempt: AttemptSeen, why: Evidence) -> Decision:
    """Try again where that can help and is allowed; else fail."""
    here.end(story, attempt, why)
    number = attempt.spec.number
    free = why.failure.free
    smaller = _smaller(here, story, why)
    # A newer attempt has the run, and the cluster knows of none: its memory was put back to
    # earlier. Numbers are counted on until storage knows of none that is higher.
    forgotten = why.failure is FailureClass.FENCED
    if not (why.failure.retryable or free or smaller or forgotten):
        message = f"attempt {number} failed ({why.failure}): {why.message}"
        return here.fail(story, Reason.ATTEMPT_FAILED, message, why.failure)
    vain = in_vain(story.attempts)
    allowed = here.job.spec.retry.max_failures if here.job is not None else 0
    if vain > allowed and not free:
        message = (
            f"{vain} attempts failed without a new checkpoint (retry.maxFailures: {allowed}); "
            f"the last one ({why.failure}): {why.message}"
        )
        return here.fail(story, Reason.TOO_MANY_FAILURES, message, why.failure)
    story.phase, story.reason = JobPhase.LAUNCHING, Reason.RETRYING
    story.message = _ended(story.attempts[-1])
    wait = _wait_for_the_last(here, story, attempt, pause=0.0 if free else _pause(vain))
    if wait is not None:
        return wait
    if here.observed.frozen is None:
        return here.told(story, again=1.0)
    if here.observed.facts is None:
        return preparing.once_more(here, story)
    if smaller:
        story.message += f" with training.microBatch: {smaller}"
    before = _plan_of(here.observed.frozen)
    return _next(here, story, number=number + 1, before=before, micro_batch=smaller)


def _ended(last: AttemptSummary) -> str:
    """That an attempt ended, and why it is not the last."""
    return f"attempt {last.number} ended ({last.failure}): {last.message}; trying again"


def _pause(vain: int) -> float:
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** max(0, vain - 1))


def _wait_for_the_last(
    here: Deciding, story: Story, attempt: AttemptSeen, *, pause: float
) -> Decision | None:
    """Wait until the last attempt can write no more; None when that is so."""
    last = story.attempts[-1]
    waited = waited_since(last.ended, here.now)
    # One that was ended for want of a place does not end by itself.
    linger = 0.0 if last.failure is FailureClass.UNPLACED else LINGER_SECONDS
    found = here.observed.ray_jobs.get(attempt.name)
    pods = here.observed.pods.get(attempt.name, ())
    if found is not None and not found.ended and not found.going:
        never = here.beheaded(found, pods) or silence.lost(found, pods, here.now, begun=True)
        if waited < linger and not never:
            story.message += " when its RayJob has ended"
            return here.told(story, again=linger - waited + 0.5)
        return here.told(story, delete=Delete.of(RAY_JOBS, found), again=PODS_SECONDS)
    if not here.observed.pods_known:
        story.message += " when it is known which of its pods are left"
        return here.told(story, again=PODS_SECONDS)
    left = [pod for pod in pods if not silence.gone(pod, here.now)]
    if left:
        silent = silence.nodes(left, here.now)
        story.message += f" when its {len(left)} pods are gone"
        story.message += f", or were waited for long enough: {silent}" if silent else ""
        return here.told(story, again=PODS_SECONDS)
    if waited < pause:
        return here.told(story, again=max(1.0, pause - waited))
    return None


def _smaller(here: Deciding, story: Story, why: Evidence) -> int | None:
    """The micro-batch to try after memory ran out; None when that is no way out.

    Once, and only while no checkpoint binds the run to the cut it was begun with.
    """
    if why.failure is not FailureClass.OUT_OF_MEMORY or here.observed.frozen is None:
        return None
    earlier = [a for a in story.attempts[:-1] if a.failure is FailureClass.OUT_OF_MEMORY]
    if earlier or story.attempts[-1].step:
        return None
    plan = _plan_of(here.observed.frozen)
    halves = [m for m in range(1, plan.micro_batch) if plan.batch_size % m == 0]
    fitting = [m for m in halves if m <= plan.micro_batch // 2]
    return fitting[-1] if fitting else None


def _next(
    here: Deciding,
    story: Story,
    *,
    number: int,
    before: Plan | None,
    micro_batch: int | None = None,
) -> Decision:
    """Plan and make the attempt of that number. ``before``: the plan that it goes on with."""
    observed, job = here.observed, here.job
    assert observed.facts is not None
    if job is None:
        return here.refuse()
    placed = placing.next_number(story.attempts)
    workers, profile = placed or job.spec.workers.most, here.profile
    held = waits_for_gpus(job, profile, workers, observed.gpus_of_others) if profile else ""
    if held:
        story.phase, story.reason, story.message = JobPhase.PENDING, Reason.NAMESPACE_LIMIT, held
        story.accepted = ("False", Reason.NAMESPACE_LIMIT, held)
        return here.told(story, again=GPUS_SECONDS)
    if micro_batch is not None:
        job, before = _with_micro_batch(job, micro_batch), None
    try:
        machine = machine_of(job, profile.accelerator if profile else None, workers)
        plan = make_plan(job, observed.facts, machine, frozen=before, placed=placed)
    except TunefleetError as error:
        message = " ".join(str(error).split())
        return here.fail(story, Reason.PLAN_REFUSED, message, FailureClass.USER)
    spec = AttemptSpec(
        job=job.metadata.name,
        owner=observed.seen.uid,
        number=number,
        stage=Stage.TRAIN,
        manifest=job_values(job),
        run=story.run,
        plan=plan.model_dump(mode="json", by_alias=True),
        profile=here.snapshot,
    )
    if story.reason is Reason.LAUNCHING:
        story.message = (
            f"attempt {number}: {plan.total_steps:,} steps of {plan.batch_size} on "
            f"{some(plan.workers, 'worker')}"
        )
    elif job.spec.workers.max is not None:
        story.message += f", on {some(plan.workers, 'worker')}"
    return here.told(story, create=here.attempt(job, spec))


def _with_micro_batch(job: FineTuneJob, micro_batch: int) -> FineTuneJob:
    training = job.spec.training.model_copy(update={"micro_batch": micro_batch})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"training": training})})


def _plan_of(spec: AttemptSpec) -> Plan:
    return Plan.from_json(json.dumps(spec.plan))
