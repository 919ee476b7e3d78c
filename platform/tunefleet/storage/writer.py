"""Who writes: a process that can be told from every other one, also after a restart.

Decides when a process that claimed a run is known to live still. Reads ``/proc`` where
there is one (its start times do not move with the wall clock), psutil elsewhere. Imports
the standard library alone.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_BOOT_SLACK = 5.0
_TICK = 0.011  # a little more than one tick of the kernel's clock, in seconds


@dataclass(frozen=True, slots=True)
class Writer:
    """A process: host, boot of that host (with its pid namespace), pid and start time.

    ``started`` is in seconds since boot on Linux, since the epoch elsewhere; it is only
    ever compared with another one of the same boot.
    """

    host: str
    boot: str
    pid: int
    started: float

    @staticmethod
    def here() -> Writer:
        """The calling process."""
        pid = os.getpid()
        started = _started(pid)
        return Writer(socket.gethostname(), _boot(), pid, -1.0 if started is None else started)

    def alive(self) -> bool:
        """Whether this very process is known to run on this machine now.

        False for another host, boot or container as well: such a writer cannot be seen from
        here, and it is the claim's number that keeps it from committing.
        """
        if self.host != socket.gethostname() or not _same_boot(self.boot, _boot()):
            return False
        started = _started(self.pid)
        return started is not None and abs(started - self.started) < _TICK


def _same_boot(one: str, other: str) -> bool:
    if one == other:
        return True
    # Without a boot id there is only a time of boot, which moves a little with the clock.
    if one.isdigit() and other.isdigit():
        return abs(int(one) - int(other)) <= _BOOT_SLACK
    return False


if sys.platform == "linux":

    def _boot() -> str:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"

    def _started(pid: int) -> float | None:
        """When the process started; None when there is none, or only its remains."""
        try:
            stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return None
        # The second field is the name in brackets and may itself hold brackets and spaces.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in {"Z", "X"} else int(fields[19]) / os.sysconf("SC_CLK_TCK")

else:
    import psutil

    def _boot() -> str:
        return f"{psutil.boot_time():.0f}"

    def _started(pid: int) -> float | None:
        """When the process started; None when there is none, or only its remains."""
        try:
            process = psutil.Process(pid)
            gone = process.status() == psutil.STATUS_ZOMBIE
            return None if gone else float(process.create_time())
        except psutil.Error:
            return None
