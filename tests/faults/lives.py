"""A case whose lives are begun one by one, by somebody who does something to them meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.faults import injection, life, oracle, zygote
from tests.faults.life import Case, Ran
from tests.faults.matrix import Bench, Row
from tests.faults.roles import summary


class Lives:
    """A case's processes and what became of them."""

    def __init__(self, found: Bench, case: Case) -> None:
        self.found, self.case = found, case
        self.folder = found.folder(case)
        self.folder.mkdir(parents=True)
        self.uri = life.write_job(found.site, case, self.folder)
        self.codes: list[int] = []
        self._groups: list[int] = []
        self._began = time.monotonic()

    def begin(self) -> zygote.Fork:
        """Give the command once more."""
        one = life.begin(self.found.site, self.case, self.folder, len(self.codes))
        self.codes.append(0)
        self._groups.append(one.pid)
        return one

    def end(self, one: zygote.Fork, number: int = -1, seconds: float = life.LIFE_DEADLINE) -> int:
        """The exit code of a life; Overdue when it goes on for longer."""
        self.codes[number] = one.wait(seconds)
        return self.codes[number]

    def note_fault(self) -> None:
        """Write down that something was done to it."""
        injection.note(self.folder, "fault")

    def failed(self) -> str:
        """What the last life that failed said of it."""
        said = [event for event in summary(self.folder) if event["event"] == "failed"]
        return str(said[-1]["message"]) if said else ""

    def starts(self) -> int:
        """How many starts were claimed."""
        events = summary(self.folder)
        return len({(e["attempt"], e["claimed"]) for e in events if e["event"] == "claimed"})

    def row(self, fault: str, problems: Sequence[str] = ()) -> Row:
        """Judge it, with what was found wrong already; whatever still runs is ended."""
        self.close()
        seconds = time.monotonic() - self._began
        events = summary(self.folder)
        ran = Ran(self.case, self.folder, self.uri, self.codes, seconds, events, list(problems))
        return self.found.judge(ran, fault)

    def problems(self) -> tuple[list[str], list[int]]:
        """What is wrong with it, and the steps that its later starts went on from."""
        row = self.row("trouble")
        return row.verdict.problems, row.verdict.resumed

    def close(self) -> None:
        """End all its processes."""
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something to come to pass."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def has_done(folder: Path, number: int, upto: int) -> bool:
    """Whether a life of a case has taken this step."""
    return any(s["step"] >= upto and s["life"] == number for s in _taken(folder))


def saved(folder: Path, step: int) -> bool:
    """Whether the checkpoint of a step is written, with all that follows a commit."""
    return any(e["event"] == "saved" and e["step"] == step for e in summary(folder))


def taken_at(folder: Path, step: int) -> float:
    """When a step was first taken."""
    return float(min(s["t"] for s in _taken(folder) if s["step"] == step))


def committed_at(folder: Path, step: int) -> float | None:
    """When the checkpoint of a step was first committed; None while it is not."""
    times = [
        event["t"]
        for event in summary(folder)
        if event["event"] == "end"
        and event["op"] == "create"
        and f"/{step:08d}-" in event["key"]
        and event["key"].endswith("/MANIFEST.json")
    ]
    return min(times, default=None)


def _taken(folder: Path) -> list[dict[str, Any]]:
    return [line for line in oracle.lines(folder / injection.SAMPLES) if line["done"]]
