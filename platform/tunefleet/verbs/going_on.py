"""Which run a job goes on with: a new one, the newest one, or none because it is done.

Decides from storage alone: the newest run's claim, exit record and the job and plan it was
started with. A run is never gone on with when what changed would change its numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tunefleet.api.digest import job_values
from tunefleet.api.errors import BusyError, Problem, SpecError
from tunefleet.api.job import FineTuneJob
from tunefleet.api.words import Phase
from tunefleet.plan.compare import Change, changes
from tunefleet.plan.document import Plan
from tunefleet.storage.run import ExitRecord, RunStore
from tunefleet.storage.store import Store


@dataclass(frozen=True, slots=True)
class GoOn:
    """A run that exists: its frozen plan, its end where it is finished, what changed safely."""

    run: RunStore
    plan: Plan
    ended: ExitRecord | None
    changed: tuple[Change, ...]


def find(store: Store, job: FineTuneJob) -> GoOn | None:
    """The newest run of this job, when it can be gone on with; None when there is none.

    Raises ``BusyError`` while another process runs it, ``SpecError`` when the job changed in
    a way that would change the run's numbers.
    """
    run = RunStore.newest(store, job.metadata.namespace, job.metadata.name)
    if run is None:
        return None
    planned, before = run.get_json("plan.json"), run.get_json("job.json")
    if planned is None or before is None:
        # Killed before anything was spent: the folder holds no plan to go on with.
        return None
    refuse_while_running(run)
    changed = changes(before, job_values(job))
    unsafe = [change for change in changed if not change.safe]
    if unsafe:
        raise SpecError(
            f"{run.job} has changed since {run.run} was started, in a way that would change "
            "its numbers",
            problems=[
                Problem(f"was {change.old}, is {change.new}: {change.why}", where=change.field)
                for change in unsafe
            ],
            remedy=f"put the old values back to go on with {run.run}, or begin a new run with "
            "--fresh (nothing is deleted)",
        )
    return GoOn(run, Plan.from_json(json.dumps(planned)), finished(run), tuple(changed))


def finished(run: RunStore) -> ExitRecord | None:
    """The good end of a run, whichever attempt reached it; None while there is none."""
    good = [record for record in run.exit_records() if record.phase is Phase.SUCCEEDED]
    return good[-1] if good else None


def begun_for_nothing(run: RunStore) -> bool:
    """Whether a run was only named: killed before it had a plan or an owner."""
    return run.newest_claim() is None and run.get_json("plan.json") is None


def refuse_while_running(run: RunStore) -> None:
    """Raise ``BusyError`` when the newest attempt's process is alive on this machine.

    On another machine it cannot be seen: there the newer claim fences the older writer.
    """
    claim = run.newest_claim()
    if claim is None or run.exit_record(claim.attempt) is not None or not claim.writer.alive():
        return
    raise BusyError(
        f"{run.job} is running already ({run.run}, attempt {claim.attempt}, process {claim.pid})",
        remedy="wait for it, stop it with Ctrl-C (it saves), or run a copy under another "
        "metadata.name",
    )
