"""Time is counted to the nanosecond, money once per attempt, and everything adds up."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tunefleet.api.rates import Rate
from tunefleet.api.words import Cause
from tunefleet.cost.clock import CauseClock, Reading
from tunefleet.cost.ledger import (
    HOUR_NS,
    Spent,
    account_of,
    joined,
    segments_of,
    spent_at,
)

HOUR = HOUR_NS
TIMES = st.integers(0, 10**15)
RATES = st.lists(
    st.builds(
        lambda since, hourly, per: Rate(since_ns=since, microdollars_per_hour=hourly, per=per),
        TIMES,
        st.none() | st.integers(0, 10**11),
        st.sampled_from(["worker", "machine"]),
    ),
    max_size=4,
    unique_by=lambda rate: rate.since_ns,
)


def rate(since: int, hourly: int | None) -> Rate:
    return Rate(since_ns=since, microdollars_per_hour=hourly)


@st.composite
def records(draw: st.DrawFn) -> list[Spent]:
    """The starts of some attempts, one behind the other, with causes drawn at will."""
    found = []
    for attempt in range(1, draw(st.integers(1, 3)) + 1):
        rates, at = draw(RATES), 0
        for start in range(1, draw(st.integers(1, 3)) + 1):
            workers, lasts = draw(st.integers(1, 4)), draw(TIMES)
            cuts = sorted(draw(st.lists(st.integers(0, lasts * workers), max_size=4)))
            edges = [0, *cuts, lasts * workers]
            causes = draw(st.permutations(list(Cause)))
            parts = [after - before for before, after in pairwise(edges)]
            found.append(
                Spent(
                    attempt=attempt,
                    start=start,
                    workers=workers,
                    begun_ns=at,
                    until_ns=at + lasts,
                    causes=dict(zip(causes, parts, strict=False)),
                    segments=segments_of(rates, at, at + lasts, workers),
                )
            )
            at += lasts
    return found


@given(records())
def test_time_and_money_add_up_over_causes_starts_and_attempts(found: list[Spent]) -> None:
    whole = account_of(found)
    assert whole.total == sum((r.until_ns - r.begun_ns) * r.workers for r in found)
    assert whole.wall == sum(r.until_ns - r.begun_ns for r in found)
    amounts = []
    for attempt in {record.attempt for record in found}:
        mine = [record for record in found if record.attempt == attempt]
        exact = sum(
            (
                Fraction((s.to_ns - s.from_ns) * (s.microdollars_per_hour or 0), HOUR)
                for record in mine
                for s in record.segments
            ),
            Fraction(0),
        )
        part = account_of(mine)
        assert abs(sum(part.money.values()) - exact) <= Fraction(1, 2)
        amounts.append(sum(part.money.values()))
    assert sum(whole.money.values()) == sum(amounts)
    assert (whole.microdollars is None) == (whole.unpriced == whole.total)


@given(RATES, TIMES, TIMES, st.integers(1, 8))
def test_segments_tile_an_interval_and_carry_the_rate_that_held(
    rates: list[Rate], begun: int, lasts: int, workers: int
) -> None:
    found = segments_of(rates, begun, begun + lasts, workers)
    assert sum(s.to_ns - s.from_ns for s in found) == lasts
    for segment in found:
        for moment in (segment.from_ns, segment.to_ns - 1):
            (at_once,) = segments_of(rates, moment, moment + 1, workers)
            assert at_once.microdollars_per_hour == segment.microdollars_per_hour


def test_a_rate_that_changes_costs_each_hour_what_it_cost_then() -> None:
    rates = [rate(0, 1_000_000), rate(HOUR, 3_000_000), rate(2 * HOUR, None)]
    record = Spent(
        attempt=1,
        start=1,
        workers=2,
        begun_ns=0,
        until_ns=3 * HOUR,
        causes={Cause.TRAIN: 6 * HOUR},
        segments=segments_of(rates, 0, 3 * HOUR, 2),
    )
    account = account_of([record])
    assert account.microdollars == 2 * 1_000_000 + 2 * 3_000_000
    assert account.unpriced_seconds == 2 * 3600


def test_nothing_priced_is_unpriced_and_a_free_machine_costs_zero() -> None:
    def cost(hourly: int | None) -> int | None:
        rates = [] if hourly is None else [rate(0, hourly)]
        segments = segments_of(rates, 0, 5, 1)
        record = Spent(
            attempt=1,
            start=1,
            workers=1,
            begun_ns=0,
            until_ns=5,
            causes={Cause.INIT: 5},
            segments=segments,
        )
        return account_of([record]).microdollars

    assert cost(None) is None
    assert cost(0) == 0


@pytest.mark.parametrize(
    ("causes", "cut"),
    [
        pytest.param({Cause.TRAIN: 19}, [0, 10], id="a nanosecond without a cause"),
        pytest.param({Cause.TRAIN: 21}, [0, 10], id="a nanosecond twice"),
        pytest.param({Cause.TRAIN: 20}, [0, 9], id="a nanosecond without a segment"),
    ],
)
def test_a_record_that_does_not_add_up_is_refused(causes: dict[Cause, int], cut: list[int]) -> None:
    with pytest.raises(ValidationError):
        Spent(
            attempt=1,
            start=1,
            workers=2,
            begun_ns=0,
            until_ns=10,
            causes=causes,
            segments=segments_of([], cut[0], cut[1], 2),
        )


def test_workers_are_joined_at_the_latest_reading() -> None:
    early = Reading(90, Cause.DATA_WAIT, {Cause.TRAIN: 80, Cause.DATA_WAIT: 10})
    late = Reading(100, Cause.TRAIN, {Cause.TRAIN: 100})
    moment, totals = joined([early, late])
    assert moment == 100
    assert totals == {Cause.TRAIN: 180, Cause.DATA_WAIT: 20}


def test_a_clock_that_recovers_gives_all_time_to_recovery_until_it_is_told() -> None:
    now = 0
    clock = CauseClock(lambda: now, Cause.INIT)
    clock.recover(True)
    with clock.cause(Cause.RESTORE):
        now = 5
    clock.switch(Cause.TRAIN)
    now = 7
    clock.recover(False)
    now = 10
    assert {c: ns for c, ns in clock.totals().items() if ns} == {Cause.RECOVERY: 7, Cause.TRAIN: 3}


@given(RATES, st.integers(1, 4), st.integers(0, 10**9))
def test_an_amount_is_spent_at_its_offset_and_not_before(
    rates: list[Rate], workers: int, amount: int
) -> None:
    offset = spent_at(rates, workers, amount)
    if offset is None:
        return

    def cost(until: int) -> Fraction:
        segments = segments_of(rates, 0, until, workers)
        known = ((s.to_ns - s.from_ns) * (s.microdollars_per_hour or 0) for s in segments)
        return Fraction(sum(known), HOUR)

    assert cost(offset) <= amount <= cost(offset + 1)
