"""What a decision is, and what one is made from: the parts that all its steps share. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tunefleet.api.attempt import AttemptSpec, Stage
from tunefleet.api.job import FineTuneJob
from tunefleet.api.profile import ProfileSpec
from tunefleet.api.status import JobPhase, JobStatus, Reason
from tunefleet.api.words import Command, FailureClass, Phase
from tunefleet.controller.jobs import silence
from tunefleet.controller.jobs.attempts import summary
from tunefleet.controller.jobs.evidence import Evidence
from tunefleet.controller.jobs.observe import Observed
from tunefleet.controller.jobs.summary import Story, status_of, timestamp
from tunefleet.controller.kinds import ATTEMPTS
from tunefleet.controller.seen import AttemptSeen, PodSeen, RayJobSeen, Seen
from tunefleet.kube.resources import Resource
from tunefleet.render.attempt import attempt as render_attempt
from tunefleet.render.settings import Runtime


@dataclass(frozen=True, slots=True)
class Create:
    """An object to be made. That it is there already, and ours, is as good."""

    resource: Resource
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Delete:
    """An object to be taken away. That it is gone already is as good."""

    resource: Resource
    name: str
    uid: str

    @staticmethod
    def of(resource: Resource, seen: Seen) -> Delete:
        """Take away the very object that was seen."""
        return Delete(resource, seen.name, seen.uid)


@dataclass(frozen=True, slots=True)
class Ask:
    """A command for an attempt's pods; a higher ``sequence`` replaces a lower one."""

    attempt: str
    command: Command
    sequence: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, what to tell, and when to look again (None: when something happens).

    At most one of ``create``, ``delete`` and ``ask`` is there: a step is one write.
    """

    status: JobStatus
    create: Create | None = None
    delete: Delete | None = None
    ask: Ask | None = None
    again: float | None = None


def manifest_of(spec: AttemptSpec) -> FineTuneJob:
    """The job as it stood when an attempt was made."""
    return FineTuneJob.model_validate_json(json.dumps(spec.manifest))


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
        if first is not None and first.spec.stage is not Stage.PREPARE:
            # What it prepared was found good: something was trained on it.
            story.prepared = ("True", Reason.CHECKED, "")
        elif first is not None and first.status.result is not None:
            story.run = first.status.run or story.run
            message = first.status.result.message
            good = first.status.result.phase is Phase.SUCCEEDED
            story.prepared = (
                ("True", Reason.CHECKED, message)
                if good
                else ("False", Reason.INPUT_REFUSED, message)
            )
        return story

    @property
    def job(self) -> FineTuneJob | None:
        """What the job asks for, where it was read and can be honoured."""
        return self.observed.spec.job if self.observed.spec is not None else None

    @property
    def profile(self) -> ProfileSpec | None:
        """The profile that the job is under."""
        return self.observed.spec.profile if self.observed.spec is not None else None

    @property
    def snapshot(self) -> dict[str, object] | None:
        """The profile as it stands, for an attempt to keep."""
        if self.profile is None:
            return None
        return self.profile.model_dump(mode="json", by_alias=True, exclude_none=True)

    def runtime_of(self, spec: AttemptSpec) -> Runtime:
        """What an attempt's pods run, under the profile that it keeps."""
        kept = None if spec.profile is None else ProfileSpec.model_validate(spec.profile)
        return self.runtime.under(kept)

    def beheaded(self, ray_job: RayJobSeen, pods: Sequence[PodSeen]) -> bool:
        """Whether a RayJob that runs has no head any more; not while pods cannot be followed."""
        return self.observed.pods_known and silence.beheaded(ray_job, pods)

    def told(
        self,
        story: Story,
        *,
        create: Create | None = None,
        delete: Delete | None = None,
        ask: Ask | None = None,
        again: float | None = None,
    ) -> Decision:
        """The decision that tells this story."""
        seen = self.observed.seen
        status = status_of(story, seen.status, seen.metadata.generation, self.now)
        return Decision(status, create, delete, ask, again)

    def refuse(self) -> Decision:
        """The end of a job that cannot be honoured, told with all that is wrong."""
        problems = self.observed.spec.problems if self.observed.spec is not None else ()
        story = self.story
        story.phase, story.reason = JobPhase.FAILED, Reason.INVALID_SPEC
        story.message = "; ".join(" ".join(str(problem).split()) for problem in problems)
        story.accepted = ("False", Reason.INVALID_SPEC, story.message)
        return self.told(story)

    def fail(
        self, story: Story, reason: Reason, message: str, failure: FailureClass | None
    ) -> Decision:
        """The end of a job that failed."""
        story.phase, story.reason, story.message = JobPhase.FAILED, reason, message
        if reason is Reason.INPUT_REFUSED:
            story.prepared = ("False", reason, message)
        if story.attempts:
            last = story.attempts[-1]
            story.attempts[-1] = last.model_copy(
                update={
                    "phase": Phase.FAILED.value,
                    "failure": failure,
                    "message": message[:1024],
                }
            )
        return self.told(story)

    def end(self, story: Story, attempt: AttemptSeen, why: Evidence | None = None) -> Story:
        """The newest attempt's line, now that it has ended."""
        result = attempt.status.result
        last = story.attempts[-1]
        phase = result.phase if result is not None else Phase.FAILED
        if why is not None and why.failure is FailureClass.UNPLACED:
            phase = Phase.STOPPED
        story.attempts[-1] = last.model_copy(
            update={
                "phase": phase.value,
                "failure": why.failure if why else None,
                "message": why.message[:1024] if why else "",
                "ended": last.ended or timestamp(self.now),
            }
        )
        return story

    def attempt(self, job: FineTuneJob, spec: AttemptSpec) -> Create:
        """Make the attempt of a stage."""
        return Create(ATTEMPTS, render_attempt(job, self.observed.seen.uid, spec))
