"""Restarts have one owner: each group of processes claims its start and may give up.

Decides, when a group begins, whether going on can help: not after a failure that a retry
cannot mend, and not after more starts without a new checkpoint in between than the job
allows. Every failure and every start is a record in storage, so evidence outlives processes
and the decision is the same on a laptop and in a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunefleet.api.words import FailureClass
from tunefleet.storage.checkpoints import collect, head
from tunefleet.storage.run import FailureRecord, RunStore, StartRecord


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Why this attempt does not go on."""

    failure: FailureClass
    message: str


def begin(run: RunStore, attempt: int, *, workers: int, max_failures: int) -> StartRecord | GiveUp:
    """Claim the next start of an attempt, or say why there will be none."""
    before = run.starts(attempt)
    reason = _reason_to_give_up(run, before, max_failures)
    if reason is not None:
        return reason
    start = run.claim_start(attempt, workers)
    # What earlier writers left half written can never be completed any more.
    collect(run)
    return start


def _reason_to_give_up(
    run: RunStore, before: list[StartRecord], max_failures: int
) -> GiveUp | None:
    if not before:
        return None
    newest = before[-1]
    failures = run.failures(newest.attempt, newest.start)
    told = most_telling(failures)
    if told is not None and not told.failure.retryable:
        return GiveUp(told.failure, told.message)
    manifest = head(run)
    reached = manifest.step if manifest else 0
    in_vain = [start for start in before if start.resumed_step == reached]
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
