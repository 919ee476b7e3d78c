"""A real API server for the controller's rows: a bed without a node, with our kinds and chart.

Decides that every module of rows has a bed of its own which nothing was written to before, that
all sides speak to it from inside its network (not through the port that leads in, whose copying
would be measured too), and that it is gone afterwards. Imports the bed and the chart's helm.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.audit import AuditLog
from tests.cluster.installed import CHART, Release, run
from tests.testbed import life
from tests.testbed.bed import Bed, BedError
from tests.testbed.clusters import Cluster
from tests.testbed.forward import enter
from tests.testbed.parts import KUBERAY, KUBERNETES
from tests.testbed.processes import Processes
from tests.unit.controller.world import a_cluster_job

NAME = "bench"
_RELEASE = Release("bench", "tunefleet-system")
_POLICY_SECONDS = 60.0
_TAKEN_IN_A_ROW = 5


@dataclass(frozen=True, slots=True)
class Server:
    """The server. ``account`` is a kubeconfig with the controller's own rights."""

    bed: Bed
    account: Path
    log: AuditLog

    @property
    def administrator(self) -> Path:
        """A kubeconfig with every right."""
        return self.bed.keys / "admin.kubeconfig"

    @property
    def controller(self) -> str:
        """The name by which the server knows the controller."""
        return _RELEASE.controller

    @property
    def lease_namespace(self) -> str:
        """Where the controller may keep its Lease."""
        return _RELEASE.namespace

    @property
    def lease_name(self) -> str:
        """How it may call it."""
        return _RELEASE.lease

    def namespace(self, name: str) -> str:
        """Make a namespace."""
        program = str(KUBERNETES.path("kubectl"))
        Cluster(self.administrator, program).kubectl("create", "namespace", name)
        return name

    def without_controllers(self) -> None:
        """Stop what makes pods of Jobs: both sides' Jobs are played, and nothing else is to run."""
        for server in ("controllers", "scheduler"):
            Processes(self.bed.run).stop(server)


@contextmanager
def served(what: str) -> Iterator[Server | None]:
    """A server for these rows; None, and a line that says why, where there can be none."""
    bed = Bed(os.environ.get("TUNEFLEET_BED") or NAME)
    if missing := _bring_up(bed):
        print(f"  {what}: left out: {missing}", flush=True)
        yield None
        return
    try:
        account = _install(bed)
        with _inside(bed), closing(AuditLog(bed.audit)) as log:
            yield Server(bed, account, log)
    finally:
        life.down(bed, say=_say)


def _bring_up(bed: Bed) -> str:
    """Start it; why that cannot be, or nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it needs Linux and root (docs/testbed.md)"
    if life.kind_of(bed) is not None:
        down = f"python -m tests.testbed --name {bed.name} down"
        return f"it needs a new bed, and {bed.name} is up: {down}"
    try:
        life.up(bed, "cp", say=_say)
    except BedError as error:
        life.down(bed, say=_say)
        return str(error)
    return ""


def _install(bed: Bed) -> Path:
    """Kinds and chart; a kubeconfig of the controller's service account."""
    cluster = Cluster(bed.kubeconfig, str(KUBERNETES.path("kubectl")), bed)
    for folder in (CHART / "crds", KUBERAY.folder / "config" / "crd" / "bases"):
        cluster.kubectl("apply", "--server-side", "-f", str(folder))
        cluster.kubectl("wait", "--for=condition=Established", "-f", str(folder))
    where = [f"--kubeconfig={bed.kubeconfig}", f"--namespace={_RELEASE.namespace}"]
    options = ["--create-namespace", "--skip-crds"]
    done = run("install", _RELEASE.name, str(CHART), *where, *options)
    if done.returncode:
        raise BedError(f"helm cannot install the chart: {done.stderr}")
    _wait_until_jobs_are_taken(cluster)
    account = _RELEASE.controller.rpartition(":")[2]
    token = cluster.kubectl(
        "create", "token", account, f"--namespace={_RELEASE.namespace}", "--duration=12h"
    )
    view = json.loads((bed.keys / "admin.kubeconfig").read_text())
    view["users"][0]["user"] = {"token": token.strip()}
    path = bed.run / "controller.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(view))
    return path


def _wait_until_jobs_are_taken(cluster: Cluster) -> None:
    """Wait until the chart's policies are in force: on its way there, the server refuses jobs."""
    job = json.dumps(a_cluster_job())
    taken, deadline = 0, time.monotonic() + _POLICY_SECONDS
    while taken < _TAKEN_IN_A_ROW:
        try:
            cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=job)
            taken += 1
        except BedError:
            if time.monotonic() > deadline:
                raise
            taken = 0
        time.sleep(1)


@contextmanager
def _inside(bed: Bed) -> Iterator[None]:
    """This thread, and every process it starts, in the bed's network until the block ends."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        enter(str(bed.namespace))
        try:
            yield
        finally:
            enter(f"/proc/self/fd/{home}")
    finally:
        os.close(home)


def _say(what: str) -> None:
    print(f"  testbed: {what}", flush=True)
