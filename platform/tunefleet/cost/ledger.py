"""The cost record: what every start of a run has spent, by cause, and what that cost.

Decides that time is counted in integer nanoseconds which add up to wall × workers, that a
price is settled when time is spent (segments), and how amounts are rounded: once per attempt,
so that attempts and causes add up to the whole. Pure; imports ``api`` and its siblings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby, pairwise
from typing import Literal, Self

from pydantic import model_validator

from tunefleet.api.base import Document
from tunefleet.api.rates import Nanoseconds, Rate, Segment
from tunefleet.api.words import Cause
from tunefleet.cost.clock import Reading
from tunefleet.cost.money import rounded, shared

HOUR_NS = 3_600_000_000_000
TAIL = 0


class Spent(Document):
    """What one start has spent so far: [``begun_ns``, ``until_ns``) of its attempt's time.

    ``causes`` are worker-nanoseconds; they add up to the interval × ``workers`` exactly, and
    the segments tile the interval. ``start`` 0 is the attempt's tail: what went by after its
    last start. ``step`` is the furthest step that was reached.
    """

    version: Literal[1] = 1
    attempt: int
    start: int
    workers: int
    begun_ns: Nanoseconds
    until_ns: Nanoseconds
    step: int = 0
    causes: dict[Cause, Nanoseconds]
    segments: list[Segment]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        interval = self.until_ns - self.begun_ns
        if interval < 0 or sum(self.causes.values()) != interval * self.workers:
            raise ValueError("the causes do not add up to the interval × workers")
        edges = [(self.begun_ns, self.begun_ns)]
        edges += [(segment.from_ns, segment.to_ns) for segment in self.segments]
        tiled = all(a[1] == b[0] and b[0] < b[1] for a, b in pairwise(edges))
        if not tiled or edges[-1][1] != self.until_ns:
            raise ValueError("the segments do not tile the interval")
        return self


def segments_of(rates: Sequence[Rate], begun: int, until: int, workers: int) -> list[Segment]:
    """An interval cut where the rate changes; before the first rate it is unpriced."""
    edges = sorted({begun, until, *(r.since_ns for r in rates if begun < r.since_ns < until)})
    found = []
    for start, end in pairwise(edges):
        held = [rate for rate in rates if rate.since_ns <= start]
        rate = max(held, key=lambda r: r.since_ns).together(workers) if held else None
        found.append(Segment(from_ns=start, to_ns=end, microdollars_per_hour=rate))
    return found


def spent_at(rates: Sequence[Rate], workers: int, microdollars: int) -> int | None:
    """The offset of an attempt at which all workers together have spent an amount.

    None where the rates never come to it (unpriced or free from some moment on).
    """
    left = Fraction(max(0, microdollars) * HOUR_NS)
    ordered = sorted(rates, key=lambda rate: rate.since_ns)
    for at, rate in enumerate(ordered):
        hourly = rate.together(workers) or 0
        end = ordered[at + 1].since_ns if at + 1 < len(ordered) else None
        lasts = left / hourly if hourly else None
        if lasts is not None and (end is None or rate.since_ns + lasts <= end):
            return rate.since_ns + int(lasts)
        if end is not None:
            left -= (end - rate.since_ns) * hourly
    return None


def joined(readings: Iterable[Reading]) -> tuple[int, dict[Cause, int]]:
    """The clocks of a group at one moment, that of the latest reading: (moment, totals).

    A worker that was read earlier is taken to have gone on with what it did then. All clocks
    tell the same time and began at the same moment of it.
    """
    found = list(readings)
    moment = max(reading.at for reading in found)
    totals: dict[Cause, int] = {}
    for reading in found:
        late = {reading.cause: moment - reading.at}
        for cause in reading.totals.keys() | late.keys():
            spent = reading.totals.get(cause, 0) + late.get(cause, 0)
            totals[cause] = totals.get(cause, 0) + spent
    return moment, totals


@dataclass(frozen=True, slots=True)
class Account:
    """Time by cause in worker-nanoseconds, wall nanoseconds, and money by cause.

    ``unpriced`` are the worker-nanoseconds that nobody knows the price of.
    """

    causes: Mapping[Cause, int] = field(default_factory=dict)
    wall: int = 0
    money: Mapping[Cause, int] = field(default_factory=dict)
    unpriced: int = 0

    @property
    def total(self) -> int:
        """Worker-nanoseconds."""
        return sum(self.causes.values())

    @property
    def microdollars(self) -> int | None:
        """What the priced time cost; None where none has a price: unpriced, not free."""
        return sum(self.money.values()) if self.total > self.unpriced else None

    @property
    def seconds(self) -> dict[Cause, float]:
        """Worker-seconds of every cause that took any."""
        return {c: self.causes[c] / 1e9 for c in Cause if self.causes.get(c, 0) > 0}

    @property
    def unpriced_seconds(self) -> float:
        """Worker-seconds without a price."""
        return self.unpriced / 1e9

    def __add__(self, other: Account) -> Account:
        return Account(
            _sum(self.causes, other.causes),
            self.wall + other.wall,
            _sum(self.money, other.money),
            self.unpriced + other.unpriced,
        )


def account_of(records: Iterable[Spent]) -> Account:
    """What a run has spent. Amounts are rounded once per attempt; all parts add up."""
    whole = Account()
    by_attempt = sorted(records, key=lambda r: (r.attempt, r.begun_ns))
    for _, attempt in groupby(by_attempt, key=lambda r: r.attempt):
        whole += _account_of_attempt(list(attempt))
    return whole


def _account_of_attempt(records: Sequence[Spent]) -> Account:
    causes: dict[Cause, int] = {}
    exact: dict[Cause, Fraction] = {}
    wall, unpriced = 0, 0
    for record in records:
        interval = record.until_ns - record.begun_ns
        causes = _sum(causes, record.causes)
        wall += interval
        priced = [s for s in record.segments if s.microdollars_per_hour is not None]
        known = sum(s.to_ns - s.from_ns for s in priced)
        unpriced += (interval - known) * record.workers
        amount = Fraction(
            sum((s.to_ns - s.from_ns) * (s.microdollars_per_hour or 0) for s in priced), HOUR_NS
        )
        for cause, spent in record.causes.items():
            if spent:
                share = amount * Fraction(spent, interval * record.workers)
                exact[cause] = exact.get(cause, Fraction(0)) + share
    total = sum(exact.values(), Fraction(0))
    money = shared(rounded(total), exact) if total > 0 else {}
    return Account(causes, wall, money, unpriced)


def _sum(one: Mapping[Cause, int], other: Mapping[Cause, int]) -> dict[Cause, int]:
    return {c: one.get(c, 0) + other.get(c, 0) for c in Cause if c in one or c in other}
