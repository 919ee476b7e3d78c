"""A writer is told from every other process, also from one that got its number later."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest

from tunefleet.storage.writer import Writer

SHOW = "from tunefleet.storage.writer import Writer as W; w = W.here(); print(repr(w), flush=True)"


def test_this_process_is_alive_and_always_the_same() -> None:
    assert Writer.here() == Writer.here()
    assert Writer.here().pid == os.getpid()
    assert Writer.here().alive()


def test_another_process_is_alive_until_it_ends_even_before_it_is_reaped() -> None:
    code = f"{SHOW}; import sys; sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    writer: Writer = eval(child.stdout.readline(), {"Writer": Writer})
    assert writer.pid == child.pid
    assert writer.alive()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped
    assert not writer.alive()
    child.communicate()
    assert not writer.alive()


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "another"},
        {"boot": "another"},
        {"boot": "1000"},
        {"pid": -1},
        {"pid": 2**31 - 2},
        {"started": 0.5},
        {"started": Writer.here().started + 0.02},
    ],
    ids=[
        "another host",
        "another boot",
        "another time of boot",
        "no process",
        "a pid that nobody has",
        "long ago",
        "a little later",
    ],
)
def test_what_differs_in_one_point_is_another_process(changes: dict[str, str | float]) -> None:
    assert not dataclasses.replace(Writer.here(), **changes).alive()  # type: ignore[arg-type]
