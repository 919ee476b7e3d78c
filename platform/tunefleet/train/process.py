"""What one training process does from its first line to its last.

Decides the order: join the group, claim the start, load, restore, train, finish; and what
becomes of an error: it is classed, recorded in storage, and raised again only where a
restart can help. Knows nothing of Ray or torchrun, which call ``run_process``.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tunefleet.api.errors import TunefleetError
from tunefleet.api.job import FineTuneJob
from tunefleet.api.version import VERSION
from tunefleet.api.words import Cause, DeviceType, FailureClass, Phase
from tunefleet.channel.folder import RunEnd
from tunefleet.channel.schema import Event, EventKind
from tunefleet.cost.clock import CauseClock
from tunefleet.data.tokens import TokenStore
from tunefleet.evaluate.result import Outcome
from tunefleet.plan.worker import WorkerConfig
from tunefleet.storage.checkpoints import CheckpointWriter, load_manifest
from tunefleet.storage.manifest import Manifest
from tunefleet.storage.run import FailureRecord, RunStore, StartRecord
from tunefleet.tasks import task_of
from tunefleet.tasks.contract import TaskContext
from tunefleet.train import exits, failures, finish, metering, starts
from tunefleet.train.budget import BudgetWatch
from tunefleet.train.group import Group
from tunefleet.train.loop import Loop, LoopEnd, Parts
from tunefleet.train.node_files import NodeFiles
from tunefleet.train.reporting import Reporter
from tunefleet.train.saver import Saver
from tunefleet.train.state import FILES, RunState, restore
from tunefleet.train.step import ExactStep
from tunefleet.train.trackers.choice import tracked, trackers_of
from tunefleet.train.trackers.contract import Ending
from tunefleet.train.trackers.feed import Feed
from tunefleet.train.watchdog import Watchdog

_ECHO_SECONDS = 3.0
HANG_FLOOR_SECONDS = float(os.environ.get("TUNEFLEET_HANG_SECONDS", "300"))


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a group and what it works with."""

    config: WorkerConfig
    group: Group
    device: torch.device
    run: RunStore
    files: NodeFiles
    out: RunEnd
    clock: CauseClock
    interrupted: Callable[[], bool]


def device_of(device: DeviceType, local_rank: int) -> torch.device:
    """The device of a process."""
    if device is DeviceType.CUDA:
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    return torch.device(device.value)


def run_process(
    config: WorkerConfig,
    *,
    local_rank: int,
    interrupted: Callable[[], bool] = lambda: False,
    now_ns: Callable[[], int] = time.monotonic_ns,
) -> None:
    """Do this process's part of the run; returns when the run ended, one way or another.

    ``now_ns`` is the machine's monotonic clock, by which time is metered.

    Raises what a restart of the group can mend, and whatever else the others would not notice; the
    record of it is in storage already.
    """
    group, run = Group.current(), RunStore.at(config.address)
    process = Process(
        config=config,
        group=group,
        device=device_of(config.plan.device, local_rank),
        run=run,
        files=NodeFiles(run, group, local_rank, Path(config.scratch)),
        out=RunEnd(Path(config.scratch)),
        clock=CauseClock(now_ns, Cause.STARTUP, since=config.started_ns),
        interrupted=interrupted,
    )
    process.clock.switch(Cause.INIT)
    torch.set_num_threads(config.plan.threads_per_worker)
    claimed, opening = _claim(process)
    if isinstance(claimed, starts.GiveUp):
        for last in process.run.starts(config.address.attempt)[-1:]:
            _trackers(process, last).close(Ending(Phase.FAILED, claimed.message))
        if process.group.leads:
            exits.give_up(process.run, config.address.attempt, claimed)
        return
    if config.started_ns is None:
        # Where the driver's clock began the attempt, all workers are on its machine.
        now_ns = metering.leaders_clock(group, now_ns)
    if opening.follows or config.started_ns is None:
        process = replace(process, clock=metering.clock_of(opening, now_ns))
    meter = metering.Meter(
        process.clock, process.group, process.run, process.out, opening, config.rates, now_ns
    )
    trackers = _trackers(process, claimed)
    try:
        _train(process, claimed, meter, trackers)
    except Exception as error:
        # Raised, it ends the others as well; the next start reads the record and gives up.
        again = _record(process, claimed, error) or not group.hears_of_leaving(process.device)
        trackers.close(None if again else Ending(Phase.FAILED, failures.describe(error)))
        if again:
            raise


def _claim(process: Process) -> tuple[StartRecord | starts.GiveUp, metering.Opening]:
    address = process.config.address

    def begin() -> tuple[StartRecord | starts.GiveUp, metering.Opening]:
        start = starts.begin(
            process.run,
            address.attempt,
            workers=process.group.world,
            max_failures=process.config.plan.max_failures,
            scratch=process.files.folder,
        )
        opening = metering.open_account(
            process.run,
            address.attempt,
            0 if isinstance(start, starts.GiveUp) else start.start,
            Path(process.config.scratch),
            attempt_ns=process.config.started_ns,
            now_ns=process.clock.began,
        )
        return start, opening

    try:
        return process.group.share(begin)
    except TunefleetError as error:
        if process.group.leads:
            _tell(process, "unclaimed", failures.describe(error))
        raise


def _trackers(process: Process, start: StartRecord) -> Feed:
    """Where the leader mirrors the run's numbers to; the others mirror nothing."""
    trackers = trackers_of(process.config.tracking) if process.group.leads else []
    if not trackers:
        return Feed((), None)
    resumed = None if start.resumed_from is None else start.resumed_step
    feed = Feed(trackers, tracked(process.config, process.run, resumed_step=resumed))
    feed.start(lambda message: _tell(process, "warning", message))
    return feed


def _train(process: Process, start: StartRecord, meter: metering.Meter, trackers: Feed) -> None:
    config, plan = process.config, process.config.plan
    job = FineTuneJob.model_validate_json(json.dumps(config.job))
    context = TaskContext(job.spec.options, tuple(config.labels), plan.max_length)
    task = task_of(plan.task, context)
    model = task.load_model(Path(config.model_path), job.spec.model, plan.seed)
    if plan.precision == "fp64":
        model = model.double()
    if plan.gradient_checkpointing:
        from tunefleet.tasks.models import enable_gradient_checkpointing

        enable_gradient_checkpointing(model)
    model.to(process.device)
    stores = {name: TokenStore(Path(folder)) for name, folder in config.stores.items()}
    exact = ExactStep(
        plan=plan,
        task=task,
        model=model,
        store=stores["train"],
        group=process.group,
        device=process.device,
    )
    state = _restore(process, start, exact)
    watchdog = _watchdog(process, start)
    budget = _budget(process)
    reporter, saver = _leaders_tools(process, start, meter, budget, trackers)

    def beat() -> None:
        watchdog.beat()
        if process.group.leads:
            meter.tick()

    parts = Parts(
        plan=plan,
        task=task,
        model=model,
        stores=stores,
        group=process.group,
        device=process.device,
        clock=process.clock,
        meter=meter,
        model_path=Path(config.model_path),
        files=process.files,
        saver=saver,
        reporter=reporter,
        interrupted=process.interrupted,
        beat=beat,
        expect=watchdog.expect,
    )
    watchdog.start()
    try:
        end = Loop(parts, exact, state).run()
        if end.asked_to_stop:
            spent = budget.reason if budget else ""
            message = spent or f"stopped at step {end.state.step}"
            with process.clock.cause(Cause.OTHER):
                trackers.close(Ending(Phase.STOPPED, message))
            exits.write(
                process.run,
                process.group,
                meter,
                Phase.STOPPED,
                message,
                step=end.state.step,
                failure=FailureClass.BUDGET if spent else None,
            )
        else:
            # A second model is loaded to prove the bundle: it takes the room of the training.
            exact.close()
            if saver:
                saver.close()
            _finish(process, start, parts, end, job, trackers)
    finally:
        watchdog.close()
        meter.close()
        if saver:
            saver.close()


def _restore(process: Process, start: StartRecord, exact: ExactStep) -> RunState | None:
    if process.group.leads:
        for damaged in start.passed_over:
            _tell(process, "warning", f"a newer checkpoint cannot be used: {damaged}")
    if start.resumed_from is None:
        return None
    with process.clock.cause(Cause.RESTORE):
        # The manifest that the start was claimed with: the same one on every worker.
        manifest = load_manifest(process.run, start.resumed_from)
        with process.files.of(manifest, *FILES) as opened:
            state = restore(exact.model, exact.optimizer, opened)
    if process.group.leads:
        _tell(process, "resumed", f"resumed from checkpoint {manifest.name}", state.step)
    return state


def _tell(process: Process, kind: EventKind, message: str, step: int | None = None) -> None:
    process.out.event(Event(kind=kind, message=message, step=step))


def _budget(process: Process) -> BudgetWatch | None:
    limits = process.config.plan.budget
    if limits is None or not process.group.leads:
        return None
    return BudgetWatch(
        limits,
        process.config.rates,
        process.group.world,
        warn=lambda text: _tell(process, "warning", text),
    )


def _leaders_tools(
    process: Process,
    start: StartRecord,
    meter: metering.Meter,
    budget: BudgetWatch | None,
    trackers: Feed,
) -> tuple[Reporter | None, Saver | None]:
    if not process.group.leads:
        return None, None
    plan = process.config.plan
    reporter = Reporter(process.out, plan, meter, budget=budget, trackers=trackers)

    def committed(manifest: Manifest) -> None:
        meter.committed()
        reporter.checkpoint(manifest.step, manifest.name)

    saver = Saver(
        process.run,
        CheckpointWriter(process.run, start),
        plan,
        digests={
            "code": f"tunefleet {VERSION}",
            "model": plan.model_digest,
            "data": plan.data_digest,
            "spec": plan.spec_digest,
        },
        committed=committed,
    )
    return reporter, saver


def _watchdog(process: Process, start: StartRecord) -> Watchdog:
    def record(silent: float) -> None:
        process.run.record_failure(
            FailureRecord(
                attempt=start.attempt,
                start=start.start,
                rank=process.group.rank,
                failure=FailureClass.HUNG,
                message=f"rank {process.group.rank} on {socket.gethostname()} "
                f"made no step in {silent:.0f} s",
                traceback="",
            )
        )

    stacks = Path(process.config.scratch) / f"stacks-{process.group.rank}.txt"
    return Watchdog(stacks, floor_seconds=HANG_FLOOR_SECONDS, on_hang=record)


def _finish(
    process: Process,
    start: StartRecord,
    parts: Parts,
    end: LoopEnd,
    job: FineTuneJob,
    trackers: Feed,
) -> None:
    if parts.reporter:
        parts.reporter.phase(
            Phase.EVALUATING, end.state.step, "scoring the best checkpoint, making the bundle"
        )
    with process.clock.cause(Cause.EVALUATION):
        outcome = finish.finish(
            process.run, start, parts, end.state, job, Path(process.config.scratch)
        )
    with process.clock.cause(Cause.OTHER):
        if outcome is not None:
            trackers.close(_ending(outcome))
    if process.group.leads:
        process.run.check_fence(start.attempt, start.start)
    step = end.state.step
    exits.write(process.run, process.group, parts.meter, Phase.SUCCEEDED, "finished", step=step)


def _ending(outcome: Outcome) -> Ending:
    """What trackers keep of a run that ended well."""
    return Ending(
        Phase.SUCCEEDED,
        metrics={
            f"final/{split}/{name}": value
            for split, scores in outcome.splits.items()
            for name, value in scores.after.items()
        },
        facts={
            "bundle": outcome.bundle.uri,
            "bundle_digest": outcome.bundle.digest,
            "best_step": str(outcome.best_step),
        },
    )


def _record(process: Process, start: StartRecord, error: Exception) -> bool:
    """Record a failure; whether a restart of the group can mend it.

    A failed worker's peers see only a lost connection: they wait a moment for its record, so
    that the whole group comes to one conclusion without a restart.
    """
    failure = failures.classify(error)
    process.run.record_failure(
        FailureRecord(
            attempt=start.attempt,
            start=start.start,
            rank=process.group.rank,
            failure=failure,
            message=failures.describe(error),
            traceback=failures.trace(error),
        )
    )
    process.group.leave()
    deadline = time.monotonic() + _ECHO_SECONDS
    while failure.retryable and time.monotonic() < deadline:
        told = process.run.failures(start.attempt, start.start)
        final = [record for record in told if not record.failure.retryable]
        if final:
            return False
        time.sleep(0.2)
    return failure.retryable
