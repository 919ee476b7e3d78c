"""How fast the real KubeRay operator makes RayClusters of RayJobs, at its own settings.

There is no node, so that nothing runs. For orientation beside the burst of FineTuneJobs: what is
downstream of the controller takes jobs up at this pace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.api_server import Server, served
from benchmarks.audit import Asked, Made, made, percentile
from benchmarks.lives import UID, Replay, ray_job
from benchmarks.plain_client import at_once, plain
from benchmarks.scale import Scale
from benchmarks.table import Row
from tests.testbed.kuberay import PROCESS
from tests.testbed.parts import KUBERAY
from tests.testbed.processes import Processes
from tests.testbed.s3 import free_ports
from tunefleet.controller.kinds import RAY_JOBS

_DEADLINE_SECONDS = 600.0


def measure(scale: Scale) -> Iterator[Row]:
    """Two rows: RayClusters a second, and how long the slowest RayJobs waited for theirs."""
    with served("pick_up") as server:
        if server is None:
            return
        with _kuberay(server):
            _picked_up(server, server.namespace("first"), 1)
            found = _picked_up(server, server.namespace("pick-up"), scale.picked_up)
    what = f"KubeRay's pick-up of {scale.picked_up:,} RayJobs"
    note = "for orientation; no node, KubeRay's defaults"
    yield Row(f"{what}: RayClusters", "/s", [found.per_second], note=note)
    yield Row(
        f"{what}: RayJob to RayCluster, p99",
        "s",
        [percentile(found.waits, 99)],
        better="lower",
        note=f"median {percentile(found.waits, 50):.1f} s",
    )


def _picked_up(server: Server, namespace: str, count: int) -> Made:
    async def make_and_wait() -> list[Asked]:
        async with plain(server.bed) as client:

            async def make(number: int) -> None:
                # A job's name and uid, of which an attempt's name is made.
                words = Replay(f"pick-{number:05}", namespace, {UID: "aaaaa"})
                await client.post(RAY_JOBS.path(namespace), words.worded(ray_job()))

            await at_once(make, range(count))
        return await server.log.until(
            lambda asked: sum(each.made("rayclusters") for each in asked) >= count,
            f"{count} RayClusters",
            seconds=_DEADLINE_SECONDS,
        )

    server.log.new()
    asked = asyncio.run(make_and_wait())
    return made(asked + server.log.last(), namespace, of="rayjobs", what="rayclusters")


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
