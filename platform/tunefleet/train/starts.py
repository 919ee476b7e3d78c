"""Restarts have one owner: each group of processes claims its start and may give up.

Decides, when a group begins, whether going on can help: not after a failure that a retry
cannot mend, and not after more starts without a new checkpoint in between than the job
allows. Every failure and every start is a record in storage, so evidence outlives processes
and the decision is the same on a laptop and in a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunefleet.api.words import FailureClass
from tunefleet.storage.checkpoints import collect
from tunefleet.storage.faults import FencedError
from tunefleet.storage.run import FailureRecord, RunStore, StartRecord


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Why this attempt does not go on."""

    failure: FailureClass
    message: str


def begin(
    run: RunStore, attempt: int, *, workers: int, max_failures: int, scratch: Path | None = None
) -> StartRecord | GiveUp:
    """Claim the next start of an attempt, or say why it will not go on.

    A remote checkpoint is read once: its files are kept in ``scratch`` for the restore.
    """
    before = run.starts(attempt)
    told = most_telling(run.failures(attempt, before[-1].start)) if before else None
    if told is not None and not told.failure.retryable:
        return GiveUp(told.failure, told.message)
    try:
        start = run.claim_start(attempt, workers, scratch)
    except FencedError as error:
        return GiveUp(FailureClass.FENCED, str(error))
    # What earlier writers left half written can never be completed any more.
    collect(run, start)
    return _reason_to_give_up(start, before, told, max_failures) or start


def _reason_to_give_up(
    start: StartRecord, before: list[StartRecord], told: FailureRecord | None, max_failures: int
) -> GiveUp | None:
    reached = start.resumed_step
    in_vain = [earlier for earlier in before if earlier.resumed_step == reached]
    if len(in_vain) <= max_failures:
        return None
    failure = told.failure if told else FailureClass.UNKNOWN
    message = told.message if told else "the processes ended without a word (killed from outside?)"
    return GiveUp(
        failure,
        f"{len(in_vain)} starts from step {reached} ended without a new checkpoint "
        f"(retry.maxFailures: {max_failures}); the last one: {message}",
    )


def most_telling(failures: list[FailureRecord]) -> FailureRecord | None:
    """The failure that explains the others: a lost connection only echoes a peer's end."""
    if not failures:
        return None
    first = [f for f in failures if f.failure is not FailureClass.INFRASTRUCTURE]
    return sorted(first or failures, key=lambda f: (f.failure.retryable, f.rank))[0]
