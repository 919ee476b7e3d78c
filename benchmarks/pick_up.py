"""How fast the real KubeRay operator makes RayClusters of RayJobs, at its own settings.

There is no node, so that nothing runs. For orientation beside the burst of FineTuneJobs: what is
downstream of the controller takes jobs up at this pace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.api_server import Server, served
from benchmarks.lives import UID, Replay, ray_job
from benchmarks.scale import Scale
from benchmarks.table import Row
from benchmarks.taken_up import rows, taken_up
from tests.testbed.kuberay import PROCESS
from tests.testbed.parts import KUBERAY
from tests.testbed.processes import Processes
from tests.testbed.s3 import free_ports
from tunefleet.controller.kinds import RAY_JOBS


def measure(scale: Scale) -> Iterator[Row]:
    """Two rows: RayClusters a second, and how long the slowest RayJobs waited for theirs."""
    with served("pick_up") as server:
        if server is None:
            return
        with _kuberay(server):
            taken_up(server, RAY_JOBS, _ray_jobs("first", 1), "first", "rayclusters")
            jobs = _ray_jobs("pick-up", scale.picked_up)
            found = taken_up(server, RAY_JOBS, jobs, "pick-up", "rayclusters")
    yield from rows(
        f"KubeRay's pick-up of {scale.picked_up:,} RayJobs",
        found,
        of="RayJob",
        what="RayCluster",
        note="no node, KubeRay's defaults",
    )


def _ray_jobs(namespace: str, count: int) -> list[str]:
    # A job's name and uid, of which an attempt's name is made.
    words = (Replay(f"pick-{number:05}", namespace, {UID: "aaaaa"}) for number in range(count))
    return [each.worded(ray_job()) for each in words]


@contextmanager
def _kuberay(server: Server) -> Iterator[None]:
    """The operator, as a process inside the bed's network."""
    metrics, probes = free_ports(2)
    processes = Processes(server.bed.run)
    processes.start(
        PROCESS,
        [
            str(KUBERAY.path(PROCESS)),
            f"--kubeconfig={server.administrator}",
            "--enable-leader-election=false",
            f"--metrics-addr=127.0.0.1:{metrics}",
            f"--health-probe-bind-address=127.0.0.1:{probes}",
        ],
    )
    try:
        yield
    finally:
        processes.stop(PROCESS)
