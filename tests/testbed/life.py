"""A bed's life: what comes up in which order, what is up, and the end of it all.

Decides that ``down`` touches nothing that ``up`` did not start: servers by their records,
containers in the bed's own containerd, mounts under the bed's own folders. Imports the bed's
own modules.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Callable
from typing import Literal

import psutil

from tests.testbed import control_plane, images, kuberay, machine, network, node, parts
from tests.testbed.bed import Bed, BedError, chosen_name
from tests.testbed.processes import Processes, output, succeeds

Kind = Literal["cp", "node"]
Say = Callable[[str], None]
_CONTROL_PLANE = (parts.ETCD, parts.KUBERNETES, parts.KUBERAY)
_NODE = (*_CONTROL_PLANE, parts.COREDNS, parts.PAUSE)


def prepare(kind: Kind, *, install: bool, say: Say) -> None:
    """Have every program that such a bed needs."""
    files = parts.CONTROL_PLANE_FILES
    if kind == "node":
        files = files | parts.NODE_FILES | parts.IMAGE_FILES
    parts.require(files, install=install, say=say)
    parts.build(_NODE if kind == "node" else _CONTROL_PLANE, say=say)


def up(bed: Bed, kind: Kind, *, install: bool = False, say: Say) -> None:
    """Bring it up, or what of it is missing."""
    prepare(kind, install=install, say=say)
    control_plane.up(bed, say=say)
    if kind == "node":
        node.up(bed, say=say)


def kind_of(bed: Bed) -> Kind | None:
    """What is up, if anything."""
    processes = Processes(bed.run)
    if processes.pid("kubelet") is not None:
        return "node"
    return "cp" if processes.pid("apiserver") is not None else None


def require(bed: Bed, kind: Kind) -> None:
    """Stop, with the command that helps, unless as much of the bed is up."""
    if kind_of(bed) not in (kind, "node"):
        name = "" if bed.name == chosen_name() else f"--name {bed.name} "
        raise BedError(f"that takes a bed that is up: python -m tests.testbed {name}up {kind}")


def down(bed: Bed, *, with_images: bool = False, say: Say) -> None:
    """End everything of the bed. Its images stay for the next one, unless told otherwise."""
    processes = Processes(bed.run)
    if processes.pid("kubelet") is not None and processes.pid("apiserver") is not None:
        _let_pods_go(bed, processes)
    for server in node.SERVERS[:-1]:
        processes.stop(server)
    if processes.pid("containerd") is not None:
        _end_containers(bed)
    _end_shims(bed)
    for server in processes.names():
        processes.stop(server)
    machine.give_back(bed)
    network.remove_namespace(bed)
    for folder in (bed.run, bed.sockets, *((bed.folder,) if with_images else ())):
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        bed.folder.rmdir()  # unless it holds images
    say(f"bed {bed.name} is down")


def _let_pods_go(bed: Bed, processes: Processes) -> None:
    """Let kubelet end the pods, which knows best how; what it cannot is ended after it."""
    for server in ("controllers", "scheduler", kuberay.PROCESS):
        processes.stop(server)  # or they make them anew
    command = _delete_pods(bed)
    if succeeds(command, seconds=60):
        deadline = time.monotonic() + 15
        while _containers(bed, "tasks") and time.monotonic() < deadline:
            time.sleep(0.2)


def _delete_pods(bed: Bed) -> list[str]:
    """Without waiting: a Job's pod has a finalizer that nobody is left to take off."""
    return control_plane.kubectl(
        bed, "delete", "pods", "--all-namespaces", "--all", "--grace-period=1", "--wait=false"
    )


def _end_containers(bed: Bed) -> None:
    for task in _containers(bed, "tasks"):
        with contextlib.suppress(BedError):
            output(images.ctr(bed, "tasks", "kill", "--signal", "SIGKILL", task))
    time.sleep(0.5 if _containers(bed, "tasks") else 0)
    for task in _containers(bed, "tasks"):
        with contextlib.suppress(BedError):
            output(images.ctr(bed, "tasks", "delete", "--force", task))
    # Their records would come back with the store in the bed's next life, and their network
    # namespaces are mounted where those of everybody are.
    for container in _containers(bed, "containers"):
        with contextlib.suppress(BedError):
            record = output(images.ctr(bed, "containers", "info", container))
            output(images.ctr(bed, "containers", "delete", container))
            for name in set(re.findall(r"/netns/(cni-[0-9a-f-]+)", record)):
                output(["ip", "netns", "del", name])


def _containers(bed: Bed, what: Literal["tasks", "containers"]) -> list[str]:
    with contextlib.suppress(BedError):
        return output(images.ctr(bed, what, "list", "--quiet")).split()
    return []


def _end_shims(bed: Bed) -> None:
    """The parents of containers name their containerd's socket in their command."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            command = process.cmdline()
            if command and "containerd-shim" in command[0] and str(bed.containerd) in command:
                process.kill()


def status(bed: Bed) -> list[str]:
    """What is up, a line each."""
    kind = kind_of(bed)
    if kind is None:
        return [f"bed {bed.name} is down"]
    processes = Processes(bed.run)
    lines = [f"bed {bed.name} is up ({kind}): export KUBECONFIG={bed.kubeconfig}"]
    for server in reversed(processes.names()):
        pid = processes.pid(server)
        state = f"pid {pid}" if pid else f"ENDED, see {processes.log(server)}"
        lines.append(f"  {server}: {state}")
    return lines
