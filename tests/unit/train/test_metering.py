"""Workers on several machines, whose clocks tell different times, make one account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tunefleet.api.rates import Rate
from tunefleet.api.words import Cause
from tunefleet.channel.folder import RunEnd
from tunefleet.cost.ledger import Spent
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import open_store
from tunefleet.train.group import Group
from tunefleet.train.metering import Meter, clock_of, leaders_clock, open_account

SECOND = 1_000_000_000
MONTH = 30 * 24 * 3600 * SECOND
PRICED = [Rate(since_ns=0, microdollars_per_hour=3_600_000_000)]


@dataclass(frozen=True, slots=True)
class Pair(Group):
    """Two workers in one process; the leader speaks first where it shares, last where all tell."""

    world: int = 2
    said: list[Any] = field(default_factory=list)

    def share(self, make: Callable[[], Any]) -> Any:
        if self.leads:
            self.said.append(make())
        return self.said[-1]

    def gather(self, value: Any) -> Sequence[Any]:
        if not self.leads:
            self.said.append(value)
            return [value, value]  # nobody asks for its sum
        return [value, self.said.pop()]


def metered(folder: Path, apart: int, late: int = 0) -> Spent:
    """What two workers spend whose machines started ``apart``; the second trains, the first waits.

    ``late`` is how long the leader's reading is on its way.
    """
    true = 5 * MONTH
    leader = Pair()
    other = Pair(rank=1, said=leader.said)
    run = RunStore.create(open_store(str(folder / f"runs{apart}-{late}"), folder), "default", "job")
    opening = open_account(run, 1, 1, folder, attempt_ns=None, now_ns=true)

    def meter(group: Pair, clock: Callable[[], int]) -> tuple[Any, Meter]:
        now_ns = leaders_clock(group, clock)
        of_causes = clock_of(opening, now_ns)
        return of_causes, Meter(of_causes, group, run, RunEnd(folder), opening, PRICED, now_ns)

    first, leaders = meter(leader, lambda: true)
    true += late
    second, others = meter(other, lambda: true + apart)
    true += 2 * SECOND
    first.switch(Cause.DATA_WAIT)
    second.switch(Cause.TRAIN)
    true += 7 * SECOND
    others.join()
    leaders.join()
    leaders.committed()
    true += 3 * SECOND
    leaders.stepped(4)
    found = leaders.spent()
    assert run.spent()[0].until_ns == 9 * SECOND + late
    for each in (others, leaders):
        each.close()
    return found


@pytest.mark.parametrize("apart", [MONTH, -MONTH, 17], ids=["longer up", "up later", "a little"])
def test_machines_that_started_at_other_times_spend_what_one_machine_spends(
    tmp_path: Path, apart: int
) -> None:
    found = metered(tmp_path, apart)
    assert found == metered(tmp_path, 0)
    assert found.until_ns == 12 * SECOND
    assert found.causes[Cause.TRAIN] == 7 * SECOND
    assert sum(found.causes.values()) == 2 * 12 * SECOND


def test_what_the_leaders_reading_takes_to_arrive_is_all_that_is_wrong(tmp_path: Path) -> None:
    found = metered(tmp_path, MONTH, late=SECOND // 1000)
    assert found.until_ns == 12 * SECOND + SECOND // 1000
    assert sum(found.causes.values()) == 2 * found.until_ns
    assert abs(found.causes[Cause.TRAIN] - 7 * SECOND) <= SECOND // 1000
