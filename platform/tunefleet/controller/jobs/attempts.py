"""Attempts as a decision counts them: how each ended, and which failures were in vain.

Decides what a line of ``status.attempts`` says, and that a failure only counts against the
retries when no checkpoint came before the next one. Pure; the clock is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tunefleet.api.status import AttemptSummary, JobStatus
from tunefleet.api.words import FailureClass
from tunefleet.controller.seen import AttemptSeen

# So far apart the clocks of a cluster may be. What lies further ahead was told by one that has
# been set back since.
SKEW_SECONDS = 60.0


def summary(attempt: AttemptSeen, before: JobStatus) -> AttemptSummary:
    """An attempt's line; one that was seen to end keeps what was told of it."""
    known = next((a for a in before.attempts if a.number == attempt.spec.number), None)
    progress, result = attempt.status.progress, attempt.status.result
    phase = result.phase.value if result else progress.phase.value if progress else "Pending"
    safe = (progress.checkpoint_step if progress else None) or (
        result.resumed_from if result else 0
    )
    fresh = AttemptSummary(
        name=attempt.name,
        number=attempt.spec.number,
        phase=phase,
        step=safe or 0,
        resumed_from=result.resumed_from if result else 0,
        workers=attempt.spec.plan.workers if attempt.spec.plan else None,
    )
    if known is None:
        return fresh
    if known.ended is not None:
        return known
    return fresh.model_copy(update={"launched": known.launched})


def in_vain(attempts: Sequence[AttemptSummary]) -> int:
    """Failures in a row, up to the newest, that left no new checkpoint; preemption is free.

    One that ended for want of a place had none to leave a checkpoint in: it is no end of a row.
    """
    placed = [a for a in attempts if a.failure is not FailureClass.UNPLACED]
    count = 0
    for attempt in reversed(placed):
        if attempt.number == 0 or attempt.step != placed[-1].step:
            break
        count += attempt.failure is None or not attempt.failure.free
    return count


def seconds_since(moment: str | None, now: datetime) -> float:
    """Seconds since a moment; none where there was none, fewer than none before it."""
    if moment is None:
        return 0.0
    return (now - datetime.fromisoformat(moment)).total_seconds()


def waited_since(end: str | None, now: datetime) -> float:
    """How long an end has been waited on; for ever where the clock that told it was set back.

    A pause is a courtesy (storage's fence is what keeps order), and none is worth a day.
    """
    seconds = seconds_since(end, now)
    return seconds if seconds > -SKEW_SECONDS else float("inf")
