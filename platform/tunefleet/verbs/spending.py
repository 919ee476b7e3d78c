"""``tunefleet cost``: where a run's time and money went, by cause and by attempt.

Decides nothing about the numbers: it adds up the record that every start left behind, also of
a run that goes on or was killed. Reads storage alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunefleet.api.base import Document
from tunefleet.api.words import Cause
from tunefleet.cost.ledger import Account, account_of
from tunefleet.evaluate import words
from tunefleet.verbs import sections
from tunefleet.verbs.runs import DEFAULT_STORE, find_run
from tunefleet.verbs.sections import Section

if TYPE_CHECKING:
    from rich.console import Console


class Spending(Document):
    """What was spent: worker-seconds and micro-dollars by cause (None: unpriced, not free)."""

    name: str
    wall_seconds: float
    worker_seconds: float
    cost_microdollars: int | None
    unpriced_seconds: float
    seconds: dict[Cause, float]
    money: dict[Cause, int]


class RunSpending(Document):
    """A run's spending, and that of each of its attempts; the attempts add up to the run."""

    run: Spending
    attempts: list[Spending]

    def render(self, console: Console) -> None:
        """As titled tables."""
        sections.render(self._sections(), console)

    def _repr_html_(self) -> str:
        return sections.to_html(self.run.name, self._sections())

    def _sections(self) -> list[Section]:
        run = self.run
        priced = run.cost_microdollars is not None
        causes = [
            (
                cause.value,
                words.duration(spent),
                words.percent(spent / run.worker_seconds),
                words.exact_money(run.money.get(cause, 0) if priced else None),
            )
            for cause, spent in run.seconds.items()
        ]
        lives = [
            (
                each.name,
                words.duration(each.wall_seconds),
                words.duration(each.worker_seconds),
                words.cost(each.cost_microdollars, each.unpriced_seconds),
            )
            for each in [*self.attempts, run.model_copy(update={"name": "together"})]
        ]
        right = frozenset({1, 2, 3})
        return [
            Section(run.name, causes, ("cause", "worker time", "share", "cost"), right),
            Section("Attempts", lives, ("attempt", "wall", "worker time", "cost"), right),
        ]


def run_cost(run: str, store: str = DEFAULT_STORE, base: str | Path | None = None) -> RunSpending:
    """What a run has cost so far: ``job`` (its newest), ``job/3`` or ``job/run-0003``."""
    found = find_run(run, store, base)
    records = found.spent()
    return RunSpending(
        run=_spending(f"{found.job}/{found.run}", account_of(records)),
        attempts=[
            _spending(str(attempt), account_of(r for r in records if r.attempt == attempt))
            for attempt in found.attempts()
        ],
    )


def _spending(name: str, account: Account) -> Spending:
    return Spending(
        name=name,
        wall_seconds=account.wall / 1e9,
        worker_seconds=account.total / 1e9,
        cost_microdollars=account.microdollars,
        unpriced_seconds=account.unpriced_seconds,
        seconds=account.seconds,
        money=dict(account.money),
    )
