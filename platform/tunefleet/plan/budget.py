"""The budget of a run: its limits, its reserve, and whether there is enough for a start.

Decides what is kept back (the time from the last look at the clock to the end: a step and an
evaluation, the checkpoint, the final scoring, bundle and report), and refuses a run whose
start alone would pass a limit. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from tunefleet.api.base import duration_seconds
from tunefleet.plan.document import BudgetPlan, Estimate
from tunefleet.plan.notes import Notes

if TYPE_CHECKING:
    from tunefleet.api.job import BudgetSpec

_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Needs:
    """What a start and an end take, in seconds."""

    start: float
    step: float
    evaluation: float
    checkpoint: float
    scoring: float
    end: float

    @property
    def ending(self) -> float:
        """What comes after the last look at the clock, its step and its evaluation."""
        return self.checkpoint + self.scoring + self.end

    @property
    def reserve(self) -> Estimate:
        """The seconds kept back, with their formula."""
        return Estimate(
            value=self.step + self.evaluation + self.ending,
            basis=(
                f"step {self.step:.1f} s + evaluation {self.evaluation:.1f} s (measured while it "
                f"runs, where that is more) + checkpoint {self.checkpoint:.1f} s + final scoring "
                f"{self.scoring:.1f} s + bundle and report {self.end:.0f} s; no grace: nobody "
                "takes this machine away"
            ),
        )


@dataclass(frozen=True, slots=True)
class Bill:
    """What a run has spent before: wall seconds, micro-dollars, worker-seconds without price."""

    seconds: float = 0.0
    microdollars: int = 0
    unpriced_seconds: float = 0.0


def budget_plan(
    spec: BudgetSpec | None,
    needs: Needs,
    bill: Bill,
    per_hour: int | None,
    workers: int,
    notes: Notes,
) -> BudgetPlan | None:
    """The plan for ``spec.budget``; what is wrong with it goes to ``notes``.

    ``per_hour`` is what all workers cost together now (micro-dollars; None: unpriced); what was
    spent without a price is counted like that too.
    """
    if spec is None or spec.on_exceeded == "Suspend":
        return None
    least = needs.start + needs.reserve.value
    stops = spec.on_exceeded == "CheckpointAndStop"
    cost = None if spec.max_cost is None else int(Decimal(spec.max_cost) * _MICRO)
    seconds = None if spec.max_duration is None else duration_seconds(spec.max_duration)
    if seconds is not None and bill.seconds + least >= seconds:
        _too_little(
            notes,
            stops,
            "spec.budget.maxDuration",
            f"{spec.max_duration} is not enough: {_before(f'{bill.seconds:,.0f} s', bill)}"
            f"a start takes about {needs.start:.0f} s and the reserve is "
            f"{needs.reserve.value:.0f} s",
            f"set maxDuration to more than {bill.seconds + least:.0f}s",
        )
    if cost is not None and per_hour is None:
        notes.refuse(
            "spec.budget.maxCost",
            "nobody knows what this machine costs: a limit in dollars cannot be kept",
            "give --price-per-hour 0.75 or --price-sheet prices.yaml, or set budget.maxDuration",
        )
    elif cost is not None and per_hour is not None:
        before = bill.microdollars + round(bill.unpriced_seconds * per_hour / workers / 3600)
        needed = before + round(least * per_hour / 3600)
        if needed >= cost:
            _too_little(
                notes,
                stops,
                "spec.budget.maxCost",
                f"${spec.max_cost} is not enough: {_before(_dollars(before), bill)}a "
                f"start and the reserve of {needs.reserve.value:.0f} s cost about "
                f"{_dollars(needed - before)}",
                f"set maxCost to more than {needed / _MICRO:.6f}",
            )
    return BudgetPlan(
        max_microdollars=cost,
        max_seconds=seconds,
        on_exceeded="CheckpointAndStop" if stops else "Warn",
        reserve=needs.reserve,
        ending_seconds=needs.ending,
        start_seconds=needs.start,
    )


def _too_little(notes: Notes, stops: bool, where: str, message: str, remedy: str) -> None:
    if stops:
        notes.refuse(where, message, remedy)
    else:
        notes.warn(f"{where}: {message}")


def _before(spent: str, bill: Bill) -> str:
    return f"{spent} are spent already, and " if bill.seconds else ""


def _dollars(amount: int) -> str:
    return f"${amount / _MICRO:.6f}".rstrip("0").rstrip(".")
