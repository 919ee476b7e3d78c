"""The leader's eye on the budget: when a run has to stop so that it ends inside its limits.

Decides by what the whole run has spent, all attempts together, and the reserve: the plan's, or
what was measured between two looks where that is more. Time without a price is counted at the
dearest rate known, so that a limit in dollars holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunefleet.api.rates import Rate
from tunefleet.cost.ledger import HOUR_NS, Account, Spent, account_of, spent_at
from tunefleet.cost.money import format_money
from tunefleet.plan.document import BudgetPlan
from tunefleet.plan.worker import WorkerConfig
from tunefleet.storage.run import RunStore

_KILLING_NS = 2_000_000_000
"""What Ray and its workers take to be gone; one second was seen."""


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a budget, the reserve not taken off; None: not limited."""

    microdollars: int | None
    seconds: float | None


def hard_limit(run: RunStore, config: WorkerConfig) -> int | None:
    """The reading of the machine's clock at which workers are ended to stay inside the limit.

    They stop by themselves before; the driver holds this against workers that hang, or die again
    and again, or start too late. None where nothing is to be stopped.
    """
    budget = config.plan.budget
    if budget is None or budget.on_exceeded != "CheckpointAndStop" or config.started_ns is None:
        return None
    before = account_of(r for r in run.spent() if r.attempt != config.address.attempt)
    offsets = []
    if budget.max_seconds is not None:
        offsets.append(budget.max_seconds * 1_000_000_000 - before.wall)
    if budget.max_microdollars is not None:
        left = budget.max_microdollars - (before.microdollars or 0)
        offset = spent_at(config.rates, config.plan.workers, left)
        offsets += [] if offset is None else [offset]
    return config.started_ns + max(0, min(offsets) - _KILLING_NS) if offsets else None


class BudgetWatch:
    """Looks at the account before every step."""

    def __init__(
        self,
        budget: BudgetPlan,
        rates: Sequence[Rate],
        workers: int,
        warn: Callable[[str], None],
    ) -> None:
        together = (rate.together(workers) for rate in rates)
        self._dearest = max((rate for rate in together if rate is not None), default=0)
        self._budget = budget
        self._workers = workers
        self._warn = warn
        self._warned = False
        self._looked_ns: int | None = None
        self._longest = 0.0
        self.reason = ""

    @property
    def reserve_seconds(self) -> float:
        """What is kept back now."""
        measured = self._longest + self._budget.ending_seconds
        return max(self._budget.reserve.value, measured)

    def left(self, account: Account) -> Left:
        """What is left."""
        cost, wall = self._budget.max_microdollars, self._budget.max_seconds
        return Left(
            None if cost is None else cost - self._charged(account),
            None if wall is None else wall - account.wall / 1e9,
        )

    def must_stop(self, record: Spent, account: Account) -> bool:
        """Whether the run has to stop with the coming step; warns instead where that is asked."""
        if self._looked_ns is not None:
            self._longest = max(self._longest, (record.until_ns - self._looked_ns) / 1e9)
        self._looked_ns = record.until_ns
        reason = self._reached(account)
        if not reason or self.reason:
            return bool(reason) and self._stops
        if self._stops:
            self.reason = reason
        elif not self._warned:
            self._warned = True
            self._warn(f"{reason}; the run goes on (budget.onExceeded: Warn)")
        return self._stops

    @property
    def _stops(self) -> bool:
        return self._budget.on_exceeded == "CheckpointAndStop"

    def _reached(self, account: Account) -> str:
        """Which limit is reached, with the reserve where the run would stop; "" for none."""
        left, reserve = self.left(account), self.reserve_seconds if self._stops else 0.0
        kept = f", and {reserve:.1f} s are kept back for the end" if reserve else ""
        if left.seconds is not None and left.seconds <= reserve:
            spent = account.wall / 1e9
            return f"budget: {spent:.1f} s of {self._budget.max_seconds} s are spent{kept}"
        held_back = round(reserve * self._dearest / 3600)
        if left.microdollars is not None and left.microdollars <= held_back:
            spent_text = format_money(self._charged(account))
            limit = format_money(self._budget.max_microdollars or 0)
            return f"budget: {spent_text} of {limit} are spent{kept}"
        return ""

    def _charged(self, account: Account) -> int:
        unknown = account.unpriced * self._dearest // (HOUR_NS * self._workers)
        return (account.microdollars or 0) + unknown
