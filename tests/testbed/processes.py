"""Servers that outlive the command which started them, and end by their pid alone.

Decides how a server is started, recognised later and stopped. A pid is only believed together
with the time its process began, so that a number which went to somebody else is never
signalled. Imports psutil beside the standard library.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.testbed.bed import BedError

_LOG_TAIL = 1500


@dataclass(frozen=True, slots=True)
class Processes:
    """The servers whose records are in a folder."""

    folder: Path

    def start(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it in a session of its own, unless it runs."""
        if self.pid(name) is not None:
            return
        self.log(name).parent.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        record = {"pid": process.pid, "began": psutil.Process(process.pid).create_time()}
        self._record(name).parent.mkdir(parents=True, exist_ok=True)
        self._record(name).write_text(json.dumps(record))
        # Its end is looked up by pid; there is nobody here to wait for it.
        process.returncode = 0

    def pid(self, name: str) -> int | None:
        """The pid of the server, if it runs."""
        found = self._find(name)
        return found.pid if found is not None else None

    def names(self) -> list[str]:
        """Every server with a record, the newest first."""
        records = sorted(
            self._record("x").parent.glob("*.json"), key=lambda path: path.stat().st_mtime_ns
        )
        return [path.stem for path in reversed(records)]

    def stop(self, name: str, *, patience: float = 10) -> None:
        """Ask it to end, and kill it when it does not."""
        if (found := self._find(name)) is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.terminate()
                if not _ended(found, patience):
                    found.kill()
                    _ended(found, patience)
        self._record(name).unlink(missing_ok=True)

    def log(self, name: str) -> Path:
        """Where the server writes what it says."""
        return self.folder / "logs" / f"{name}.log"

    def wait(self, name: str, check: Callable[[], bool], *, seconds: float) -> None:
        """Wait until the server is ready; fail as soon as it cannot become so any more."""
        deadline = time.monotonic() + seconds
        while not check():
            if self.pid(name) is None:
                raise BedError(f"{name} ended before it was ready: {self._tail(name)}")
            if time.monotonic() > deadline:
                raise BedError(f"{name} is not ready after {seconds:.0f} s: {self._tail(name)}")
            time.sleep(0.1)

    # -- inside ------------------------------------------------------------------------

    def _record(self, name: str) -> Path:
        return self.folder / "pids" / f"{name}.json"

    def _find(self, name: str) -> psutil.Process | None:
        try:
            record = json.loads(self._record(name).read_text())
            found = psutil.Process(record["pid"])
            same = found.create_time() == record["began"]
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None

    def _tail(self, name: str) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self.log(name).read_text(errors="replace")[-_LOG_TAIL:]
        return "it said nothing"


def _ended(process: psutil.Process, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def output(command: Sequence[str | Path], *, seconds: float = 120, stdin: str | None = None) -> str:
    """What a command printed; an error with its words if it failed."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise BedError(f"there is no {command[0]} here: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-_LOG_TAIL:]
        raise BedError(f"{' '.join(map(str, command))[:300]} failed ({done.returncode}): {said}")
    return done.stdout


def succeeds(command: Sequence[str | Path], *, seconds: float = 20) -> bool:
    """Whether a command ended well."""
    try:
        output(command, seconds=seconds)
    except (BedError, subprocess.TimeoutExpired):
        return False
    return True
