"""What the leader hears: each command once, and a stop until it is obeyed."""

from __future__ import annotations

import time
from pathlib import Path

from tests.train.conftest import make_plan
from tunefleet.api.words import Command
from tunefleet.channel.folder import RunEnd, WatchEnd
from tunefleet.cost.clock import CauseClock
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import open_store
from tunefleet.train.group import Group
from tunefleet.train.metering import Meter, open_account
from tunefleet.train.reporting import Reporter


def a_meter(folder: Path, clock: CauseClock) -> Meter:
    run = RunStore.create(open_store(str(folder / "runs"), folder), "default", "tiny")
    opening = open_account(run, 1, 1, folder, attempt_ns=None, now_ns=clock.began)
    return Meter(clock, Group(), run, RunEnd(folder), opening, [])


def test_a_command_is_obeyed_once_each_time_it_is_given(tmp_path: Path) -> None:
    now = 0.0
    reporter = Reporter(
        RunEnd(tmp_path),
        make_plan(),
        a_meter(tmp_path, CauseClock(time.monotonic_ns)),
        now=lambda: now,
    )
    watch = WatchEnd(tmp_path)
    assert reporter.asked() is Command.NONE
    heard = []
    for command in (Command.CHECKPOINT_NOW, Command.CHECKPOINT_NOW, Command.CHECKPOINT_AND_STOP):
        watch.ask(command, "a test")
        for _ in range(3):
            now += 1.0
            heard.append(reporter.asked())
    once = [Command.CHECKPOINT_NOW, Command.NONE, Command.NONE]
    assert heard == [*once, *once, Command.CHECKPOINT_AND_STOP, Command.NONE, Command.NONE]
