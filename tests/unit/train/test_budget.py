"""When the leader stops for money or time, and when the driver does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.conftest import make_plan
from tunefleet.api.rates import Rate, Segment
from tunefleet.api.words import Cause
from tunefleet.cost.ledger import Account, Spent, account_of
from tunefleet.plan.document import BudgetPlan, Estimate
from tunefleet.plan.worker import WorkerConfig
from tunefleet.storage.run import RunStore, Writer
from tunefleet.storage.store import open_store
from tunefleet.train.budget import BudgetWatch, hard_limit

SECOND = 1_000_000_000
A_DOLLAR_A_SECOND = Rate(since_ns=0, microdollars_per_hour=3_600_000_000, per="machine")


def limits(**changes: object) -> BudgetPlan:
    return BudgetPlan(
        on_exceeded="CheckpointAndStop",
        reserve=Estimate(value=3.0, basis="a test"),
        ending_seconds=2.0,
        start_seconds=0.0,
    ).model_copy(update=changes)


def spent(seconds: int, *, priced: bool = True, workers: int = 2) -> Spent:
    """What two workers spent, at a dollar a second for both together or at no price."""
    until = seconds * SECOND
    hourly = 3_600_000_000 if priced else None
    return Spent(
        attempt=1,
        start=1,
        workers=workers,
        begun_ns=0,
        until_ns=until,
        causes={Cause.TRAIN: until * workers},
        segments=[Segment(from_ns=0, to_ns=until, microdollars_per_hour=hourly)],
    )


def looked(budget: BudgetPlan, *moments: int, priced: bool = True) -> tuple[list[bool], list[str]]:
    """What was decided at each look, and what was warned of."""
    warned: list[str] = []
    watch = BudgetWatch(budget, [A_DOLLAR_A_SECOND], 2, warned.append)
    records = [spent(moment, priced=priced) for moment in moments]
    return [watch.must_stop(record, account_of([record])) for record in records], warned


@pytest.mark.parametrize(
    ("budget", "moments", "stops"),
    [
        pytest.param(limits(max_seconds=10), (6, 7), [False, True], id="limit minus reserve"),
        pytest.param(
            limits(max_microdollars=10_000_000), (6, 7), [False, True], id="the same in dollars"
        ),
        pytest.param(
            limits(max_seconds=12),
            (1, 5, 6),
            [False, False, True],
            id="four seconds between two looks are kept back from then on",
        ),
        pytest.param(
            limits(max_seconds=100, max_microdollars=10_000_000),
            (7,),
            [True],
            id="whichever is first",
        ),
    ],
)
def test_it_stops(budget: BudgetPlan, moments: tuple[int, ...], stops: list[bool]) -> None:
    assert looked(budget, *moments)[0] == stops


def test_time_without_a_price_counts_at_the_dearest_rate() -> None:
    assert looked(limits(max_microdollars=10_000_000), 6, 7, priced=False)[0] == [False, True]


def test_a_warning_is_given_once_and_at_the_limit_itself() -> None:
    stops, warned = looked(limits(max_seconds=10, on_exceeded="Warn"), 9, 10, 11)
    assert stops == [False, False, False]
    assert len(warned) == 1
    assert "10.0 s of 10 s" in warned[0]


def test_what_is_left_is_told_without_the_reserve() -> None:
    watch = BudgetWatch(limits(max_seconds=10), [], 2, print)
    assert watch.left(Account()).seconds == 10.0
    assert watch.left(account_of([spent(4)])).seconds == 6.0
    assert watch.left(Account()).microdollars is None


@pytest.mark.parametrize(
    ("budget", "offset"),
    [
        pytest.param(limits(max_seconds=10), 4, id="time, less what other attempts took"),
        pytest.param(limits(max_microdollars=9_000_000), 3, id="money, likewise"),
        pytest.param(limits(max_seconds=3), 0, id="nothing is left"),
        pytest.param(limits(max_seconds=10, on_exceeded="Warn"), None, id="a warning"),
    ],
)
def test_the_driver_ends_workers_that_do_not_two_seconds_before(
    budget: BudgetPlan, offset: int | None, tmp_path: Path
) -> None:
    run = RunStore.create(open_store(str(tmp_path), tmp_path), "default", "tiny")
    run.put_spent(spent(4))
    run.claim_attempt(Writer.here())
    attempt = run.claim_attempt(Writer.here()).attempt
    config = WorkerConfig(
        address=run.address(attempt),
        job={},
        plan=make_plan(budget=budget),
        model_path="",
        labels=[],
        stores={},
        scratch=str(tmp_path),
        rates=[A_DOLLAR_A_SECOND],
        started_ns=100 * SECOND,
    )
    expected = None if offset is None else (100 + offset) * SECOND
    assert hard_limit(run, config) == expected
