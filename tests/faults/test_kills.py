"""A smoke part of ``make test-faults``: real groups, really killed, one case per kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import matrix
from tests.faults.__main__ import bench
from tests.faults.injection import Arm
from tests.faults.life import Case
from tests.faults.matrix import Bench


@pytest.fixture(scope="module")
def file_bench() -> Iterator[Bench]:
    """Runs without a fault on one worker and on two."""
    with bench("file", 1) as found:
        found.learn((1, 2))
        yield found


@pytest.mark.parametrize(
    ("part", "when", "victim", "worlds"),
    [
        ("00000009-1.1.3-*/MANIFEST", "before", "group", [1, 2]),
        ("00000006-1.1.2-*/MANIFEST", "after", "writer", [2]),
        ("00000006-1.1.2-*/moments", "during", "group", [1]),
        ("00000009-1.1.3-*/weights", "after", "peer", [2]),
        ("00000006-1.1.2-*/MANIFEST", "after", "driver", [2, 1]),
        ("bundle/", "after", "group", [1]),
    ],
    ids=[
        "driver and worker killed before a manifest go on from the one before, on two workers",
        "a leader killed after its manifest goes on from it, to the same bits",
        "a half-written file is never read and goes away",
        "a group that has lost another worker is started again",
        "a driver killed alone: its orphans cannot commit once a successor has begun",
        "a half-published bundle is mended",
    ],
)
def test_a_kill_at_a_write_loses_nothing(
    file_bench: Bench, part: str, when: str, victim: str, worlds: list[int]
) -> None:
    arm = Arm("worker", 0, file_bench.write_of(part), when, victim)
    name = f"smoke-{arm.write}-{when}-{victim}"
    row = file_bench.one("smoke", Case(name, worlds, arm))
    assert row.verdict.problems == []
    assert max(row.verdict.resumed) > 0


def test_a_kill_at_a_random_moment_loses_nothing(file_bench: Bench) -> None:
    cases = list(matrix.at_random(7, 2, file_bench.longest))
    assert [row.verdict.problems for row in file_bench.run(cases)] == [[], []]


def test_the_matrix_meets_every_write_before_and_after(file_bench: Bench) -> None:
    met = {
        (case.arm.role, case.arm.write, case.arm.when, case.arm.victim)
        for _, case in matrix.enumerated(file_bench.writes)
        if case.arm
    }
    for write in file_bench.writes:
        victims = ("writer", "group", "driver") if write.role == "worker" else ("group",)
        for when in ("before", "after"):
            for victim in victims:
                assert (write.role, write.number, when, victim) in met
