"""``tunefleet run`` with a budget that is not enough, as two Ray Train workers spend it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.train.desk import Desk, checkpoints, furnished, write_job

# A dollar a second for both workers: the limit in dollars is one in seconds from the command's
# start, those of Ray's own start among them.
PRICE = ("--price-per-hour", "1800")
SECONDS_TO_TRAIN = 25


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk with a job that no budget here lets end."""
    with furnished(tmp_path) as desk:
        write_job(tmp_path, 100_000)
        yield desk


def least(desk: Desk) -> int:
    """The dollars that the refusal of a dollar names: for a start and the reserve."""
    code, refused = desk.run(*PRICE, "--set", "budget.maxCost='1'")
    assert code == 2
    named = re.search(r"set maxCost to more than ([\d.]+)", json.dumps(refused))
    assert named is not None, refused
    return math.ceil(float(named[1]))


def test_a_spent_budget_saves_and_stops_inside_its_limit(desk: Desk) -> None:
    limit = least(desk) + SECONDS_TO_TRAIN
    code, result = desk.run(*PRICE, "--set", f"budget.maxCost='{limit}'")
    assert code == 3, (result, desk.said())
    assert result["phase"] == "Stopped"
    assert result["failure"] == "budget"
    assert 0 < int(str(result["costMicrodollars"])) <= limit * 1_000_000
    saved = int(str(result["steps"]))
    assert checkpoints(result)[0]["step"] == saved > 0
