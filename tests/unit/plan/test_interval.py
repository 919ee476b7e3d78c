"""How often is saved, by a formula whose inputs are shown."""

from __future__ import annotations

import math

import pytest

from tests.plans import a_job
from tunefleet.api.words import DeviceType
from tunefleet.plan.document import CheckpointPlan
from tunefleet.plan.facts import StorageFacts
from tunefleet.plan.interval import checkpoint_plan, interval_seconds, save_cost, young_daly

FAST = StorageFacts(uri="file:///runs", conditional_put=True, write_bytes_per_second=1e9)
SLOW = StorageFacts(uri="file:///runs", conditional_put=True, write_bytes_per_second=1e6)


def planned(every: object, storage: StorageFacts = FAST, workers: int = 1) -> CheckpointPlan:
    return checkpoint_plan(
        a_job(checkpoints__every=every).spec.checkpoints,
        save_cost(200_000_000, DeviceType.CPU, storage),
        workers=workers,
        evaluation_steps=60,
    )


def test_youngs_interval_minimises_what_is_lost() -> None:
    # Lost share of time at interval T: stall / T for saving, T / 2 / MTTF for redoing.
    stall, mttf = 0.5, 24 * 3600.0
    best = young_daly(stall, workers=1)

    def lost(interval: float) -> float:
        return stall / interval + interval / 2 / mttf

    assert all(lost(best) <= lost(best * factor) for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2))
    assert best == pytest.approx(math.sqrt(2 * mttf * stall))


def test_more_workers_fail_more_often() -> None:
    assert young_daly(1.0, workers=4) == pytest.approx(young_daly(1.0, workers=1) / 2)


def test_auto_saves_by_the_clock_and_at_every_evaluation() -> None:
    plan = planned("auto", workers=2)
    assert plan.every_seconds == pytest.approx(young_daly(0.1, workers=2))
    assert plan.every_steps == 60
    for part in ("√(2 × MTTF × stall)", "24 h ÷ 2", "0.100 s", "1,000 MB/s (measured)", "60 steps"):
        assert part in plan.basis


def test_a_save_is_over_before_the_next_begins() -> None:
    assert planned("auto", SLOW).every_seconds == pytest.approx(2 * 200)


@pytest.mark.parametrize(
    ("every", "steps", "seconds"),
    [(7, 7, None), ("90s", None, 90.0), ("1h30m", None, 5400.0)],
    ids=["steps", "seconds", "hours and minutes"],
)
def test_saves_as_often_as_asked(every: object, steps: int | None, seconds: float | None) -> None:
    plan = planned(every)
    assert (plan.every_steps, plan.every_seconds) == (steps, seconds)


def test_a_store_that_was_not_measured_is_assumed() -> None:
    storage = StorageFacts(uri="file:///runs", conditional_put=True)
    cost = save_cost(100_000_000, DeviceType.CUDA, storage)
    assert "50 MB/s (assumed)" in cost.basis
    assert cost.write_seconds == pytest.approx(2.0)


@pytest.mark.parametrize(("every", "follows"), [("auto", True), (7, False), ("90s", False)])
def test_only_auto_follows_what_a_save_costs(every: object, follows: bool) -> None:
    assert planned(every).follows_cost is follows


def test_a_dearer_save_is_made_less_often() -> None:
    assert interval_seconds(0.4, 0.0, workers=2) == pytest.approx(
        2 * interval_seconds(0.1, 0.0, workers=2)
    )
