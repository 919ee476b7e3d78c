"""How an attempt ended, once its processes are gone.

Decides what stands in the attempt's exit record when the workers could not write it
themselves: the most telling of the failures they recorded, or that they vanished.
"""

from __future__ import annotations

from pathlib import Path

from tunefleet.api.words import Cause, FailureClass, Phase
from tunefleet.channel.folder import WatchEnd
from tunefleet.storage.run import ExitRecord, RunStore
from tunefleet.train.starts import most_telling


def conclude(run: RunStore, attempt: int, scratch: Path, *, unsaid: str) -> ExitRecord:
    """The attempt's exit record, written now where no worker has written it.

    ``unsaid`` is the message when no worker left one.
    """
    written = run.exit_record(attempt)
    if written is not None:
        return written
    begun = run.starts(attempt)
    told = most_telling(run.failures(attempt, begun[-1].start)) if begun else None
    progress = WatchEnd(scratch).progress()
    spent: dict[Cause, float] = progress.seconds if progress else {}
    record = ExitRecord(
        attempt=attempt,
        phase=Phase.FAILED,
        failure=told.failure if told else FailureClass.UNKNOWN,
        message=told.message if told else unsaid,
        step=progress.step if progress else 0,
        seconds=spent,
        cost_microdollars=None,
    )
    run.write_exit(record)
    return record
