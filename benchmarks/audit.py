"""What the API server was asked, read from its own audit log, and times and counts made of it.

Decides that both sides of a comparison are timed by the server's clock, at the end of a request,
and that a write counts for whoever asked for it, progress apart. Imports the standard library.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_CREATED = 201
_POLL_SECONDS = 0.25
# The server hands a line to its log after it has answered.
_LATE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and when it was answered. ``resource`` names its subresource too."""

    at: float
    user: str
    agent: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int

    @property
    def wrote(self) -> bool:
        """Whether it was a write that succeeded."""
        return self.verb in WRITES and self.code < 300

    def made(self, resource: str) -> bool:
        """Whether it made such an object, be it by applying it."""
        created = self.verb == "create" or self.code == _CREATED
        return created and self.resource == resource and self.wrote


def parse(line: bytes) -> Asked | None:
    """One line of the log; None for what is no answered request for an object."""
    event = json.loads(line)
    what = event.get("objectRef")
    if event.get("stage") != "ResponseComplete" or what is None:
        return None
    return Asked(
        at=datetime.fromisoformat(event["stageTimestamp"]).timestamp(),
        user=event["user"]["username"],
        agent=event.get("userAgent", ""),
        verb=event["verb"],
        resource="/".join(filter(None, (what.get("resource"), what.get("subresource")))),
        namespace=what.get("namespace", ""),
        name=what.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
    )


class AuditLog:
    """The log from now on, over the server's rotations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._file.seek(0, os.SEEK_END)
        self._rest = b""

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def new(self) -> list[Asked]:
        """What was asked since the last call, as far as it is written down."""
        found: list[Asked] = []
        while True:
            *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
            found += [asked for line in lines if (asked := parse(line)) is not None]
            with suppress(FileNotFoundError):  # between the old file's moving and a new one
                if self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
                    self._file.close()
                    self._file = self._path.open("rb")
                    continue
            return found

    def last(self) -> list[Asked]:
        """The same, once the server has written down all that it has answered."""
        time.sleep(_LATE_SECONDS)
        return self.new()

    async def until(
        self, enough: Callable[[Sequence[Asked]], bool], what: str, *, seconds: float
    ) -> list[Asked]:
        """What was asked until it is enough; TimeoutError where it never is."""
        found: list[Asked] = []
        deadline = time.monotonic() + seconds
        while True:
            found += self.new()
            if enough(found):
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:.0f} s: {what}")
            await asyncio.sleep(_POLL_SECONDS)


def percentile(values: Iterable[float], percent: float) -> float:
    """The least value that so many percent of all do not exceed."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("there is no percentile of nothing")
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Made:
    """Objects by name, and what was made for each of them: when either was there."""

    asked: Mapping[str, float]
    made: Mapping[str, float]

    @property
    def per_second(self) -> float:
        """How many were made a second, from the first that was asked for to the last made."""
        return len(self.made) / (max(self.made.values()) - min(self.asked.values()))

    @property
    def waits(self) -> list[float]:
        """Seconds from each object to what was made for it."""
        return [at - self.asked[name] for name, at in self.made.items()]


def made(requests: Iterable[Asked], namespace: str, *, of: str, what: str) -> Made:
    """When each ``of`` was created, and the first ``what`` whose name begins with its name.

    Names of ``of`` are all of one length. ValueError where something was never made.
    """
    times: dict[str, dict[str, float]] = {of: {}, what: {}}
    for asked in requests:
        if asked.namespace == namespace and asked.resource in times and asked.made(asked.resource):
            times[asked.resource].setdefault(asked.name, asked.at)
    length = max(map(len, times[of]), default=0)
    first: dict[str, float] = {}
    for name, at in times[what].items():
        first.setdefault(name[:length], at)
    if not first or first.keys() != times[of].keys():
        raise ValueError(f"{len(times[of])} {of} and {len(first)} {what} in {namespace}")
    return Made(times[of], first)


def answers(requests: Sequence[Asked], of: Asked, *, user: str, resource: str) -> float | None:
    """Seconds from a request to the first write of a user on a resource after it."""
    for asked in requests:
        if asked.at >= of.at and asked.user == user and asked.resource == resource and asked.wrote:
            return asked.at - of.at
    return None


@dataclass(frozen=True, slots=True)
class Share:
    """The writes of one job's life: ours, those of them that tell progress, everybody else's."""

    ours: int
    progress: int
    others: Mapping[str, int]


def shares(requests: Iterable[Asked], job: str, *, user: str) -> Share:
    """Who wrote how often for a job. ``user`` is the controller's.

    Its writes that follow a driver's progress count apart: every one right after a write of the
    training attempt's status, but after the last of those, which is the result.
    """
    told = f"{job}-"
    writes = sorted(
        (
            asked
            for asked in requests
            if asked.wrote and (asked.name == job or asked.name.startswith(told))
        ),
        key=lambda asked: asked.at,
    )
    drivers = [index for index, asked in enumerate(writes) if _reports(asked, user)]
    progress = sum(
        index + 1 < len(writes)
        and writes[index + 1].user == user
        and writes[index + 1].resource == "finetunejobs/status"
        for index in drivers[:-1]
    )
    others = Counter(f"{a.verb} {a.resource}" for a in writes if a.user != user)
    return Share(sum(asked.user == user for asked in writes), progress, others)


def _reports(asked: Asked, user: str) -> bool:
    """Whether a driver says something of an attempt that trains."""
    trains = asked.resource == "finetuneattempts/status" and not asked.name.endswith("-0")
    return trains and asked.user != user
