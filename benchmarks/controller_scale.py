"""A controller among thousands of jobs that run: its start, its memory, its rest, its answers.

Every job is there as the controller would have left it (FineTuneJob, two attempts, a RayJob; no
pods and no prepare Job), so that it has nothing to write. The same server holds the smallest number
first and the larger ones after it; start and memory are drawn over all of them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.api_server import Server, served
from benchmarks.audit import answers, percentile
from benchmarks.controller_process import Controller, controller
from benchmarks.growth import Panel, draw
from benchmarks.lives import Replay, life, progress
from benchmarks.plain_client import at_once, plain
from benchmarks.scale import Scale
from benchmarks.table import Row
from tunefleet.controller.kinds import ATTEMPTS, FINE_TUNE_JOBS, RAY_JOBS

SYNC_SECONDS = 15.0
RESIDENT_MIB = 150.0
IDLE_SECONDS = 60.0
IDLE_PERCENT = 1.0
ANSWER_MS = 250.0
PICTURE = "controller-growth"
_NAMESPACE = "many"
_PAUSE_SECONDS = 0.2
_KINDS = (FINE_TUNE_JOBS, ATTEMPTS, RAY_JOBS)
# What clients of Kubernetes ask for at a time.
_PAGE = 500


@dataclass(frozen=True, slots=True)
class _Found:
    """What was measured at one size."""

    starts: list[float]
    read: list[float]
    processor: float
    resident: float
    most_resident: float
    scraped: float
    idle_writes: int
    idle_percent: float
    answers: list[float]


def measure(scale: Scale) -> Iterator[Row]:
    """Six rows for each number of jobs, and two of how start and memory grow between them."""
    with served("controller_scale") as server:
        if server is None:
            return
        server.without_controllers()
        server.namespace(_NAMESPACE)
        jobs: list[Replay] = []
        found: list[_Found] = []
        for count in scale.present:
            more = [Replay(f"job-{n:05}", _NAMESPACE, {}) for n in range(len(jobs), count)]
            asyncio.run(_fill(server, more))
            jobs += more
            found.append(_measured(server, jobs, starts=scale.starts, changes=scale.changes))
            yield from _rows(count, found[-1])
        if len(found) > 1:
            yield from _growth(scale.present, found)
            print(f"  controller_scale: drawn in {_drawn(scale, found)}", flush=True)


def _rows(count: int, found: _Found) -> Iterator[Row]:
    what = f"{count:,} jobs and RayJobs"
    yield Row(
        f"{what}: start to filled caches",
        "s",
        found.starts,
        found.read,
        peer="a client that only reads the same lists",
        better="lower",
        limit=SYNC_SECONDS,
        note=f"from the process' start; {found.processor:.1f} s of its own processor time",
    )
    yield Row(
        f"{what}: resident memory",
        "MiB",
        [found.resident],
        better="lower",
        limit=RESIDENT_MIB,
        note=f"at most {found.most_resident:.0f} MiB on the way",
    )
    yield Row(
        f"{what}: resident memory, metrics scraped",
        "MiB",
        [found.scraped],
        better="lower",
        limit=RESIDENT_MIB,
    )
    yield Row(
        f"{what}: writes in an idle minute, Lease apart",
        "",
        [found.idle_writes],
        better="lower",
        limit=0,
    )
    yield Row(
        f"{what}: processor in an idle minute",
        "% of a core",
        [found.idle_percent],
        better="lower",
        limit=IDLE_PERCENT,
    )
    yield Row(
        f"{what}: change to status written, p99",
        "ms",
        [percentile(found.answers, 99)],
        better="lower",
        limit=ANSWER_MS,
        note=f"{len(found.answers)} changes, median {median(found.answers):.0f} ms",
    )


def _growth(counts: tuple[int, ...], found: list[_Found]) -> Iterator[Row]:
    times = counts[-1] / counts[0]
    what = f"from {counts[0]:,} to {counts[-1]:,} jobs"
    for name, few, many in (
        ("start to filled caches", median(found[0].starts), median(found[-1].starts)),
        ("resident memory", found[0].resident, found[-1].resident),
    ):
        yield Row(f"{name} {what}", "×", [many / few], better="lower", limit=times)


def _drawn(scale: Scale, found: list[_Found]) -> Path:
    """The picture of that growth."""
    starts = [median(each.starts) for each in found]
    panels = (
        Panel("start to filled caches", "s", starts, SYNC_SECONDS),
        Panel("resident memory", "MiB", [each.resident for each in found], RESIDENT_MIB),
    )
    return draw(scale.pictures, PICTURE, scale.present, panels)


async def _fill(server: Server, jobs: list[Replay]) -> None:
    """Have the jobs there, each with all that is left of its life so far."""
    async with plain(server.bed) as client:
        await at_once(lambda job: job.do(client, (life().job, *life().running)), jobs)


def _measured(server: Server, jobs: list[Replay], *, starts: int, changes: int) -> _Found:
    seconds, read = [], []
    for _ in range(starts - 1):
        read.append(asyncio.run(_read(server)))
        with controller(server) as running:
            seconds.append(running.wait_until_ready())
    read.append(asyncio.run(_read(server)))
    with controller(server) as running:
        seconds.append(running.wait_until_ready())
        processor = running.cpu_seconds
        running.wait_until_leading()
        running.wait_for_rest()
        resident, most = running.resident, running.most_resident
        running.scrape()
        scraped = running.resident
        writes, percent = _idle(server, running)
        waits = _answers(server, jobs[:: max(1, len(jobs) // changes)][:changes])
    return _Found(seconds, read, processor, resident, most, scraped, writes, percent, waits)


async def _read(server: Server) -> float:
    """Seconds until all that a controller keeps was sent, with nothing made of it."""
    began = time.monotonic()
    async with plain(server.bed) as client:
        await asyncio.gather(*(client.read_all(kind.path(None), page=_PAGE) for kind in _KINDS))
    return time.monotonic() - began


def _idle(server: Server, running: Controller) -> tuple[int, float]:
    """Writes but those of the Lease, and the share of a core, while nothing happens."""
    server.log.new()
    began, before = time.monotonic(), running.cpu_seconds
    time.sleep(IDLE_SECONDS)
    percent = 100 * (running.cpu_seconds - before) / (time.monotonic() - began)
    written = [
        asked
        for asked in server.log.last()
        if asked.user == server.controller and asked.wrote and asked.resource != "leases"
    ]
    return len(written), percent


def _answers(server: Server, jobs: list[Replay]) -> list[float]:
    """Milliseconds from a driver's word to the job's status, one change at a time."""

    async def change() -> None:
        async with plain(server.bed) as client:
            for job in jobs:
                path = ATTEMPTS.path(job.namespace, job.attempt("1"), "status")
                said = {"status": {"progress": progress(int(time.time()) % 90_000 + 20)}}
                await client.patch(path, json.dumps(said))
                await asyncio.sleep(_PAUSE_SECONDS)

    server.log.new()
    asyncio.run(change())
    requests = sorted(server.log.last(), key=lambda asked: asked.at)
    found = []
    for job in jobs:
        (told,) = (each for each in requests if each.name == job.attempt("1") and each.wrote)
        own = [each for each in requests if each.name == job.name]
        waited = answers(own, told, user=server.controller, resource="finetunejobs/status")
        if waited is None:
            raise ValueError(f"the status of {job.name} never said what its driver told")
        found.append(1000 * waited)
    return found
