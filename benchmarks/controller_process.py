"""The controller as its Deployment runs it: a process of its own, watched from outside.

Decides that it has the chart's command, arguments and service account, and none of what the
benchmark puts into its own environment. Imports psutil.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.api_server import Server
from benchmarks.watch import ChildFailed
from tests.testbed.s3 import free_ports

MIB = 1 << 20
_READY_SECONDS = 120.0
_LEADS = "workers start"
# How little it does, over how long, when it has nothing left to do.
_REST_SECONDS, _REST_SHARE = 3.0, 0.05


@dataclass(slots=True)
class Controller:
    """A running controller. ``began`` is when its process was started."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    began: float = field(default_factory=time.monotonic)

    def wait_until_ready(self) -> float:
        """Wait until its caches are filled; seconds since its process was started."""
        self._until(lambda: self._answer("/readyz")[0] == 200, "it is not ready")
        return time.monotonic() - self.began

    def wait_until_leading(self) -> None:
        """Wait until it works."""
        self._until(lambda: _LEADS in self._said(), "it does not lead")

    def wait_for_rest(self) -> None:
        """Wait until it has done all there was to do."""

        def rests() -> bool:
            before = self.cpu_seconds
            time.sleep(_REST_SECONDS)
            return self.cpu_seconds - before < _REST_SHARE * _REST_SECONDS

        self._until(rests, "it does not come to rest")

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def resident(self) -> float:
        """Resident memory now, in MiB."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / MIB

    @property
    def most_resident(self) -> float:
        """The most that was ever resident, in MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in text.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / MIB

    def scrape(self) -> None:
        """Read its metrics, as Prometheus does."""
        code, body = self._answer("/metrics")
        assert code == 200
        assert b"tunefleet_cache_objects" in body

    def kill(self) -> None:
        """End it without a chance to say anything."""
        self.process.kill()
        self.process.wait()

    def _answer(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    def _said(self) -> str:
        return self.log.read_text(errors="replace")

    def _until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not true():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ChildFailed(f"the controller: {what}:\n{self._said()[-3000:]}")
            time.sleep(0.05)


@contextmanager
def controller(server: Server, *options: str) -> Iterator[Controller]:
    """A controller for as long as the block lasts; ``options`` are added to the chart's."""
    (port,) = free_ports(1)
    log = server.bed.run / "logs" / f"controller-{port}.log"
    command = [
        *(sys.executable, "-m", "tunefleet.controller"),
        f"--kubeconfig={server.account}",
        "--image=tunefleet-runtime:benchmark",
        f"--lease-namespace={server.lease_namespace}",
        f"--lease-name={server.lease_name}",
        f"--port={port}",
        *options,
    ]
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=_environment()
        )
    try:
        yield Controller(process, port, log)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    """What the chart's pod has; malloc's settings are for processes that train."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    kept.pop("KUBECONFIG", None)
    return kept | {"TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1"}
