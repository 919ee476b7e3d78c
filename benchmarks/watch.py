"""The observer: runs a command and measures its process tree from outside.

Decides how both sides of a comparison are timed: a side appends one JSON line per optimiser
step to a file, and the observer reads clock, processor time and memory of the whole tree when
the first and the last step of the measured stretch appear. Nothing inside a side is trusted
but the number of samples and tokens. Imports psutil.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

POLL_SECONDS = 0.02
TAIL_LINES = 80


@dataclass(frozen=True, slots=True)
class Stretch:
    """What happened between two steps.

    ``cpu_seconds`` are of all processes of the tree; ``tokens`` are real ones, without
    padding.
    """

    seconds: float
    cpu_seconds: float
    samples: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A command's life. ``first_step`` is the time from its start to the end of step 1."""

    stretch: Stretch | None
    first_step: float | None
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    stdout: str


class ChildFailed(RuntimeError):
    """A measured command ended badly; the message ends with the last lines it wrote."""


def watch(
    command: Sequence[str],
    *,
    scratch: Path,
    steps: str = "",
    between: tuple[int, int] | None = None,
    stop_after: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Watched:
    """Run ``command`` and measure it; with ``stop_after`` it is ended after that step.

    ``steps`` is the pattern, below ``scratch``, of the files of step records; ``between``
    (k, n) measures from the end of step k to the end of step n. ``peak_bytes`` is the largest
    resident set of any one process.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    said, errors = scratch / "stdout.txt", scratch / "stderr.txt"
    began = time.monotonic()
    with said.open("wb") as stdout, errors.open("wb") as stderr:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        tree = _Tree(child.pid)
        reader = _Steps(scratch, steps)
        marks: dict[int, tuple[float, float]] = {}
        first_step: float | None = None
        ended_by_us = False
        while child.poll() is None:
            time.sleep(POLL_SECONDS)
            done = reader.done()
            if first_step is None and done >= 1:
                first_step = time.monotonic() - began
            for step in between or ():
                if step not in marks and done >= step:
                    marks[step] = (time.monotonic(), tree.cpu_seconds())
            tree.observe()
            if stop_after is not None and done >= stop_after:
                ended_by_us = True
                tree.end()
    if child.returncode != 0 and not ended_by_us:
        tail = "\n".join(errors.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        raise ChildFailed(f"{' '.join(command)} ended with {child.returncode}:\n{tail}")
    return Watched(
        stretch=_stretch(reader, marks, between),
        first_step=first_step,
        seconds=time.monotonic() - began,
        cpu_seconds=tree.cpu_seconds(),
        peak_bytes=tree.peak_bytes,
        stdout=said.read_text(errors="replace"),
    )


def _stretch(
    reader: _Steps, marks: Mapping[int, tuple[float, float]], between: tuple[int, int] | None
) -> Stretch | None:
    if between is None:
        return None
    reader.done()
    first, last = between
    if first not in marks or last not in marks:
        raise ChildFailed(f"the run ended before step {last}")
    return Stretch(
        seconds=marks[last][0] - marks[first][0],
        cpu_seconds=marks[last][1] - marks[first][1],
        samples=reader.total("units", first, last),
        tokens=reader.total("tokens", first, last),
    )


class _Steps:
    """Reads step records as they are appended, by one process or by each of several."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder = folder
        self._pattern = pattern
        self._files: dict[Path, _Lines] = {}

    def done(self) -> int:
        """How many steps every process that writes has done."""
        if self._pattern:
            for path in self._folder.glob(self._pattern):
                self._files.setdefault(path, _Lines(path))
        return min((len(file.read()) for file in self._files.values()), default=0)

    def total(self, key: str, first: int, last: int) -> int:
        """The sum over all processes of what steps ``first`` + 1 to ``last`` say under a key."""
        parts = (file.records[first:last] for file in self._files.values())
        return sum(record[key] for part in parts for record in part)


class _Lines:
    """The whole lines of a growing file of JSON records."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.records: list[dict[str, int]] = []

    def read(self) -> list[dict[str, int]]:
        """All records so far."""
        if self._path.exists() and self._path.stat().st_size > self._read:
            with self._path.open("rb") as file:
                file.seek(self._read)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read += len(whole)
            self.records += [json.loads(line) for line in whole.splitlines()]
        return self.records


class _Tree:
    """Processor time and memory of a process and all it started."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._cpu: dict[tuple[int, float], float] = {}
        self._looked = 0.0
        self.peak_bytes = 0

    def observe(self) -> None:
        """Look at the tree, at most five times a second: looking costs time as well."""
        if time.monotonic() - self._looked >= 0.2:
            self.cpu_seconds()

    def cpu_seconds(self) -> float:
        """Processor seconds so far, those of processes that have ended included."""
        self._looked = time.monotonic()
        try:
            members = [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            members = []
        for member in members:
            try:
                with member.oneshot():
                    times = member.cpu_times()
                    memory = member.memory_info().rss
                    self._cpu[member.pid, member.create_time()] = times.user + times.system
            except psutil.Error:
                continue
            self.peak_bytes = max(self.peak_bytes, memory)
        return sum(self._cpu.values())

    def end(self) -> None:
        """End the whole tree at once: nothing of it is needed any more."""
        members = [*self._root.children(recursive=True), self._root]
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
