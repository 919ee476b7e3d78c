"""``tunefleet logs``: what an attempt's pods wrote, and what is known when they are gone.

Decides which containers speak (preparing, the driver, the workers), by which name each line is
told, and where the log of pods that are gone is looked for: in the run's folder, with the user's
own credentials. Imports ``kube``, ``storage`` and its siblings.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunefleet.api.attempt import Stage
from tunefleet.api.errors import ClusterError, StorageError
from tunefleet.api.job import FineTuneJob
from tunefleet.controller.jobs.evidence import waiting_for
from tunefleet.controller.seen import JobSeen, PodSeen
from tunefleet.kube.errors import ApiError
from tunefleet.render.names import CONTAINER
from tunefleet.storage.folder import RunFolder
from tunefleet.storage.store import open_store
from tunefleet.verbs.cluster import jobs
from tunefleet.verbs.cluster.connect import Cluster
from tunefleet.verbs.cluster.events import said
from tunefleet.verbs.cluster.jobs import AttemptRead
from tunefleet.verbs.transcript import folder_of, kept

Say = Callable[[str, str], None]
"""Told of every line: whose it is (``driver``, ``worker-1``, …) and what it says."""

NOTE = "tunefleet"
"""Whose the lines are that no pod wrote."""

EVERY_SECONDS = 2.0
LINGER_SECONDS = 10.0
"""How long the last lines of pods are waited for once their job has ended."""

_NODE = "ray.io/node-type"
_SUBMITTER = "ray-job-submitter"


@dataclass(frozen=True, slots=True)
class Voice:
    """A container that writes, and its name for people."""

    name: str
    pod: PodSeen
    container: str


async def logs(cluster: Cluster, name: str, say: Say, *, attempt: int | None = None) -> None:
    """Tell what the pods of an attempt (None: the newest) wrote so far."""
    job = await jobs.job(cluster, name)
    chosen = choose(job, await jobs.attempts(cluster, job), attempt)
    voices = await _voices(cluster, chosen)
    for voice in voices:
        await _tell(cluster, voice, say)
    if not voices:
        await _say_instead(chosen, say)


async def _tell(cluster: Cluster, voice: Voice, say: Say) -> None:
    """Tell what a container wrote so far, or why that is nothing."""
    silent = True
    try:
        async for line in cluster.client.log_lines(
            cluster.namespace, voice.pod.name, voice.container
        ):
            say(voice.name, line)
            silent = False
    except ApiError as error:
        if not (error.not_found or error.invalid):
            raise
        say(NOTE, f"{voice.name} has no log ({_why(voice, error.message)})")
        return
    if silent:
        # Of a pod that has no node yet, the server says nothing and calls that an answer.
        why = _why(voice, f"its pod is {voice.pod.status.phase or 'Pending'}")
        say(NOTE, f"{voice.name} has written nothing ({why})")


async def follow(
    cluster: Cluster,
    name: str,
    say: Say,
    *,
    attempt: int | None = None,
    every: float = EVERY_SECONDS,
) -> None:
    """Tell what pods write as they write it: to the end of an attempt or (None) of the job."""
    streams: dict[tuple[str, str], asyncio.Task[None]] = {}
    told = ""
    try:
        while True:
            job = await jobs.job(cluster, name)
            known = await jobs.attempts(cluster, job)
            chosen = choose(job, known, attempt) if known or attempt is not None else None
            voices = await _voices(cluster, chosen) if chosen is not None else []
            for voice in voices:
                key = (voice.pod.name, voice.container)
                if key not in streams and voice.pod.status.phase not in {"", "Pending"}:
                    streams[key] = asyncio.create_task(_stream(cluster, voice, say))
            ended = jobs.is_final(job) or (
                attempt is not None and chosen is not None and chosen.result is not None
            )
            if ended:
                await _last_words(streams)
                if chosen is not None and not streams:
                    await _say_instead(chosen, say)
                say(NOTE, f"{name}: {job.status.phase}: {job.status.message}".rstrip(": "))
                return
            waits = waiting_for([voice.pod for voice in voices]) or job.status.message
            if not any(not task.done() for task in streams.values()) and waits != told:
                say(NOTE, waits)
                told = waits
            await asyncio.sleep(every)
    finally:
        for task in streams.values():
            task.cancel()
        await asyncio.gather(*streams.values(), return_exceptions=True)


def choose(job: JobSeen, attempts: Sequence[AttemptRead], number: int | None) -> AttemptRead:
    """The attempt of a number, or the newest; raises ``ClusterError``."""
    if not attempts:
        why = job.status.message or "no controller has taken it up yet"
        raise ClusterError(
            f"{job.name} has no attempt yet ({job.status.phase}: {why})",
            remedy=f"`tunefleet status {job.name} --watch` follows it",
        )
    if number is None:
        return attempts[-1]
    for attempt in attempts:
        if attempt.number == number:
            return attempt
    there = ", ".join(str(attempt.number) for attempt in attempts)
    raise ClusterError(
        f"{job.name} has no attempt {number}", remedy=f"there are {there} (0 prepares)"
    )


async def _voices(cluster: Cluster, attempt: AttemptRead) -> list[Voice]:
    """Who writes: the driver before the workers."""
    found = await jobs.pods(cluster, attempt.name)
    voices, workers = [], 0
    for pod, containers in found.values():
        if attempt.spec.stage is Stage.PREPARE:
            voices.append(Voice("prepare", pod, CONTAINER))
            continue
        node = pod.metadata.labels.get(_NODE)
        if node == "worker":
            voices.append(Voice(f"worker-{workers}", pod, CONTAINER))
            workers += 1
        elif node == "head":
            inside = _SUBMITTER in containers
            voices.append(Voice("driver" if inside else "head", pod, _driver(containers)))
        else:
            voices.append(Voice("driver", pod, _driver(containers)))
    return sorted(voices, key=lambda voice: voice.name != "driver")


def _driver(containers: Sequence[str]) -> str:
    return _SUBMITTER if _SUBMITTER in containers else containers[0]


async def _stream(cluster: Cluster, voice: Voice, say: Say) -> None:
    try:
        async for line in cluster.client.log_lines(
            cluster.namespace, voice.pod.name, voice.container, follow=True
        ):
            say(voice.name, line)
    except ApiError as error:
        say(NOTE, f"{voice.name} cannot be followed any more ({_why(voice, error.message)})")


async def _last_words(streams: dict[tuple[str, str], asyncio.Task[None]]) -> None:
    if streams:
        await asyncio.wait(streams.values(), timeout=LINGER_SECONDS)


def _why(voice: Voice, otherwise: str) -> str:
    return waiting_for([voice.pod]) or otherwise


async def _say_instead(attempt: AttemptRead, say: Say) -> None:
    """What was kept beside the run of an attempt whose pods are gone, or what its object tells."""
    try:
        lines = await asyncio.to_thread(_kept_of, attempt)
    except StorageError as error:
        lines = []
        place = folder_of(attempt.number)
        say(NOTE, f"its log, {place} of the run, cannot be read from here: {error.message}")
    for who, line in lines:
        say(who, line)
    if lines:
        return
    say(NOTE, f"attempt {attempt.number} has no pods (any more); what it told before:")
    told = False
    for line in _lines(attempt):
        say(NOTE, line)
        told = True
    if not told:
        say(NOTE, "  nothing: it ended before it had begun, or has not begun yet")


def _kept_of(attempt: AttemptRead) -> list[tuple[str, str]]:
    """What lies beside the run of an attempt; raises ``StorageError``."""
    if not attempt.run:
        return []
    job = FineTuneJob.model_validate_json(json.dumps(attempt.manifest))
    store = open_store(job.spec.checkpoints.uri, Path("/"))
    run = RunFolder(store, job.metadata.namespace, job.metadata.name, attempt.run)
    return list(kept(run, attempt.number))


def _lines(attempt: AttemptRead) -> Iterator[str]:
    for event in said(attempt):
        yield f"  {event.reason}: {event.message}"
    if attempt.result is not None:
        for problem in attempt.result.problems:
            place = f"{problem.file}:{problem.line}" if problem.line else problem.where
            yield f"  {place}: {problem.message}" + (
                f" → {problem.remedy}" if problem.remedy else ""
            )
