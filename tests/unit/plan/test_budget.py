"""What a budget needs before anything is spent: a price, and room for a start and an end."""

from __future__ import annotations

import pytest

from tests.plans import a_job, a_machine, some_facts
from tunefleet.api.errors import SpecError
from tunefleet.api.rates import Rate
from tunefleet.plan.budget import Bill
from tunefleet.plan.document import Plan
from tunefleet.plan.planner import make_plan

A_DOLLAR_A_SECOND = Rate(since_ns=0, microdollars_per_hour=3_600_000_000, per="machine")


def plan(budget: dict[str, str], *, rate: Rate | None = None, spent: Bill | None = None) -> Plan:
    return make_plan(a_job(budget=budget), some_facts(), a_machine(), rate=rate, spent=spent)


def test_the_plan_publishes_the_reserve_with_its_formula() -> None:
    made = plan({"maxDuration": "6h", "maxCost": "9000"}, rate=A_DOLLAR_A_SECOND)
    budget = made.budget
    assert budget is not None
    assert (budget.max_seconds, budget.max_microdollars) == (21_600, 9_000_000_000)
    assert 0 < budget.ending_seconds <= budget.reserve.value < 60
    for part in ("step", "evaluation", "checkpoint", "final scoring", "bundle and report"):
        assert f"{part} " in budget.reserve.basis
    assert plan({"maxDuration": "6h"}).price_microdollars_per_hour is None
    assert make_plan(a_job(), some_facts(), a_machine()).budget is None


@pytest.mark.parametrize(
    ("budget", "rate", "spent", "said"),
    [
        pytest.param(
            {"maxCost": "25.00"}, None, None, "nobody knows what this machine costs", id="unpriced"
        ),
        pytest.param(
            {"maxCost": "25.00", "onExceeded": "Warn"},
            Rate(since_ns=0, microdollars_per_hour=None),
            None,
            "--price-sheet",
            id="no row of the sheet holds, and a warning needs a price too",
        ),
        pytest.param({"maxDuration": "20s"}, None, None, "20s is not enough", id="a short time"),
        pytest.param(
            {"maxCost": "20"}, A_DOLLAR_A_SECOND, None, r"\$20 is not enough", id="little money"
        ),
        pytest.param(
            {"maxDuration": "1h"},
            None,
            Bill(seconds=3590.0),
            "3,590 s are spent already",
            id="earlier attempts took the time",
        ),
        pytest.param(
            {"maxCost": "3600"},
            A_DOLLAR_A_SECOND,
            Bill(seconds=3590.0, microdollars=3_590_000_000),
            r"\$3590 are spent already",
            id="earlier attempts took the money",
        ),
        pytest.param(
            {"maxCost": "3600"},
            A_DOLLAR_A_SECOND,
            Bill(seconds=3590.0, unpriced_seconds=3590.0),
            r"\$3590 are spent already",
            id="what was spent without a price counts like today",
        ),
    ],
)
def test_refused_before_anything_is_spent(
    budget: dict[str, str], rate: Rate | None, spent: Bill | None, said: str
) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        plan(budget, rate=rate, spent=spent)
    (problem,) = caught.value.problems
    assert problem.where in {"spec.budget.maxCost", "spec.budget.maxDuration"}
    assert problem.remedy


def test_a_warning_is_no_refusal() -> None:
    made = plan({"maxDuration": "20s", "onExceeded": "Warn"})
    assert [text for text in made.warnings if "20s is not enough" in text]


def test_what_the_remedy_names_is_enough() -> None:
    with pytest.raises(SpecError) as caught:
        plan({"maxDuration": "20s"})
    named = caught.value.problems[0].remedy.rpartition(" ")[2]
    plan({"maxDuration": f"{int(named.removesuffix('s')) + 1}s"})
