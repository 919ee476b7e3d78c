"""How an attempt ended, once its processes are gone.

Decides what stands in the attempt's exit record when the workers could not write it
themselves: the most telling of the failures they recorded, or that they vanished; and closes
the attempt's account, so that all its time has a cause.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from tunefleet.api.errors import TunefleetError
from tunefleet.api.words import Cause, FailureClass, Phase
from tunefleet.channel.folder import WatchEnd
from tunefleet.plan.worker import WorkerConfig
from tunefleet.storage.run import ExitRecord, RunStore
from tunefleet.train.metering import close_account
from tunefleet.train.starts import most_telling


def conclude(
    run: RunStore,
    config: WorkerConfig,
    *,
    unsaid: str,
    now_ns: int,
    phase: Phase = Phase.FAILED,
    failure: FailureClass = FailureClass.UNKNOWN,
    before: ExitRecord | None = None,
) -> ExitRecord:
    """The attempt's exit record, with all that it spent up to ``now_ns``.

    ``now_ns`` is a reading of the same monotonic clock as ``config.started_ns``. Where no
    worker left a word, ``unsaid`` is the message and ``phase`` and ``failure`` are what became
    of the attempt. ``before`` is the record that stood when this execution of the attempt began:
    it says nothing of how this one ended.
    """
    attempt, scratch = config.address.attempt, Path(config.scratch)
    record = run.exit_record(attempt)
    if record is None or record == before:
        record = _unsaid(run, attempt, scratch, unsaid, phase, failure)
    # After an end as it should be, what is left is taking the workers down.
    as_it_should = record.phase is not Phase.FAILED
    begun = bool(run.starts(attempt))
    account = close_account(
        run,
        attempt,
        scratch,
        until_ns=None if config.started_ns is None else now_ns - config.started_ns,
        cause=Cause.OTHER if as_it_should else Cause.RECOVERY if begun else Cause.STARTUP,
        workers=config.plan.workers,
        rates=config.rates,
    )
    record = record.model_copy(
        update={"seconds": account.seconds, "cost_microdollars": account.microdollars}
    )
    run.write_exit(record)
    return record


def leave_account(run: RunStore, config: WorkerConfig, now_ns: int) -> None:
    """Close the account of an attempt that is broken off without an exit record."""
    if config.started_ns is None:
        return
    with contextlib.suppress(TunefleetError):
        close_account(
            run,
            config.address.attempt,
            Path(config.scratch),
            until_ns=now_ns - config.started_ns,
            cause=Cause.OTHER,
            workers=config.plan.workers,
            rates=config.rates,
        )


def _unsaid(
    run: RunStore,
    attempt: int,
    scratch: Path,
    unsaid: str,
    phase: Phase,
    failure: FailureClass,
) -> ExitRecord:
    begun = run.starts(attempt)
    told = most_telling(run.failures(attempt, begun[-1].start)) if begun else None
    progress = WatchEnd(scratch).progress()
    return ExitRecord(
        attempt=attempt,
        phase=phase,
        failure=told.failure if told and phase is Phase.FAILED else failure,
        message=told.message if told and phase is Phase.FAILED else unsaid,
        step=progress.step if progress else 0,
        seconds={},
        cost_microdollars=None,
    )
