"""What a job's pods do on a cluster: prepare, train, and leave in good order.

Decides how the stages of ``run`` are shared out: one pod prepares and leaves tokens and facts
beside the run; the driver of a RayJob claims its attempt, trains on the Ray around it and
makes the report; a worker's pod that has to go asks its worker to save. What became of it is
told to the attempt's object, as the last thing. Heavy packages are imported where they are
needed.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunefleet.api.attempt import (
    PROBLEMS_KEPT,
    AttemptBundle,
    AttemptProblem,
    AttemptResult,
    AttemptSpec,
)
from tunefleet.api.errors import MachineError, RunError, TunefleetError
from tunefleet.api.job import FineTuneJob
from tunefleet.api.words import Command, FailureClass, Phase
from tunefleet.channel.attempt import Attempt
from tunefleet.plan.document import Plan
from tunefleet.plan.worker import RunAddress, WorkerConfig
from tunefleet.verbs.jobfile import JobFile
from tunefleet.verbs.run import Observer
from tunefleet.verbs.transcript import Transcript

if TYPE_CHECKING:
    from tunefleet.evaluate.result import RunResult
    from tunefleet.plan.facts import Facts
    from tunefleet.storage.run import ExitRecord, RunStore

SCRATCH = Path("/tmp/tunefleet")
"""Below it, each attempt has a folder of its own in every one of its pods."""

_HELLO_SECONDS = 120.0
_GOODBYE_SECONDS = 300.0


def here() -> Attempt:
    """The attempt that this pod belongs to; ``MachineError`` outside a cluster."""
    attempt = Attempt.here()
    if attempt is None:
        raise MachineError(
            "this is no pod of an attempt",
            remedy="`tunefleet pod` is what the controller's pods run; on a laptop use "
            "`tunefleet run job.yaml`",
        )
    return attempt


def prepare(attempt: Attempt, observer: Observer) -> AttemptResult:
    """Check data and model, tokenise, make the run, and publish the facts.

    What is wrong with the input becomes the result, with file and line. What another try may
    mend (a store that is away) is raised: the Job makes another pod.
    """
    with Transcript(observer) as heard:
        result = _prepared(attempt, heard)
        heard.result(result.to_json())
    _conclude(attempt, result, observer)
    return result


def train(attempt: Attempt, observer: Observer) -> AttemptResult:
    """Drive one attempt to its end on the Ray that runs here, and publish how it ended."""
    with Transcript(observer) as heard:
        spec = attempt.patch_surely({}, seconds=_HELLO_SECONDS, say=heard.say)
        try:
            result = _Training(attempt, spec, heard).go()
        except TunefleetError as error:
            result = _refused(error)
        heard.result(result.to_json())
    _conclude(attempt, result, observer)
    return result


def drain(attempt: Attempt, seconds: float) -> bool:
    """Ask this pod's workers to save and stop; whether they have in so many seconds."""
    from tunefleet.train.leaving import Leaving

    return Leaving(SCRATCH / attempt.name).ask(seconds)


def _prepared(attempt: Attempt, heard: Transcript) -> AttemptResult:
    from tunefleet.train.failures import classify

    spec = attempt.patch_surely({}, seconds=_HELLO_SECONDS, say=heard.say)
    try:
        facts, run = _prepare(spec, heard)
    except TunefleetError as error:
        if classify(error).retryable:
            raise
        return _refused(error)
    published = facts.model_dump(mode="json", by_alias=True, exclude_none=True)
    news: dict[str, object] = {"run": run.run, "facts": published}
    attempt.patch_surely(news, seconds=_GOODBYE_SECONDS, say=heard.say)
    return AttemptResult(phase=Phase.SUCCEEDED, message=_found(facts))


def _prepare(spec: AttemptSpec, heard: Transcript) -> tuple[Facts, RunStore]:
    from tunefleet.storage.run import RunStore
    from tunefleet.storage.store import open_store
    from tunefleet.train.carry import stow
    from tunefleet.verbs.preparing import prepare_job

    job = _job(spec)
    heard.say(f"preparing {job.metadata.name}: model, data, tokens")
    prepared = prepare_job(_file(job))
    store = open_store(job.spec.checkpoints.uri, Path("/"))
    metadata = job.metadata
    run = RunStore.of_owner(store, metadata.namespace, metadata.name, spec.owner)
    heard.keep_in(run, spec.number, "prepare")
    heard.say(f"{run.uri}: keeping {prepared.facts.data.train.units:,} rows of tokens")
    stow(run, prepared.facts)
    run.put_json("job.json", spec.manifest)
    run.put_json("facts.json", prepared.facts)
    return prepared.facts, run


@dataclass(frozen=True, slots=True)
class _Training:
    """One call of :func:`train`."""

    attempt: Attempt
    spec: AttemptSpec
    heard: Transcript

    def go(self) -> AttemptResult:
        from tunefleet.storage.run import RunStore, Writer
        from tunefleet.storage.store import open_store
        from tunefleet.verbs.going_on import finished

        began = time.monotonic()
        spec, job = self.spec, _job(self.spec)
        if spec.run is None or spec.plan is None:
            raise RunError(f"{self.attempt.name} has no run or no plan: it does not train")
        plan = Plan.from_json(json.dumps(spec.plan))
        store = open_store(job.spec.checkpoints.uri, Path("/"))
        run = RunStore(store, job.metadata.namespace, job.metadata.name, spec.run)
        run.claim_numbered(spec.number, f"{spec.owner}/{self.attempt.name}", Writer.here())
        self.heard.keep_in(run, spec.number, "driver")
        run.put_json("plan.json", plan)
        ended = finished(run) or self._ended_before(run)
        if ended is None:
            ended = self._drive(run, job, plan)
        return self._result(run, job, plan, ended, time.monotonic() - began)

    def _ended_before(self, run: RunStore) -> ExitRecord | None:
        """How an earlier execution of this attempt ended it for good; None where it goes on.

        One that stopped though nobody had asked gave way (to a queue, a drained node): whoever
        starts the attempt again wants it to go on.
        """
        record = run.exit_record(self.spec.number)
        gave_way = (
            record is not None
            and record.phase is Phase.STOPPED
            and record.failure is not FailureClass.BUDGET
            and self.spec.command is Command.NONE
        )
        return None if gave_way else record

    def _drive(self, run: RunStore, job: FineTuneJob, plan: Plan) -> ExitRecord:
        from tunefleet.train.carry import facts_of
        from tunefleet.train.driver import Interrupts, Watcher, drive

        facts = facts_of(run)
        config = WorkerConfig(
            address=RunAddress(
                uri=run.store.uri,
                namespace=run.namespace,
                job=run.job,
                run=run.run,
                attempt=self.spec.number,
            ),
            job=self.spec.manifest,
            plan=plan,
            model_path=facts.model.path,
            labels=facts.data.labels,
            stores={name: split.store for name, split in facts.data.splits.items()},
            scratch=str(SCRATCH / self.attempt.name),
            carried=True,
            tracking=job.spec.tracking,
        )
        self.heard.say(
            f"{run.run}, attempt {self.spec.number}: {plan.total_steps} steps of "
            f"{plan.batch_size} on {plan.workers} worker(s), {plan.device}, {plan.precision}"
        )
        watcher = Watcher(progress=self.heard.progress, event=self.heard.event)
        return drive(config, run, watcher, Interrupts(), dashboard=False)

    def _result(
        self, run: RunStore, job: FineTuneJob, plan: Plan, ended: ExitRecord, seconds: float
    ) -> AttemptResult:
        from tunefleet.data.cache import cache_root
        from tunefleet.storage.checkpoints import sweep
        from tunefleet.train.carry import facts_of, unpack
        from tunefleet.verbs.concluding import conclude

        if ended.phase is Phase.FAILED:
            return AttemptResult(
                phase=ended.phase, failure=ended.failure, message=ended.message, step=ended.step
            )
        prepared = unpack(run, facts_of(run), cache_root())
        result = conclude(run, job, plan, prepared, ended, wall_seconds=seconds)
        run.put_json("report/result.json", result)
        if ended.phase is Phase.SUCCEEDED:
            sweep(run)
        return _ended(result, asked=self.spec.command)


def _ended(result: RunResult, *, asked: Command) -> AttemptResult:
    """A result of ``run`` in the attempt's words."""
    shown = "test" if "test" in result.splits else "validation"
    failure = result.failure
    if result.phase is Phase.STOPPED and failure is None and asked is Command.NONE:
        # Nobody asked: a pod had to go, and its worker saved before it did.
        failure = FailureClass.PREEMPTED
    return AttemptResult(
        phase=result.phase,
        failure=failure,
        message=result.message,
        step=result.steps,
        resumed_from=result.resumed_from,
        metrics=dict(result.splits[shown].after) if shown in result.splits else {},
        bundle=AttemptBundle(uri=result.bundle.uri, digest=result.bundle.digest)
        if result.bundle
        else None,
        report=result.report or "",
    )


def _refused(error: TunefleetError) -> AttemptResult:
    """An error of the input or of storage in the attempt's words."""
    from tunefleet.train.failures import classify

    problems = [
        AttemptProblem(
            message=problem.message,
            where=problem.where,
            remedy=problem.remedy,
            file=problem.file,
            line=problem.line,
        )
        for problem in error.problems[:PROBLEMS_KEPT]
    ]
    remedy = f" → {error.remedy}" if error.remedy else ""
    return AttemptResult(
        phase=Phase.FAILED,
        failure=classify(error),
        message=f"{error.message}{remedy}",
        problems=problems,
    )


def _conclude(attempt: Attempt, result: AttemptResult, observer: Observer) -> None:
    value = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    attempt.patch_surely({"result": value}, seconds=_GOODBYE_SECONDS, say=observer.say)


def _job(spec: AttemptSpec) -> FineTuneJob:
    return FineTuneJob.model_validate_json(json.dumps(spec.manifest))


def _file(job: FineTuneJob) -> JobFile:
    """The job as if it had been read from a file at the root: all its locations are absolute."""
    from tunefleet.api.digest import job_digest

    root = Path("/")
    return JobFile(job, root / f"{job.metadata.name}.yaml", root, "", job_digest(job))


def _found(facts: Facts) -> str:
    data = facts.data
    warnings = sum(finding.severity == "warning" for finding in data.findings)
    noted = f", {warnings} warning(s)" if warnings else ""
    return (
        f"{data.train.rows:,} rows to train on, {data.validation.rows:,} to validate; "
        f"{facts.model.parameters / 1e6:.1f} million parameters{noted}"
    )
