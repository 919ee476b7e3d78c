"""What ends a run from outside and leaves it no way to save: no room, no time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.__main__ import bench
from tests.faults.matrix import Bench
from tests.faults.troubles import troubles

SHORT = {trouble.name: trouble for trouble in troubles("file", quick=True)}


@pytest.fixture(scope="module")
def found() -> Iterator[Bench]:
    with bench("file", 1) as made:
        made.learn((1, 2))
        yield made


def test_a_full_disk_ends_the_run_which_goes_on_once_there_is_room(found: Bench) -> None:
    """Its own small file system where one can be mounted; see ``room``."""
    row = SHORT["full"].run(found)
    assert row.verdict.problems == []
    assert max(row.verdict.resumed) > 0
    assert row.verdict.same_bits


@pytest.mark.parametrize(
    "name",
    ["sigterm-before", "sigterm-while"],
    ids=["killed before it saved", "killed while it saved"],
)
def test_a_run_asked_to_stop_and_killed_at_once_goes_on_from_its_last_checkpoint(
    found: Bench, name: str
) -> None:
    row = SHORT[name].run(found)
    assert row.verdict.problems == []
    assert row.verdict.resumed == [6]
    assert row.verdict.redone <= 3
    assert row.verdict.same_bits
