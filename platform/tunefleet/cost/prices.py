"""The price sheet: what machines cost, from when until when, and which row counts.

Decides the shape of a price sheet's file and the order of prices: a row that names the machine
or its device, then a row for ``*``, then *unpriced*, which is never zero. Rates of an attempt
are read off once, when it starts: a changed sheet never rewrites the past. Pure; imports
``api`` and its siblings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from tunefleet.api.base import Money, Name, Rule, Spec
from tunefleet.api.rates import Rate
from tunefleet.cost.money import MICRO

ANY = "*"


def _is_a_day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} is no day; write it like 2026-11-30") from None
    return text


Day = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$"), AfterValidator(_is_a_day)]
"""A day in UTC, such as ``2026-11-30``."""


class PriceRow(Spec):
    """What one kind of machine costs per hour, in US dollars, while the row is valid.

    ``machine`` is a device's name (``NVIDIA L4``), a machine's host name, or ``*``. The row
    is valid from the beginning of ``from`` until the beginning of ``until``.
    """

    machine: Name
    per_worker_hour: Money | None = None
    per_machine_hour: Money | None = None
    from_: Day | None = Field(default=None, alias="from")
    until: Day | None = None
    as_of: Day | None = None

    def _broken_rules(self) -> Iterator[Rule]:
        if (self.per_worker_hour is None) is (self.per_machine_hour is None):
            yield Rule(
                "a row needs one price",
                (),
                'give either perWorkerHour or perMachineHour, e.g. perWorkerHour: "0.75"',
            )
        if self.from_ is not None and self.until is not None and self.from_ >= self.until:
            yield Rule("is not after from: the row is never valid", ("until",), "exchange them")

    def valid(self, day: date) -> bool:
        """Whether the row holds on a day."""
        text = day.isoformat()
        return (self.from_ or "") <= text and (self.until is None or text < self.until)

    def overlaps(self, other: PriceRow) -> bool:
        """Whether both rows hold on some day for the same machine."""
        begin = max(self.from_ or "", other.from_ or "")
        ends = [day for day in (self.until, other.until) if day is not None]
        return self.machine == other.machine and (not ends or begin < min(ends))


class PriceSheet(Spec):
    """Prices with the day they were looked up (``asOf``; a row may have its own)."""

    currency: Literal["USD"] = "USD"
    as_of: Day
    prices: Annotated[list[PriceRow], Field(min_length=1, max_length=10_000)]

    def _broken_rules(self) -> Iterator[Rule]:
        for at, row in enumerate(self.prices):
            for before, other in enumerate(self.prices[:at]):
                if row.overlaps(other):
                    yield Rule(
                        f"holds on the same days as row {before + 1} for {row.machine}",
                        ("prices", at),
                        "give the older one an `until`, and this one the same day as `from`",
                    )

    def row_for(self, names: Sequence[str], day: date) -> PriceRow | None:
        """The row that counts on a day for a machine of these names; None: unpriced."""
        for name in (*names, ANY):
            for row in self.prices:
                if row.machine == name and row.valid(day):
                    return row
        return None


@dataclass(frozen=True, slots=True)
class _Price:
    """What a row says, without when."""

    microdollars: int | None
    per: Literal["worker", "machine"]
    basis: str


def rates_of(sheet: PriceSheet, names: Sequence[str], start: datetime) -> list[Rate]:
    """The rates of an attempt that starts at ``start``, in the order of time.

    Every row's first and last day is known when the attempt starts, so that a rate which
    changes while it runs is in the list with its moment.
    """
    days = {row.from_ for row in sheet.prices} | {row.until for row in sheet.prices}
    begins = (datetime.combine(date.fromisoformat(day), time(), UTC) for day in days if day)
    moments = [start, *sorted(moment for moment in begins if moment > start)]
    rates: list[Rate] = []
    last: _Price | None = None
    for moment in moments:
        price = _price(sheet, sheet.row_for(names, moment.astimezone(UTC).date()))
        if price != last:
            since = (moment - start) // timedelta(microseconds=1) * 1000
            rates.append(
                Rate(
                    since_ns=since,
                    microdollars_per_hour=price.microdollars,
                    per=price.per,
                    basis=price.basis,
                )
            )
        last = price
    return rates


def _price(sheet: PriceSheet, row: PriceRow | None) -> _Price:
    if row is None:
        return _Price(None, "worker", "no row of the price sheet holds")
    per: Literal["worker", "machine"] = "machine" if row.per_worker_hour is None else "worker"
    amount = row.per_worker_hour or row.per_machine_hour or "0"
    basis = f"price sheet, row {row.machine}, as of {row.as_of or sheet.as_of}"
    return _Price(int(Decimal(amount) * MICRO), per, basis)
