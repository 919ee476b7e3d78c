"""How often who writes for one job, from ``kubectl apply`` to its end, by the server's audit log.

Pods and KubeRay are played as tests play them (``tests/cluster/actors.py``); what Kubernetes'
own controllers write is not in the log.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from statistics import median

from benchmarks.api_server import Server, served
from benchmarks.audit import Share, shares
from benchmarks.controller_process import controller
from benchmarks.lives import Replay, life
from benchmarks.plain_client import plain
from benchmarks.scale import Scale
from benchmarks.table import Row
from tests.cluster.actors import Players, everything
from tunefleet.api.status import FINAL
from tunefleet.controller.kinds import FINE_TUNE_JOBS
from tunefleet.kube.client import Client

MOST_WRITES = 12
_JOBS = 10
_PAUSE_SECONDS = 0.5
_ROUNDS = 240


def measure(scale: Scale) -> Iterator[Row]:
    """Ours (its progress apart), ours that tell progress, and everybody else's."""
    with served("writes") as server:
        if server is None:
            return
        found = _lived(server, server.namespace("writes"))
    ours = [share.ours - share.progress for share in found]
    yield Row(
        "writes of the controller for a job, progress apart",
        "",
        [max(ours)],
        better="lower",
        limit=MOST_WRITES,
        note=f"the most of {len(found)} jobs; median {median(ours):g}",
    )
    progress = [share.progress for share in found]
    yield Row("… of progress", "", [max(progress)], better="lower")
    others = Counter[str]()
    for share in found:
        others.update(share.others)
    told = ", ".join(f"{name} {count / len(found):g}" for name, count in sorted(others.items()))
    yield Row(
        "… of everybody else",
        "",
        [sum(others.values()) / len(found)],
        better="lower",
        note=f"user, pods and KubeRay, played: {told}",
    )


def _lived(server: Server, namespace: str) -> list[Share]:
    jobs = [Replay(f"job-{number:02}", namespace, {}) for number in range(_JOBS)]

    async def live() -> None:
        async with plain(server.bed) as client:
            for job in jobs:
                await job.do(client, (life().job,))
        async with await Client.connect(
            server.administrator, writes_per_second=500, burst=500
        ) as client:
            players = Players(client, namespace)
            for _ in range(_ROUNDS):
                await players.act()
                await asyncio.sleep(_PAUSE_SECONDS)
                if await _ended(client, namespace) == _JOBS:
                    return
        raise TimeoutError(f"the jobs of {namespace} do not end")

    with controller(server, f"--namespace={namespace}") as running:
        running.wait_until_leading()
        server.log.new()
        asyncio.run(live())
        asked = [each for each in server.log.last() if each.namespace == namespace]
    return [shares(asked, job.name, user=server.controller) for job in jobs]


async def _ended(client: Client, namespace: str) -> int:
    jobs = await everything(client, FINE_TUNE_JOBS, namespace)
    return sum(job.get("status", {}).get("phase") in FINAL for job in jobs)
