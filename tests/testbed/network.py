"""A bed's network namespace: one address, a range for services, no way out.

Decides the addresses' devices and routes, and the ports of loopback that lead in. Imports the
standard library and the bed's own modules.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from tests.testbed.bed import API_PORT, DEFAULT_NAME, NODE_ADDRESS, SERVICE_RANGE, Bed, BedError
from tests.testbed.processes import Processes, output
from tests.testbed.s3 import free_ports

_FORWARD = Path(__file__).with_name("forward.py")


def make_namespace(bed: Bed) -> None:
    """Make the namespace, unless this bed has made it."""
    mark = bed.run / "namespace"
    if bed.namespace.exists():
        if mark.exists():
            return
        raise BedError(
            f"a network namespace {bed.name} is here that this bed did not make: "
            "name another bed (--name)"
        )
    bed.run.mkdir(parents=True, exist_ok=True)
    mark.touch()
    output(["ip", "netns", "add", bed.name])
    for step in (
        "link set lo up",
        "link add node0 type veth peer name node0p",
        f"addr add {NODE_ADDRESS}/32 dev node0",
        "link set node0p up",
        "link set node0 up",
        # So that a process of the node may open a service's address, which becomes a pod's on
        # its way out; what is nobody's address ends here.
        f"route add {SERVICE_RANGE} dev node0",
    ):
        output(["ip", "-n", bed.name, *step.split()])


def remove_namespace(bed: Bed) -> None:
    """Remove what :func:`make_namespace` made."""
    if (bed.run / "namespace").exists() and bed.namespace.exists():
        output(["ip", "netns", "del", bed.name])
    (bed.run / "namespace").unlink(missing_ok=True)


def forward(bed: Bed, name: str, *, port: int, host: str = "127.0.0.1", target: int) -> None:
    """Lead 127.0.0.1:``port`` to ``host``:``target`` inside; ready when it returns."""
    processes = Processes(bed.run)
    command = [sys.executable, str(_FORWARD), str(port), host, str(target), str(bed.namespace)]
    processes.start(name, command)
    processes.wait(name, lambda: _listens(port), seconds=20)


def api_port(bed: Bed) -> int:
    """The port of loopback behind which the API server answers, the same for a bed's life."""
    path = bed.run / "api-port"
    if not path.exists():
        # Beds of other names may start at the same moment, and would all find it free.
        usual = bed.name == DEFAULT_NAME and not _listens(API_PORT)
        path.write_text(str(API_PORT if usual else free_ports(1)[0]))
    return int(path.read_text())


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
