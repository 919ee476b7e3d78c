"""The exit record of an attempt, as its own workers write it.

Decides that an attempt's end says what all of it has spent so far: the driver adds what goes by
until the workers are gone (``conclude``).
"""

from __future__ import annotations

from tunefleet.api.words import FailureClass, Phase
from tunefleet.cost.ledger import Account, account_of
from tunefleet.storage.run import ExitRecord, RunStore
from tunefleet.train.group import Group
from tunefleet.train.metering import Meter
from tunefleet.train.starts import GiveUp


def write(
    run: RunStore,
    group: Group,
    meter: Meter,
    phase: Phase,
    message: str,
    *,
    step: int,
    failure: FailureClass | None = None,
) -> None:
    """Add up every worker's time by cause (a collective) and write the attempt's end."""
    account = meter.end()
    if group.leads:
        run.write_exit(_record(meter.attempt, phase, message, account, step, failure))


def give_up(run: RunStore, attempt: int, reason: GiveUp) -> None:
    """Write the end of an attempt that makes no further start."""
    spent = [record for record in run.spent() if record.attempt == attempt]
    step = max((record.step for record in spent), default=0)
    account = account_of(spent)
    run.write_exit(_record(attempt, Phase.FAILED, reason.message, account, step, reason.failure))


def _record(
    attempt: int,
    phase: Phase,
    message: str,
    account: Account,
    step: int,
    failure: FailureClass | None,
) -> ExitRecord:
    return ExitRecord(
        attempt=attempt,
        phase=phase,
        failure=failure,
        message=message,
        step=step,
        seconds=account.seconds,
        cost_microdollars=account.microdollars,
    )
