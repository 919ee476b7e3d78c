"""Troubles that are no kill at a write: stopped in time or not, no room, damaged, asleep."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial

import pytest

from tests.faults import injection, life, oracle, zygote
from tests.faults.__main__ import bench
from tests.faults.injection import Arm
from tests.faults.life import Case
from tests.faults.lives import Lives, has_done, until
from tests.faults.matrix import Bench
from tests.faults.roles import STOPPED, summary
from tests.faults.troubles import troubles

SHORT = {trouble.name: trouble for trouble in troubles("file", quick=True)}


@pytest.fixture(scope="module")
def found() -> Iterator[Bench]:
    with bench("file", 1) as made:
        made.learn((1, 2))
        yield made


def manifest_write(found: Bench, step: int) -> int:
    return found.write_of(f"{step:08d}-1.1.{step // life.EVERY}-*/MANIFEST")


def test_workers_may_change_between_starts_and_the_cost_goes_on(found: Bench) -> None:
    """SIGTERM on one worker, on two, to the end on three: nothing is done twice."""
    lives = Lives(found, Case("elastic", [1, 2, 3], settings={"step_seconds": 0.15}))
    for number, upto in enumerate((2, 7)):
        one = lives.begin()
        until(partial(has_done, lives.folder, number, upto))
        os.kill(one.pid, signal.SIGTERM)
        assert lives.end(one) == STOPPED
        injection.note(lives.folder, "fault")
    assert lives.end(lives.begin()) == 0
    run = lives.folder / "runs/default/tiny/run-0001"
    ends = [json.loads(path.read_text()) for path in sorted(run.glob("attempts/*/EXIT.json"))]
    assert [end["phase"] for end in ends] == ["Stopped", "Stopped", "Succeeded"]
    result = json.loads((run / "report/result.json").read_text())
    spent = sum(sum(end["seconds"].values()) for end in ends)
    assert sum(result["seconds"].values()) == pytest.approx(spent, abs=1.0)
    stopped = [end["step"] for end in ends]
    workers = [start.workers for start in oracle.RunFiles(lives.folder / "runs").starts().values()]
    assert workers == [1, 2, 3]
    problems, resumed = lives.problems()
    assert problems == []
    assert resumed == stopped[:2]  # not a step was lost


@pytest.mark.parametrize("harm", ["cut short", "altered", "missing", "no manifest to read"])
def test_a_damaged_newest_checkpoint_is_passed_over(found: Bench, harm: str) -> None:
    arm = Arm("worker", 0, manifest_write(found, 9), "after", "group")
    lives = Lives(found, Case(f"damaged-{harm}", [1], arm))
    assert lives.end(lives.begin()) == zygote.KILLED
    (newest,) = (lives.folder / "runs/default/tiny/run-0001/checkpoints").glob("00000009-*")
    weights = newest / "weights.safetensors"
    body = weights.read_bytes()
    match harm:
        case "cut short":
            weights.write_bytes(body[:-1])
        case "altered":
            weights.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
        case "missing":
            weights.unlink()
        case _:
            (newest / "MANIFEST.json").write_text("{")
    injection.note(lives.folder, "damage")
    assert lives.end(lives.begin()) == 0
    problems, resumed = lives.problems()
    assert problems == []
    assert resumed == [6]


def test_a_clock_that_was_set_back_an_hour_changes_nothing(found: Bench) -> None:
    arm = Arm("worker", 0, manifest_write(found, 9), "after", "group")
    case = Case("clock", [2], arm, settings={"clock_shift": -3600.0})
    row = found.one("clock", case)
    assert row.verdict.problems == []
    assert row.verdict.resumed == [9]


def test_a_sleeper_that_wakes_after_its_successor_ended_commits_nothing(found: Bench) -> None:
    """Stopped before its manifest; another machine ends the run; then it wakes."""
    arm = Arm("worker", 0, manifest_write(found, 9), "before", "stop")
    lives = Lives(found, Case("sleeper", [1], arm, settings={"machines": True}))
    sleeper = lives.begin()
    try:
        until(lambda: any(event["event"] == "kill" for event in summary(lives.folder)))
        assert lives.end(lives.begin()) == 0
    finally:
        os.killpg(sleeper.pid, signal.SIGCONT)
    assert lives.end(sleeper, 0) == 3
    said = [event for event in summary(lives.folder) if event["event"] == "failed"]
    assert "was taken over by attempt 2" in said[0]["message"]
    tidied = zygote.fork(
        found.site.server,
        "tests.faults.roles:tidy",
        {"uri": lives.uri},
        str(lives.folder / "output.txt"),
    )
    assert tidied.wait(60) == 0
    problems, resumed = lives.problems()
    assert problems == []
    assert resumed == [6]


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
