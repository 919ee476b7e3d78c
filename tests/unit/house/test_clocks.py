"""Where the controller may look at a clock that somebody can set.

Everything else is measured by monotonic clocks, or takes the moment from its caller.
"""

from __future__ import annotations

import re

from tests.unit.house.tree import modules, name_of

SIDE = tuple(f"platform/tunefleet/{name}/" for name in ("kube", "controller", "render", "plan"))
WALL = re.compile(r"\btime\.time\(|\bdatetime\.(?:now|utcnow|today)\(|\bdate\.today\(")
STAMPS = {
    "platform/tunefleet/controller/jobs/reconcile.py",  # handed down to what decides
    "platform/tunefleet/kube/election.py",  # the Lease's times, which are for people
    "platform/tunefleet/kube/events.py",  # when something happened, likewise
}


def test_the_controller_reads_a_clock_that_can_be_set_in_three_places_and_decides_by_none() -> None:
    readers = {
        name_of(path)
        for path in modules()
        if name_of(path).startswith(SIDE) and WALL.search(path.read_text(encoding="utf-8"))
    }
    assert readers == STAMPS
