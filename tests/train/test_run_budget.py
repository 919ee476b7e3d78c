"""``tunefleet run`` with a budget that is not enough, as two Ray Train workers spend it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.train.desk import WAIT_SECONDS, Desk, checkpoints, furnished, write_job

LIMIT = 45
# A dollar a second for both workers: the limit in dollars is one in seconds from the command's
# start, those of Ray's own start among them.
PRICE = ("--price-per-hour", "1800")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk with a job that no budget here lets end."""
    with furnished(tmp_path) as desk:
        write_job(tmp_path, 100_000)
        yield desk


def test_a_spent_budget_saves_inside_its_limit_and_a_higher_one_goes_on(desk: Desk) -> None:
    code, result = desk.run(*PRICE, "--set", f"budget.maxCost={LIMIT}")
    assert code == 3, desk.said()
    assert result["phase"] == "Stopped"
    assert result["failure"] == "budget"
    assert 0 < int(str(result["costMicrodollars"])) <= LIMIT * 1_000_000
    saved = int(str(result["steps"]))
    assert checkpoints(result)[0]["step"] == saved > 0

    process = desk.start(*PRICE, "--set", "budget.maxCost=1000")
    desk.until(lambda: desk.step() > saved)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=WAIT_SECONDS)
    assert json.loads(printed)["resumedFrom"] == saved, desk.said()
