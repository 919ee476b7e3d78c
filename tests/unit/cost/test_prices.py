"""Which row of a price sheet counts, and when."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tunefleet.cost.prices import PriceSheet, rates_of

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
HALF_A_DAY = 12 * 3600 * 1_000_000_000
DAYS = st.dates(date(2026, 1, 1), date(2026, 12, 31)).map(date.isoformat)


def sheet(*rows: dict[str, str]) -> PriceSheet:
    return PriceSheet.model_validate({"asOf": "2026-11-01", "prices": list(rows)})


def row(machine: str, price: str, **more: str) -> dict[str, str]:
    return {"machine": machine, "perWorkerHour": price} | more


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([row("*", "1"), row("NVIDIA L4", "2")], [2_000_000], id="exact first"),
        pytest.param([row("*", "1"), row("NVIDIA T4", "2")], [1_000_000], id="then the wildcard"),
        pytest.param([row("NVIDIA T4", "2")], [None], id="then unpriced, not zero"),
        pytest.param(
            [row("NVIDIA L4", "2"), row("my-desk", "3")], [3_000_000], id="the host's name first"
        ),
        pytest.param([row("*", "1", until="2026-11-30")], [None], id="a row that is over"),
        pytest.param(
            [row("*", "1", until="2026-12-01"), row("*", "2", **{"from": "2026-12-01"})],
            [1_000_000, 2_000_000],
            id="a row that ends while the attempt runs",
        ),
        pytest.param(
            [row("NVIDIA L4", "2", until="2026-12-01"), row("*", "1")],
            [2_000_000, 1_000_000],
            id="back to the wildcard",
        ),
    ],
)
def test_the_row_that_counts(rows: list[dict[str, str]], expected: list[int | None]) -> None:
    rates = rates_of(sheet(*rows), ["my-desk", "NVIDIA L4"], NOON)
    assert [rate.microdollars_per_hour for rate in rates] == expected
    assert [rate.since_ns for rate in rates] == [0, HALF_A_DAY][: len(expected)]


def test_a_machines_price_is_shared_by_its_workers_and_a_workers_is_not() -> None:
    whole = sheet({"machine": "*", "perMachineHour": "1.000001"})
    assert rates_of(whole, [], NOON)[0].together(3) == 1_000_001
    assert rates_of(sheet(row("*", "0.10")), [], NOON)[0].together(3) == 300_000


@given(
    st.lists(st.tuples(st.sampled_from(["*", "desk"]), st.integers(0, 99), DAYS, DAYS), max_size=5),
    st.integers(0, 400),
)
def test_at_every_moment_the_rate_is_that_of_the_row_of_the_day(
    drawn: list[tuple[str, int, str, str]], days: int
) -> None:
    rows = [
        row(machine, str(price), **{"from": begin, "until": end})
        for machine, price, begin, end in drawn
        if begin < end
    ]
    try:
        prices = sheet(*rows)
    except ValidationError:
        return
    start = datetime(2026, 1, 1, 6, tzinfo=UTC)
    rates = rates_of(prices, ["desk"], start)
    moment = start + timedelta(days=days)
    held = [rate for rate in rates if rate.since_ns <= days * 86_400 * 1_000_000_000][-1]
    found = prices.row_for(["desk"], moment.date())
    wanted = None if found is None else int(found.per_worker_hour or "0") * 1_000_000
    assert held.microdollars_per_hour == wanted


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param([{"machine": "*"}], "a row needs one price", id="no price"),
        pytest.param([row("*", "1", perMachineHour="2")], "a row needs one price", id="two prices"),
        pytest.param([row("*", "1"), row("*", "2")], "holds on the same days", id="two rows"),
        pytest.param(
            [row("*", "1", **{"from": "2026-02-01", "until": "2026-01-01"})],
            "never valid",
            id="the end before the beginning",
        ),
        pytest.param([row("*", "1", until="2026-02-31")], "no day", id="no such day"),
        pytest.param([row("*", "free")], "match pattern", id="no amount"),
        pytest.param([row("*", "1", currency="EUR")], "not permitted", id="an unknown field"),
        pytest.param([], "at least 1 item", id="no row"),
    ],
)
def test_a_sheet_that_means_nothing_is_refused(rows: list[dict[str, str]], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        sheet(*rows)
