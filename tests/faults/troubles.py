"""Stores that fail in the middle of a run, a full disk, and an end that comes too soon.

Decides what is done, from outside, to a run that has its first checkpoint, and what must be seen of
it beside what every case is judged by. Each is a row of ``python -m tests.faults``; the tests play
the short ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.faults import life, zygote
from tests.faults.gate import Gate, gate_before
from tests.faults.injection import Arm
from tests.faults.life import Case
from tests.faults.lives import Lives, committed_at, has_done, saved, taken_at, until
from tests.faults.matrix import Bench, Row
from tests.faults.oracle import Verdict
from tests.faults.room import Disk, small_disk

FAILED = 3
FIRST, SECOND, LATER = life.EVERY, 2 * life.EVERY, 2 * life.EVERY + 2
PACE: dict[str, Any] = {"step_seconds": 0.25}
# 150 s would be waited for every worker that begins; what is done in that time is the same.
IMPATIENT: dict[str, Any] = {"patience": [1, 3]}


@dataclass(frozen=True, slots=True)
class Trouble:
    """One row: what it is called in the table, and how it is done."""

    name: str
    fault: str
    play: Callable[[Bench, str, str], Row]

    def run(self, found: Bench) -> Row:
        """Do it. What did not come to pass is a violation as well."""
        began = time.monotonic()
        try:
            return self.play(found, self.name, self.fault)
        except AssertionError as error:
            verdict = Verdict([str(error) or repr(error)], True, [], 0, False)
            return Row(self.fault, self.name, verdict, time.monotonic() - began, None)


def troubles(store: str, *, quick: bool) -> Iterator[Trouble]:
    """Those of a store, the short ones or all of them."""
    if store == "s3":
        yield from _of_a_bucket(2 if quick else 60)
        if not quick:
            yield from _of_a_bucket_for_good()
    else:
        yield Trouble("full", "the disk is full, then has room again", full)
    for saving, when in ((False, "before"), (True, "while")):
        fault = f"SIGTERM, and SIGKILL of all {when} it saved"
        yield Trouble(f"sigterm-{when}", fault, partial(cut_short, saving=saving))


def _of_a_bucket(seconds: int) -> Iterator[Trouble]:
    for how, workers in (("paused", 1), ("stopped", 2)):
        fault = f"the server {how} for {seconds} s"
        yield Trouble(how, fault, partial(away, how=how, seconds=seconds, workers=workers))
    yield Trouble("slow", "the server slow: 0.2 s more for a request", partial(slow, delay=0.2))
    yield Trouble("refuses", "403 for every write, for good", partial(refused, status=403))


def _of_a_bucket_for_good() -> Iterator[Trouble]:
    yield Trouble("busy", "503 for longer than is waited", partial(refused, status=503))
    yield Trouble("gone", "the server gone for longer than is waited", gone)


# -- a store that comes back -----------------------------------------------------------------


def away(found: Bench, name: str, fault: str, *, how: str, seconds: float, workers: int) -> Row:
    """The server stands still with its connections open, or is killed and started again."""
    server = found.server
    assert server is not None
    settings = PACE | {"worker_seconds": seconds + life.LIFE_DEADLINE}
    with _lives(found, Case(name, [workers], settings=settings)) as lives:
        one = lives.begin()
        until(partial(saved, lives.folder, FIRST))
        leave, come_back = (
            (server.pause, server.resume) if how == "paused" else (server.stop, server.start)
        )
        lives.note_fault()
        leave()
        try:
            until(partial(has_done, lives.folder, 0, LATER))
            time.sleep(seconds)
            back = time.monotonic()
        finally:
            come_back()
        ended = lives.end(one, seconds=seconds + life.LIFE_DEADLINE)
        problems = _did_not_wait(lives, ended)
        written = committed_at(lives.folder, SECOND)
        if written is None or written < back:
            problems.append("a checkpoint was committed while the server was away")
        return lives.row(fault, problems)


def slow(found: Bench, name: str, fault: str, *, delay: float) -> Row:
    """Every request takes longer while one checkpoint is written."""
    with _through_a_gate(found, Case(name, [1], settings=PACE)) as (lives, gate):
        one = lives.begin()
        until(partial(saved, lives.folder, FIRST))
        lives.note_fault()
        gate.slow(delay)
        until(partial(committed_at, lives.folder, SECOND))
        gate.open()
        return lives.row(fault, _did_not_wait(lives, lives.end(one)))


def _did_not_wait(lives: Lives, ended: int) -> list[str]:
    """Steps were taken while the second checkpoint waited for its store; it began once."""
    if ended != 0:
        return [f"it ended with {ended}: {lives.failed()}"]
    problems = []
    written = committed_at(lives.folder, SECOND)
    if written is None or written < taken_at(lives.folder, LATER):
        problems.append("no step was taken while a checkpoint was being written")
    if lives.starts() != 1:
        problems.append(f"it began {lives.starts()} times")
    return problems


# -- a store that does not -------------------------------------------------------------------


def refused(found: Bench, name: str, fault: str, *, status: int) -> Row:
    """What is written is refused until the run has given up; then it is taken again."""
    told = {403: "AccessDenied", 503: "SlowDown"}[status]
    case = Case(name, [1], settings=PACE | IMPATIENT, job={"failures": 1})
    with _through_a_gate(found, case) as (lives, gate):
        return _given_up(lives, fault, partial(gate.refuse_writes, status), gate.open, told)


def gone(found: Bench, name: str, fault: str) -> Row:
    """The server is killed and only started again when the run has given up."""
    server = found.server
    assert server is not None
    case = Case(name, [2], settings=PACE | IMPATIENT, job={"failures": 1})
    with _lives(found, case) as lives:
        return _given_up(lives, fault, server.stop, server.start, "the store cannot be reached")


def full(found: Bench, name: str, fault: str) -> Row:
    """No byte of room, until the run has given up."""
    with small_disk(found.site.folder / f"disk-{name}") as disk:
        settings = PACE if disk.mounted else PACE | {"ballast": str(disk.ballast)}
        case = Case(name, [1], settings=settings)
        with _lives(on_disk(found, disk), case) as lives:
            return _given_up(lives, fault, disk.fill, disk.free, "No space left on device")


def on_disk(found: Bench, disk: Disk) -> Bench:
    """The same bench with its stores on another disk."""
    site = dataclasses.replace(found.site, place=disk.folder.as_uri())
    return dataclasses.replace(found, site=site, fetch=lambda ran: disk.folder / ran.folder.name)


def _given_up(
    lives: Lives, fault: str, fail: Callable[[], None], mend: Callable[[], None], told: str
) -> Row:
    """The run ends with the reason; the same command goes on from the last checkpoint."""
    one = lives.begin()
    until(partial(saved, lives.folder, FIRST))
    lives.note_fault()
    fail()
    try:
        ended = lives.end(one)
        lives.close()  # workers do not outlive a driver that ends
    finally:
        mend()
    problems = []
    if ended != FAILED or told not in lives.failed():
        problems.append(f"it ended with {ended} and said {lives.failed()!r}")
    again = lives.end(lives.begin())
    if again != 0:
        problems.append(f"the same command ended with {again}: {lives.failed()}")
    return lives.row(fault, problems)


# -- no time ---------------------------------------------------------------------------------


def cut_short(found: Bench, name: str, fault: str, *, saving: bool) -> Row:
    """Asked to stop; killed, driver and workers, before the checkpoint of it can be whole."""
    # The third checkpoint would be that of step 9; asked to stop, it comes sooner.
    number = found.write_of(f"{3 * life.EVERY:08d}-1.1.3-*/weights")
    arm = Arm("worker", 0, number, "after", "group") if saving else None
    with _lives(found, Case(name, [2], arm, settings=PACE)) as lives:
        one = lives.begin()
        until(partial(saved, lives.folder, SECOND))
        lives.note_fault()
        os.kill(one.pid, signal.SIGTERM)
        if not saving:
            time.sleep(0.1)
            os.killpg(one.pid, signal.SIGKILL)
        problems = []
        ended = lives.end(one)
        if ended != zygote.KILLED:
            problems.append(f"it was not killed but ended with {ended}")
        again = lives.end(lives.begin())
        if again != 0:
            problems.append(f"the same command ended with {again}: {lives.failed()}")
        return lives.row(fault, problems)


# -- inside ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _lives(found: Bench, case: Case) -> Iterator[Lives]:
    with contextlib.closing(Lives(found, case)) as lives:
        yield lives


@contextlib.contextmanager
def _through_a_gate(found: Bench, case: Case) -> Iterator[tuple[Lives, Gate]]:
    assert found.server is not None
    with gate_before(found.server.endpoint) as gate:
        way = {"environment": {"AWS_ENDPOINT_URL": gate.endpoint}}
        with _lives(found, dataclasses.replace(case, settings=case.settings | way)) as lives:
            yield lives, gate
