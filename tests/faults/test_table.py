"""What ``python -m tests.faults`` prints of what it found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.__main__ import table
from tests.faults.life import Site
from tests.faults.matrix import Bench, Row
from tests.faults.oracle import Verdict
from tests.faults.troubles import Trouble, troubles


def row(fault: str, *, problems: int = 0, resumed: int = 0, recovery: float | None = None) -> Row:
    verdict = Verdict(["wrong"] * problems, True, [resumed], 2, not problems)
    return Row(fault, "a case", verdict, 3.0, recovery)


def test_every_fault_has_its_line_with_figures() -> None:
    rows = [
        row("a kill", resumed=3, recovery=1.0),
        row("a kill", resumed=6, recovery=2.0),
        row("a kill", problems=2, recovery=4.5),
        row("a full disk"),
    ]
    printed = table("file", 53, rows, 120.0)
    assert "### file: 4 cases, 53 storage writes in a run, 2 min" in printed
    assert "| a kill | 3 | 1 | 2 | 2 | 2 | 2.0 (4.5) |" in printed
    assert "| a full disk | 1 | 0 | 0 | 1 | 2 | – |" in printed


def test_what_does_not_come_to_pass_is_a_violation() -> None:
    def never(found: Bench, name: str, fault: str) -> Row:
        raise AssertionError("it did not come to pass")

    nowhere = Bench(Site("", Path()), lambda ran: ran.folder)
    found = Trouble("never", "no fault", never).run(nowhere)
    assert found.verdict.problems == ["it did not come to pass"]
    assert "| no fault | 1 | 1 |" in table("file", 0, [found], 0.0)


@pytest.mark.parametrize("store", ["file", "s3"])
def test_the_whole_of_it_holds_the_short_ones_and_more(store: str) -> None:
    short, whole = (list(troubles(store, quick=quick)) for quick in (True, False))
    assert {each.name for each in short} <= {each.name for each in whole}
    assert len({each.name for each in whole}) == len(whole)
    minute = [each.fault for each in whole if "60 s" in each.fault]
    assert len(minute) == (2 if store == "s3" else 0)
