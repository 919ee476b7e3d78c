"""How many GPUs the jobs of a namespace have of a profile: what its limit for all of them counts.

Decides from when until when a job counts: from the decision that lets it train, before any event
can tell of it, until it has ended, is suspended or waits for others. Imports its siblings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from tunefleet.api.status import FINAL, JobPhase
from tunefleet.controller.seen import AttemptSeen, JobSeen, counted

PROMISE_SECONDS = 60.0
"""So long an attempt may be on its way: one that is not there by then was refused."""
_WITHOUT = {JobPhase.PENDING, JobPhase.SUSPENDED}


@dataclass(frozen=True, slots=True)
class _Share:
    """What an attempt has. ``until``: it counts so long though its job's phase does not tell."""

    number: int
    gpus: int
    until: float
    seen: bool


class GpusInUse:
    """Shares by namespace and profile, told of every change. The clock is the loop's."""

    def __init__(self) -> None:
        # Of every job there is, by its uid: all of them are asked for in every decision.
        self._phases: dict[str, JobPhase] = {}
        self._shares: dict[tuple[str, str], dict[str, _Share]] = {}

    def job_changed(self, old: JobSeen | None, new: JobSeen | None) -> None:
        """A job is new, different or gone."""
        if old is not None:
            self._phases.pop(old.uid, None)
        if new is not None:
            self._phases[new.uid] = new.status.phase

    def changed(self, old: AttemptSeen | None, new: AttemptSeen | None) -> None:
        """An attempt is new, different or gone."""
        seen = new or old
        if seen is None or not seen.spec.gpus or seen.owner_uid is None:
            return
        shares = self._shares.setdefault((seen.namespace, seen.spec.profile), {})
        known, number = shares.get(seen.owner_uid), seen.spec.number
        if new is None:
            if known is not None and known.number == number:
                del shares[seen.owner_uid]
        elif known is None or known.number <= number:
            until = known.until if known is not None and known.number == number else 0.0
            shares[seen.owner_uid] = _Share(number, seen.spec.gpus, until, seen=True)

    def promise(self, job: JobSeen, attempt: Mapping[str, object]) -> None:
        """An attempt is about to be made for a job: it counts from now on."""
        spec = attempt["spec"]
        assert isinstance(spec, Mapping)
        profile, gpus = counted(spec)
        if profile and gpus:
            until = asyncio.get_running_loop().time() + PROMISE_SECONDS
            share = _Share(int(spec["number"]), gpus, until, seen=False)
            self._shares.setdefault((job.namespace, profile), {})[job.uid] = share

    def of_others(self, namespace: str, profile: str, uid: str) -> int:
        """The GPUs that other jobs than that one have now."""
        shares = self._shares.get((namespace, profile), {})
        now = asyncio.get_running_loop().time()
        for owner in [o for o, each in shares.items() if not each.seen and each.until <= now]:
            del shares[owner]
        return sum(
            share.gpus
            for owner, share in shares.items()
            if owner != uid and self._counts(owner, share, now)
        )

    def _counts(self, owner: str, share: _Share, now: float) -> bool:
        phase = self._phases.get(owner)
        if phase is None or phase in FINAL:
            return False
        return share.until > now or phase not in _WITHOUT
