"""The cost record of a group while it runs, and what is made of one that died.

Decides where an attempt's time begins (the driver's reading of the machine's monotonic clock),
that a start which follows another in the same attempt goes on where that one was last heard
of, all of it recovery until it is as far as the other had come, and when the record is kept:
beside the workers every half second, in storage with every checkpoint, every half minute and
at the end. Integer nanoseconds throughout.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tunefleet.api.errors import TunefleetError
from tunefleet.api.rates import Rate
from tunefleet.api.words import Cause
from tunefleet.channel.folder import RunEnd, WatchEnd
from tunefleet.cost.clock import CauseClock
from tunefleet.cost.ledger import TAIL, Account, Spent, account_of, joined, segments_of
from tunefleet.storage.run import RunStore
from tunefleet.train.group import Group

_BESIDE_NS = 500_000_000
_STORED_NS = 30_000_000_000


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a start's account begins. ``attempt_ns`` is the machine's clock at offset 0.

    ``begun_ns`` is an offset. ``reached`` is the furthest step of any start before, and
    ``before`` what all of them spent. ``follows``: it takes over from one that died.
    """

    attempt: int
    start: int
    attempt_ns: int
    begun_ns: int
    reached: int
    follows: bool
    before: tuple[Spent, ...]


def open_account(
    run: RunStore, attempt: int, start: int, scratch: Path, *, attempt_ns: int | None, now_ns: int
) -> Opening:
    """Settle what the last start of this attempt left behind and say where this one begins.

    ``now_ns`` is the machine's clock when this start's first process began. Without
    ``attempt_ns`` (nobody drove the attempt) the time between two starts counts as none.
    """
    settle(run, attempt, scratch)
    before = run.spent()
    known = max((r.until_ns for r in before if r.attempt == attempt), default=0)
    return Opening(
        attempt=attempt,
        start=start,
        attempt_ns=now_ns - known if attempt_ns is None else attempt_ns,
        begun_ns=known,
        reached=max((r.step for r in before), default=0),
        follows=start > 1,
        before=tuple(before),
    )


def settle(run: RunStore, attempt: int, scratch: Path) -> None:
    """Keep what the attempt's newest group said beside itself, where it said more than stored."""
    said = WatchEnd(scratch).spent()
    if said is None or said.attempt != attempt:
        return
    stored = {(r.attempt, r.start): r.until_ns for r in run.spent()}
    if said.until_ns > stored.get((said.attempt, said.start), -1):
        run.put_spent(said)


def close_account(
    run: RunStore,
    attempt: int,
    scratch: Path,
    *,
    until_ns: int | None,
    cause: Cause,
    workers: int,
    rates: Sequence[Rate],
) -> Account:
    """End an attempt's account at an offset of its time; returns what the attempt spent.

    What went by since the last start was heard of goes to ``cause``. Can be called again
    with a later moment.
    """
    settle(run, attempt, scratch)
    mine = [r for r in run.spent() if r.attempt == attempt and r.start != TAIL]
    heard = max((r.until_ns for r in mine), default=0)
    if until_ns is not None and until_ns > heard:
        last = mine[-1] if mine else None
        tail = Spent(
            attempt=attempt,
            start=TAIL,
            workers=last.workers if last else workers,
            begun_ns=heard,
            until_ns=until_ns,
            step=last.step if last else 0,
            causes={cause: (until_ns - heard) * (last.workers if last else workers)},
            segments=segments_of(rates, heard, until_ns, last.workers if last else workers),
        )
        run.put_spent(tail)
        mine.append(tail)
    return account_of(mine)


class Meter:
    """A worker's clock, and on the leader the group's account."""

    def __init__(
        self,
        clock: CauseClock,
        group: Group,
        run: RunStore,
        out: RunEnd,
        opening: Opening,
        rates: Sequence[Rate],
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clock = clock
        self._now_ns = now_ns
        self._group = group
        self._run = run
        self._out = out
        self._opening = opening
        self._rates = list(rates)
        mine = [r for r in opening.before if r.attempt == opening.attempt]
        self._earlier = account_of(r for r in opening.before if r.attempt != opening.attempt)
        self._closed = mine
        self._base: dict[Cause, int] = {}
        self._own: dict[Cause, int] = {}
        self._step = opening.reached
        self._at_save: Spent | None = None
        self._said_ns = self._stored_ns = now_ns()
        self._kept_ns = -1
        self._ended = False
        self._keeping = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spent")
        self._pending: Future[None] | None = None

    @property
    def attempt(self) -> int:
        """The attempt that is metered."""
        return self._opening.attempt

    @property
    def workers(self) -> int:
        """How many workers are paid for."""
        return self._group.world

    def begin_loop(self, step: int) -> None:
        """Steps begin after ``step``: what others had reached before is done again.

        What the loop does between steps counts as training, no longer as getting ready.
        """
        self._clock.switch(Cause.TRAIN)
        self._clock.recover(step < self._opening.reached)

    def stepped(self, step: int) -> None:
        """A step was taken."""
        self._step = max(self._step, step)
        self._clock.recover(step < self._opening.reached)

    def join(self) -> None:
        """Bring the clocks of all workers together (a collective); the leader keeps the sum."""
        moment, totals = joined(self._group.gather(self._clock.read()))
        self._base, self._own = totals, self._clock.advance(moment)
        self._at_save = self._record(moment, totals)

    def spent(self) -> Spent:
        """What this start has spent up to now, as the leader sees it."""
        reading = self._clock.read()
        totals = dict(self._base)
        for cause, own in reading.totals.items():
            more = (own - self._own.get(cause, 0)) * self.workers
            totals[cause] = totals.get(cause, 0) + more
        return self._record(reading.at, totals)

    def account(self, record: Spent) -> Account:
        """What the whole run has spent, with this start's record."""
        return self._earlier + account_of([*self._closed, record])

    def tick(self) -> None:
        """Leave a sign of life now and then. The leader's thread calls it at every chance."""
        now = self._now_ns()
        if now - self._said_ns < _BESIDE_NS:
            return
        self._said_ns = now
        record = self.spent()
        self._out.spent(record)
        if now - self._stored_ns >= _STORED_NS and (self._pending is None or self._pending.done()):
            self._stored_ns = now
            self._pending = self._thread.submit(self._store, record)

    def committed(self) -> None:
        """A checkpoint stands: keep what had been spent when it was taken."""
        if self._at_save is not None:
            self._store(self._at_save)

    def keep(self, record: Spent) -> None:
        """Keep a record, unless a later one was kept already; raises the store's error."""
        with self._keeping:
            if record.until_ns > self._kept_ns:
                self._kept_ns = record.until_ns
                self._run.put_spent(record)

    def end(self) -> Account:
        """The group ends (a collective): keep what it spent; what the attempt spent so far."""
        self.join()
        assert self._at_save is not None
        self._ended = True
        if self._group.leads:
            self.keep(self._at_save)
        return account_of([*self._closed, self._at_save])

    def close(self) -> None:
        """End the background thread; where the group did not :meth:`end`, keep what it spent."""
        self._thread.shutdown()
        if self._group.leads and not self._ended:
            self._store(self.spent())

    def _store(self, record: Spent) -> None:
        # The record is no reason to end a run: a store that is really away ends the next save.
        with contextlib.suppress(TunefleetError):
            self.keep(record)

    def _record(self, moment: int, totals: dict[Cause, int]) -> Spent:
        opening, workers = self._opening, self.workers
        until = moment - opening.attempt_ns
        return Spent(
            attempt=opening.attempt,
            start=opening.start,
            workers=workers,
            begun_ns=opening.begun_ns,
            until_ns=until,
            step=self._step,
            causes={cause: spent for cause, spent in totals.items() if spent},
            segments=segments_of(self._rates, opening.begun_ns, until, workers),
        )


def leaders_clock(group: Group, now_ns: Callable[[], int]) -> Callable[[], int]:
    """The leader's monotonic clock, as each worker's own one tells it (a collective).

    Every machine's counts from its own start: two of them can be months apart. What the leader
    reads arrives late by what the collective takes, and by so much the others are behind.
    """
    shared = group.share(now_ns)
    if group.leads:
        return now_ns
    ahead = now_ns() - shared
    return lambda: now_ns() - ahead


def clock_of(opening: Opening, now_ns: Callable[[], int]) -> CauseClock:
    """A worker's clock from where the account begins."""
    since = opening.attempt_ns + opening.begun_ns
    clock = CauseClock(now_ns, Cause.RECOVERY if opening.follows else Cause.INIT, since=since)
    clock.recover(opening.follows)
    clock.switch(Cause.INIT)
    return clock
