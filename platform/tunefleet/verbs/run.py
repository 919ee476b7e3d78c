"""``run``: one job from its file to a bundle and a report, on this machine.

Decides the order of a run's stages and what each leaves in the run's folder: check and
prepare, plan, claim, train, report. Everything that can be refused is refused before a
worker is started. Heavy packages are imported where they are needed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tunefleet.api.digest import job_values
from tunefleet.api.errors import BusyError, DataError, RunError
from tunefleet.api.words import Phase
from tunefleet.channel.schema import Event, Progress
from tunefleet.evaluate.result import RunResult
from tunefleet.plan.document import Plan
from tunefleet.plan.worker import RunAddress, WorkerConfig
from tunefleet.verbs.jobfile import JobFile, load
from tunefleet.verbs.preparing import prepare_job

if TYPE_CHECKING:
    from tunefleet.api.rates import Rate
    from tunefleet.plan.budget import Bill
    from tunefleet.storage.run import ExitRecord, RunStore
    from tunefleet.storage.store import Store
    from tunefleet.train.driver import Interrupts
    from tunefleet.train.environment import LocalRay
    from tunefleet.train.prepare import Prepared
    from tunefleet.verbs.going_on import GoOn


class Observer(Protocol):
    """Who is told what goes on."""

    def progress(self, progress: Progress) -> None: ...

    def event(self, event: Event) -> None: ...

    def say(self, text: str) -> None: ...


class Silent:
    """Nobody."""

    def progress(self, progress: Progress) -> None:
        """Ignore."""

    def event(self, event: Event) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is started. ``price`` is US dollars per worker-hour as text, or a sheet's file."""

    fresh: bool = False
    device: str = "auto"
    price: str | None = None
    price_sheet: str | Path | None = None
    dashboard: bool = True
    workers: int | None = None
    observer: Observer = field(default_factory=Silent)
    interrupts: Interrupts | None = None


def run(
    job_file: str | Path | JobFile,
    overrides: Sequence[str] = (),
    *,
    fresh: bool = False,
    device: str = "auto",
    price: str | None = None,
    price_sheet: str | Path | None = None,
    dashboard: bool = True,
    workers: int | None = None,
    observer: Observer | None = None,
    interrupts: Interrupts | None = None,
) -> RunResult:
    """Train, score and bundle a job; goes on with its newest run unless ``fresh``.

    Returns the result with ``phase`` Succeeded or Stopped (interrupted, or out of budget:
    ``failure`` tells; saved). Raises a
    ``TunefleetError`` before anything is spent, ``RunError`` when training failed.
    """
    options = RunOptions(
        fresh,
        device,
        price,
        price_sheet,
        dashboard,
        workers,
        observer or Silent(),
        interrupts,
    )
    extra = [f"workers.count={workers}"] if workers is not None else []
    file = job_file if isinstance(job_file, JobFile) else load(job_file, [*overrides, *extra])
    return _Run(file, options).go()


class _Run:
    """One call of :func:`run`."""

    def __init__(self, file: JobFile, options: RunOptions) -> None:
        from tunefleet.verbs.pricing import pricing

        self._file = file
        self._options = options
        self._job = file.job
        self._began = time.monotonic()
        self._began_ns = time.monotonic_ns()
        self._began_at = datetime.now(UTC)
        self._pricing = pricing(options.price, options.price_sheet)
        self._rates: list[Rate] = []

    def go(self) -> RunResult:
        from tunefleet.storage.store import open_store
        from tunefleet.verbs import going_on

        store = open_store(self._job.spec.checkpoints.uri, self._file.base)
        found = None if self._options.fresh else going_on.find(store, self._job)
        if found is not None and found.ended is not None:
            self._say(f"{found.run.run} is finished already; --fresh trains again")
            done = stored_result(found.run)
            return done or self._conclude(found.run, found.plan, self._prepare(), found.ended)
        prepared = self._prepare()
        plan = self._plan(prepared, found)
        run = found.run if found else self._create(store)
        run.put_json("job.json", job_values(self._job))
        run.put_json("plan.json", plan)
        run.put_json("facts.json", prepared.facts)
        return self._attempt(run, plan, prepared)

    def _say(self, text: str) -> None:
        self._options.observer.say(text)

    def _create(self, store: Store) -> RunStore:
        from tunefleet.storage.run import RunStore

        metadata = self._job.metadata
        newest = RunStore.newest(store, metadata.namespace, metadata.name)
        if newest is not None:
            from tunefleet.verbs.going_on import begun_for_nothing, refuse_while_running

            refuse_while_running(newest)
            if begun_for_nothing(newest):
                return newest
        made = RunStore.try_create(store, metadata.namespace, metadata.name)
        if made is None:
            raise BusyError(
                f"{metadata.name} was started from elsewhere at the same moment",
                remedy="look at it with `tunefleet runs list`; run the same command again to "
                "go on with it once it is over",
            )
        return made

    def _prepare(self) -> Prepared:
        self._say(f"preparing {self._job.metadata.name}: model, data, tokens")
        return prepare_job(self._file)

    def _plan(self, prepared: Prepared, found: GoOn | None) -> Plan:
        """The plan; that of a run which goes on keeps its micro-batches and precision."""
        from tunefleet.plan.planner import make_plan
        from tunefleet.train.machine import machine_facts

        machine = machine_facts(self._options.device)
        self._rates = self._pricing.rates(machine.device.name, self._began_at)
        plan = make_plan(
            self._job,
            prepared.facts,
            machine,
            rate=next(iter(self._rates), None),
            frozen=found.plan if found else None,
            spent=_bill(found.run) if found else None,
        )
        if found is not None:
            self._refuse_other_input(found, plan)
            for change in found.changed:
                self._say(f"{change.field} changed from {change.old} to {change.new}: {change.why}")
        return plan

    def _refuse_other_input(self, found: GoOn, plan: Plan) -> None:
        if found.plan.data_digest != plan.data_digest:
            which = "data"
        elif found.plan.model_digest != plan.model_digest:
            which = "base model"
        else:
            return
        raise DataError(
            f"the {which} of {self._job.metadata.name} changed since {found.run.run} was started",
            remedy=f"put the old {which} back to go on, or begin a new run with --fresh",
        )

    def _attempt(self, run: RunStore, plan: Plan, prepared: Prepared) -> RunResult:
        from tunefleet.storage.run import Writer
        from tunefleet.train.driver import Interrupts, Watcher, drive
        from tunefleet.train.trackers import choice as trackers
        from tunefleet.verbs.going_on import finished

        claim = run.claim_attempt(Writer.here())
        ended = finished(run)
        if ended is not None:  # by workers that outlived their driver, while we prepared
            return self._conclude(run, plan, prepared, ended)
        scratch = Path(tempfile.mkdtemp(prefix=f"tunefleet-{run.job}-"))
        facts = prepared.facts
        config = WorkerConfig(
            address=RunAddress(
                uri=run.store.uri,
                namespace=run.namespace,
                job=run.job,
                run=run.run,
                attempt=claim.attempt,
            ),
            job=job_values(self._job),
            plan=plan,
            model_path=facts.model.path,
            labels=facts.data.labels,
            stores={name: split.store for name, split in facts.data.splits.items()},
            scratch=str(scratch),
            rates=self._rates,
            started_ns=self._began_ns,
            tracking=trackers.resolved(self._job.spec.tracking, self._file.base),
        )
        self._say(
            f"{run.run}, attempt {claim.attempt}: {plan.total_steps} steps of {plan.batch_size} "
            f"on {plan.workers} worker(s), {plan.device}, {plan.precision}"
        )
        try:
            ended = drive(
                config,
                run,
                Watcher(
                    started=self._started,
                    progress=self._options.observer.progress,
                    event=self._options.observer.event,
                    stopping=lambda name: self._say(
                        f"{name}: saving a checkpoint, then stopping (again to stop at once)"
                    ),
                ),
                self._options.interrupts or Interrupts(),
                dashboard=self._options.dashboard,
            )
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if ended.phase is Phase.FAILED:
            raise RunError(
                f"{run.run}, attempt {claim.attempt} failed ({ended.failure}): {ended.message}",
                remedy="what was committed is kept: "
                f"`tunefleet run {self._file.path}` goes on from it",
            )
        return self._conclude(run, plan, prepared, ended)

    def _started(self, ray: LocalRay) -> None:
        if ray.dashboard:
            self._say(f"Ray dashboard: {ray.dashboard}  (log in with the token {ray.token})")

    def _conclude(
        self, run: RunStore, plan: Plan, prepared: Prepared, ended: ExitRecord
    ) -> RunResult:
        from tunefleet.verbs.concluding import conclude

        result = conclude(
            run,
            self._job,
            plan,
            prepared,
            ended,
            wall_seconds=time.monotonic() - self._began,
        )
        run.put_json("report/result.json", result)
        if ended.phase is Phase.SUCCEEDED:
            from tunefleet.storage.checkpoints import sweep

            sweep(run)
        return result


def _bill(run: RunStore) -> Bill:
    """What a run has spent of its budget."""
    from tunefleet.cost.ledger import account_of
    from tunefleet.plan.budget import Bill

    account = account_of(run.spent())
    return Bill(account.wall / 1e9, account.microdollars or 0, account.unpriced_seconds)


def stored_result(run: RunStore) -> RunResult | None:
    """The result of a run that ended before, if it left one."""
    found = run.get_json("report/result.json")
    return None if found is None else RunResult.from_json(json.dumps(found))
