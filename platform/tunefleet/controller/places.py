"""In which place of its queue a job waits, where Kueue tells it.

Decides how often a queue is asked, and how far down: the first places only, so that a long queue
that moves up by one is not a write for everybody in it. A cluster that does not answer is left in
peace for a while, and nobody is told a place. Imports ``kube``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, Field, ValidationError

from tunefleet.controller.kinds import OLDER_QUEUES, QUEUES
from tunefleet.kube.access import Call
from tunefleet.kube.client import Client
from tunefleet.kube.errors import ApiError

FIRST_PLACES = 10
FRESH_SECONDS = 30.0
"""How old an answer gets."""
SILENT_SECONDS = 600.0
"""How long a queue is not asked again that could not be asked."""


class _Metadata(BaseModel):
    name: str = ""


class _Pending(BaseModel):
    metadata: _Metadata = _Metadata()
    position: int = Field(0, alias="positionInClusterQueue")


class _Answer(BaseModel):
    items: list[_Pending] | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    places: Mapping[str, int]
    until: float


class Places:
    """The first Workloads of every queue that is asked for, by name. The clock is the loop's."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[tuple[str, str], _Known] = {}

    async def of(self, namespace: str, queue: str, workload: str) -> int | None:
        """The place in which a Workload waits, from 1; None where it is not told. Never raises."""
        now = asyncio.get_running_loop().time()
        known = self._known.get((namespace, queue))
        if known is None or known.until <= now:
            # Queues come and go: what is too old is of no use to anybody.
            self._known = {key: kept for key, kept in self._known.items() if kept.until > now}
            known = await self._ask(namespace, queue, now)
            self._known[namespace, queue] = known
        return known.places.get(workload)

    async def _ask(self, namespace: str, queue: str, now: float) -> _Known:
        for resource in (QUEUES, OLDER_QUEUES):
            path = resource.path(namespace, queue, "pendingworkloads")
            call = Call("GET", path, {"limit": str(FIRST_PLACES)}, seconds=5.0)
            try:
                answer = _Answer.model_validate(await self._client.read("get", resource, call))
            except (ApiError, ValidationError):
                continue
            places = {each.metadata.name: each.position + 1 for each in answer.items or ()}
            return _Known(places, now + FRESH_SECONDS)
        return _Known({}, now + SILENT_SECONDS)
