"""The page on reliability: a line for every fault, and the deadlines that the code has."""

from __future__ import annotations

import pytest

from tests.faults.matrix import KINDS
from tests.faults.troubles import troubles
from tests.unit.house.tree import ROOT
from tunefleet.controller.jobs.placing import PATIENCE_SECONDS
from tunefleet.storage.connect import TRY_SECONDS, Patience
from tunefleet.train.moving import SLOWEST
from tunefleet.train.process import HANG_FLOOR_SECONDS

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
FAULTS = [
    *KINDS.values(),
    *(each.fault for store in ("file", "s3") for each in troubles(store, quick=False)),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_a_line_in_a_table(fault: str) -> None:
    assert [line for line in PAGE.splitlines() if line.startswith(f"| {fault}")]


def test_the_page_names_its_command() -> None:
    assert "make test-faults" in PAGE
    assert "python -m tests.faults" in PAGE


def test_the_deadlines_are_those_of_the_code() -> None:
    deadlines = PAGE.partition("## Deadlines")[2].partition("\n## ")[0]
    short, long = Patience.SHORT.seconds, Patience.LONG.seconds
    for seconds in (long, TRY_SECONDS, long + TRY_SECONDS, short, short + TRY_SECONDS):
        assert f"{seconds} s" in deadlines
    assert f"at least {HANG_FLOOR_SECONDS:.0f} s" in deadlines
    assert f"at {SLOWEST // 1_000_000} MB a second" in deadlines
    assert f"{PATIENCE_SECONDS:.0f} s; then the attempt ends" in deadlines
