"""A burst of FineTuneJobs: how fast their RayJobs are there, beside a writer that only writes.

KubeRay is off, pods that prepare are answered for at once, and nothing makes pods. The peer does
the same writes in the same order, with as many at once as the controller has workers: it reads
nothing, decides nothing and follows nothing, so it is what the server can take.

Jobs that come all at once wait for the whole burst, which tells their rate a second time. How far
a job is behind the writer's is told by jobs that come as fast as the controller has to keep up
with, and no faster.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from statistics import median

from benchmarks.api_server import Server, served
from benchmarks.audit import Asked, Made, made, percentile
from benchmarks.controller_process import controller
from benchmarks.lives import Replay, life, prepared
from benchmarks.plain_client import CONNECTIONS, Plain, at_once, plain
from benchmarks.scale import Scale
from benchmarks.table import Row
from tunefleet.controller.kinds import ATTEMPTS, PREPARE_JOBS
from tunefleet.kube.client import Client, EventType

LEAST_SHARE = 0.6
ALLOWED_SECONDS = 2.0
_UNPACED = "--writes-per-second=10000"
# The pace is the chart's: so many jobs of the burst show it.
_PACED_PART = 4
_DEADLINE_SECONDS = 900.0
_PEER = "a bare asyncio writer"

Side = Callable[[Server, str, int, float], Made]
_AT_ONCE = math.inf


def measure(scale: Scale) -> Iterator[Row]:
    """RayJobs a second and the slowest of them, beside the peer; and at the chart's own pace."""
    with served("burst") as server:
        if server is None:
            return
        server.without_controllers()
        ours: list[Made] = []
        theirs: list[Made] = []
        for pair in range(scale.pairs):
            sides: list[tuple[list[Made], Side]] = [
                (ours, _by_the_controller),
                (theirs, _by_the_writer),
            ]
            for found, side in sides if pair % 2 == 0 else reversed(sides):
                namespace = server.namespace(f"burst-{len(ours) + len(theirs)}")
                found.append(side(server, namespace, scale.burst, _AT_ONCE))
        yield from _rows(scale.burst, ours, theirs)
        rate = LEAST_SHARE * median(each.per_second for each in theirs)
        yield _steady(server, scale.burst, rate)
        namespace, count = server.namespace("paced"), scale.burst // _PACED_PART
        paced = _by_the_controller(server, namespace, count, _AT_ONCE, pace="")
        yield Row(
            f"burst of {count:,} at the chart's own pace: RayJobs",
            "/s",
            [paced.per_second],
            note="the chart's --writes-per-second",
        )


def _rows(count: int, ours: list[Made], theirs: list[Made]) -> Iterator[Row]:
    what = f"burst of {count:,} FineTuneJobs"
    writes = 1 + len(life().launching)
    yield Row(
        f"{what}: RayJobs",
        "/s",
        [each.per_second for each in ours],
        [each.per_second for each in theirs],
        peer=_PEER,
        goal=LEAST_SHARE,
        note=f"{writes} writes a job; no pace (--writes-per-second)",
    )
    yield Row(
        f"{what}: job to RayJob, p99",
        "s",
        [percentile(each.waits, 99) for each in ours],
        [percentile(each.waits, 99) for each in theirs],
        peer=_PEER,
        better="lower",
        note="all at once: the length of the burst",
    )


def _steady(server: Server, count: int, rate: float) -> Row:
    """How late a job's RayJob is where jobs come at the pace that has to be kept up with."""
    waits = []
    for name, side in (("controller", _by_the_controller), ("writer", _by_the_writer)):
        found = side(server, server.namespace(f"steady-{name}"), count, rate)
        waits.append(percentile(found.waits, 99))
    ours, theirs = waits
    return Row(
        f"{count:,} FineTuneJobs, {rate:.1f} a second: job to RayJob, p99",
        "s",
        [ours],
        [theirs],
        peer=_PEER,
        better="lower",
        limit=theirs + ALLOWED_SECONDS,
        note=f"{LEAST_SHARE:g} of the writer's rate; limit: the writer's + {ALLOWED_SECONDS:g} s",
    )


def _by_the_controller(
    server: Server, namespace: str, count: int, rate: float, *, pace: str = _UNPACED
) -> Made:
    async def apply_and_play() -> list[Asked]:
        async with plain(server.bed) as client, _pods(server, client, namespace):
            await _apply(client, namespace, count, rate)
            return await server.log.until(
                lambda asked: sum(each.made("rayjobs") for each in asked) >= count,
                f"{count} RayJobs in {namespace}",
                seconds=_DEADLINE_SECONDS,
            )

    options = [f"--namespace={namespace}", *([pace] if pace else [])]
    with controller(server, *options) as running:
        running.wait_until_leading()
        server.log.new()
        asked = asyncio.run(apply_and_play())
    return made(asked + server.log.last(), namespace, of="finetunejobs", what="rayjobs")


def _by_the_writer(server: Server, namespace: str, count: int, rate: float) -> Made:
    async def apply_and_write() -> None:
        applied: asyncio.Queue[Replay] = asyncio.Queue()

        async def write(_: int) -> None:
            job = await applied.get()
            await job.do(client, life().launching)

        async with (
            plain(server.bed, connections=2 * CONNECTIONS) as client,
            asyncio.TaskGroup() as both,
        ):
            both.create_task(_apply(client, namespace, count, rate, applied.put_nowait))
            both.create_task(at_once(write, range(count)))

    server.log.new()
    asyncio.run(apply_and_write())
    return made(server.log.last(), namespace, of="finetunejobs", what="rayjobs")


async def _apply(
    client: Plain,
    namespace: str,
    count: int,
    rate: float,
    applied: Callable[[Replay], None] = lambda job: None,
) -> None:
    """Jobs of a user, so many a second; ``applied`` is told of each."""
    began = time.monotonic()

    async def one(number: int) -> None:
        await asyncio.sleep(began + number / rate - time.monotonic())
        job = Replay(f"job-{number:05}", namespace, {})
        await job.do(client, (life().job,))
        applied(job)

    await at_once(one, range(count))


@asynccontextmanager
async def _pods(server: Server, client: Plain, namespace: str) -> AsyncIterator[None]:
    """Pods that prepare: each has said what it found as soon as its Job is there."""
    said = json.dumps({"status": prepared()})
    known: set[str] = set()

    async def answer(name: str) -> None:
        await client.patch(ATTEMPTS.path(namespace, name, "status"), said)

    async def follow(watching: Client, since: str, answers: asyncio.TaskGroup) -> None:
        while True:
            events = watching.watch(PREPARE_JOBS, namespace, resource_version=since)
            async for event in events:
                if event.type is EventType.ADDED:
                    name = str(json.loads(event.body)["metadata"]["name"])
                    if name not in known:
                        known.add(name)
                        answers.create_task(answer(name))

    async with (
        await Client.connect(server.administrator) as watching,
        asyncio.TaskGroup() as answers,
    ):
        # The namespace is empty: nothing is missed by what is watched from here on.
        since = [
            page.resource_version async for page in watching.list_pages(PREPARE_JOBS, namespace)
        ]
        following = answers.create_task(follow(watching, since[-1], answers))
        yield
        following.cancel()
