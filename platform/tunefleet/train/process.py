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
from dataclasses import dataclass
from pathlib import Path

import torch

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
from tunefleet.storage.run import ExitRecord, FailureRecord, RunStore, StartRecord
from tunefleet.tasks import task_of
from tunefleet.tasks.contract import TaskContext
from tunefleet.train import failures, finish, starts
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
) -> None:
    """Do this process's part of the run; returns when the run ended, one way or another.

    Raises only what a restart of the group can mend; the record of it is in storage already.
    """
    group, run = Group.current(), RunStore.at(config.address)
    process = Process(
        config=config,
        group=group,
        device=device_of(config.plan.device, local_rank),
        run=run,
        files=NodeFiles(run, group, local_rank, Path(config.scratch)),
        out=RunEnd(Path(config.scratch)),
        clock=CauseClock(time.monotonic_ns, Cause.STARTUP, since=config.started_ns),
        interrupted=interrupted,
    )
    process.clock.switch(Cause.INIT)
    torch.set_num_threads(config.plan.threads_per_worker)
    claimed = _claim(process)
    if isinstance(claimed, starts.GiveUp):
        for last in process.run.starts(config.address.attempt)[-1:]:
            _trackers(process, last).close(Ending(Phase.FAILED, claimed.message))
        _write_exit(process, Phase.FAILED, claimed.message, failure=claimed.failure)
        return
    trackers = _trackers(process, claimed)
    try:
        _train(process, claimed, trackers)
    except Exception as error:
        again = _record(process, claimed, error)
        trackers.close(None if again else Ending(Phase.FAILED, failures.describe(error)))
        if again:
            raise


def _claim(process: Process) -> StartRecord | starts.GiveUp:
    def begin() -> StartRecord | starts.GiveUp:
        return starts.begin(
            process.run,
            process.config.address.attempt,
            workers=process.group.world,
            max_failures=process.config.plan.max_failures,
            scratch=process.files.folder,
        )

    return process.group.share(begin)


def _trackers(process: Process, start: StartRecord) -> Feed:
    """Where the leader mirrors the run's numbers to; the others mirror nothing."""
    trackers = trackers_of(process.config.tracking) if process.group.leads else []
    if not trackers:
        return Feed((), None)
    resumed = None if start.resumed_from is None else start.resumed_step
    feed = Feed(trackers, tracked(process.config, process.run, resumed_step=resumed))
    feed.start(lambda message: _tell(process, "warning", message))
    return feed


def _train(process: Process, start: StartRecord, trackers: Feed) -> None:
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
    reporter, saver = _leaders_tools(process, start, trackers)
    parts = Parts(
        plan=plan,
        task=task,
        model=model,
        stores=stores,
        group=process.group,
        device=process.device,
        clock=process.clock,
        model_path=Path(config.model_path),
        files=process.files,
        saver=saver,
        reporter=reporter,
        interrupted=process.interrupted,
        beat=watchdog.beat,
    )
    watchdog.start()
    try:
        end = Loop(parts, exact, state).run()
        if end.asked_to_stop:
            message = f"stopped at step {end.state.step}"
            with process.clock.cause(Cause.OTHER):
                trackers.close(Ending(Phase.STOPPED, message))
            _write_exit(process, Phase.STOPPED, message, step=end.state.step)
        else:
            # A second model is loaded to prove the bundle: it takes the room of the training.
            exact.close()
            if saver:
                saver.close()
            _finish(process, parts, end, job, trackers)
    finally:
        watchdog.close()
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


def _leaders_tools(
    process: Process, start: StartRecord, trackers: Feed
) -> tuple[Reporter | None, Saver | None]:
    if not process.group.leads:
        return None, None
    plan = process.config.plan
    reporter = Reporter(
        process.out,
        plan,
        process.clock,
        workers=process.group.world,
        price_microdollars_per_hour=process.config.price_microdollars_per_hour,
        trackers=trackers,
    )
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
        committed=lambda manifest: reporter.checkpoint(manifest.step, manifest.name),
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


def _finish(process: Process, parts: Parts, end: LoopEnd, job: FineTuneJob, trackers: Feed) -> None:
    if parts.reporter:
        parts.reporter.phase(
            Phase.EVALUATING, end.state.step, "scoring the best checkpoint, making the bundle"
        )
    with process.clock.cause(Cause.EVALUATION):
        outcome = finish.finish(process.run, parts, end.state, job, Path(process.config.scratch))
    with process.clock.cause(Cause.OTHER):
        if outcome is not None:
            trackers.close(_ending(outcome))
    _write_exit(process, Phase.SUCCEEDED, "finished", step=end.state.step)


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


def _write_exit(
    process: Process,
    phase: Phase,
    message: str,
    *,
    step: int = 0,
    failure: FailureClass | None = None,
) -> None:
    """Add up every worker's seconds by cause and write the attempt's end."""
    spent = process.group.gather(process.clock.totals())
    if not process.group.leads:
        return
    seconds = {c: sum(worker.get(c, 0) for worker in spent) / 1e9 for c in Cause}
    process.run.write_exit(
        ExitRecord(
            attempt=process.config.address.attempt,
            phase=phase,
            failure=failure,
            message=message,
            step=step,
            seconds={cause: value for cause, value in seconds.items() if value > 0},
            cost_microdollars=None,
        )
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
