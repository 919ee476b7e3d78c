"""Who writes: one process at a time, by a Lease.

Decides when a candidate may take the Lease, until when its holder may write, and what is done
when it is lost. Durations are measured by monotonic clocks alone, and from before a request
was sent: a holder stops before anybody else can start, whatever the wall clocks say and
however long an answer takes. Imports this package.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, Field

from tunefleet.kube import metrics
from tunefleet.kube.access import Call
from tunefleet.kube.client import Client
from tunefleet.kube.errors import ApiError
from tunefleet.kube.resources import LEASES, Document

log = logging.getLogger("tunefleet.kube")

EXIT_CODE = 75
"""The process' exit code after a lost Lease: try again, as a standby."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a Lease holds, when its holder gives up renewing it, how often it is looked at.

    A successor starts at most ``lease`` + ``look`` seconds after the holder was killed.
    """

    lease: float = 15.0
    renew: float = 10.0
    look: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.look < self.renew < self.lease:
            raise ValueError(f"look < renew < lease is needed, not {self}")


class _Spec(BaseModel):
    holder: str | None = Field(None, alias="holderIdentity")
    duration: int | None = Field(None, alias="leaseDurationSeconds")
    renewed: str | None = Field(None, alias="renewTime")
    transitions: int = Field(0, alias="leaseTransitions")


class _Metadata(BaseModel):
    version: str = Field(alias="resourceVersion")


class _Lease(BaseModel):
    metadata: _Metadata
    spec: _Spec = _Spec()


def identity() -> str:
    """A name that no other process has: the host's (in a pod the pod's), and a random part."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}"


def leave() -> None:
    """End the process at once. What still runs here may write no more, and cannot be trusted
    to stop in time.
    """
    logging.shutdown()
    os._exit(EXIT_CODE)


class Election:
    """One candidate for one Lease.

    ``elected`` is set when it is won and never cleared: a lost Lease ends the process. Give
    :meth:`holds` to the client as a fence, and no write leaves after the time is up, even when
    the process was stopped in the meantime and does not know it yet.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        *,
        identity: str,
        terms: Terms | None = None,
        lost: Callable[[], None] = leave,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.elected = asyncio.Event()
        self.identity = identity
        self._client = client
        self._namespace = namespace
        self._name = name
        self._terms = terms or Terms()
        self._lost = lost
        self._clock = clock
        self._until = float("-inf")
        self._seen: tuple[str, float] | None = None

    def holds(self) -> bool:
        """Whether this process may write now."""
        return self._clock() < self._until

    async def run(self) -> None:
        """Seek the Lease, then keep it until cancelled."""
        while not await self._try():
            await asyncio.sleep(self._terms.look)
        log.info("%s leads", self.identity)
        metrics.LEADING.set(1)
        self.elected.set()
        while self.holds():
            await asyncio.sleep(min(self._terms.look, max(0.0, self._until - self._clock())))
            # Slept too long, it may not be taken back: somebody may have led meanwhile.
            if self.holds():
                await self._try()
        metrics.LEADING.set(0)
        log.error("%s no longer holds the lease, and may not write any more", self.identity)
        self._lost()

    async def release(self) -> None:
        """Give the Lease up, so that a successor need not wait until it has run out."""
        if not self.holds():
            return
        self._until = float("-inf")
        metrics.LEADING.set(0)
        try:
            lease = await self._read(self._terms.renew)
            if lease is not None and lease.spec.holder == self.identity:
                await self._write(lease, "", self._terms.renew)
        except ApiError as error:
            log.warning("the lease was not given up and has to run out: %s", error)

    async def _try(self) -> bool:
        """Take or renew the Lease if it is ours or nobody's."""
        began = self._clock()
        # An answer that takes longer than this comes too late to be of use.
        limit = self._terms.renew if self._until < began else max(0.1, self._until - began)
        try:
            async with asyncio.timeout(limit):
                lease = await self._read(limit)
                if lease is not None and not self._free(lease):
                    return False
                await self._write(lease, self.identity, limit)
        except (ApiError, TimeoutError) as error:
            if not (isinstance(error, ApiError) and (error.conflict or error.already_exists)):
                log.warning("the lease cannot be read or written: %s", error)
            return False
        self._until = began + self._terms.renew
        return True

    def _free(self, lease: _Lease) -> bool:
        if lease.spec.holder == self.identity or not lease.spec.holder:
            return True
        if self.elected.is_set():
            # Somebody else has it: what we believed to hold we do not.
            self._until = float("-inf")
            return False
        now = self._clock()
        if self._seen is None or self._seen[0] != lease.metadata.version:
            self._seen = (lease.metadata.version, now)
        # Its holder's own promise counts, which may be longer than ours.
        promised = max(float(lease.spec.duration or 0), self._terms.lease)
        return now - self._seen[1] > promised

    async def _read(self, seconds: float) -> _Lease | None:
        path = LEASES.path(self._namespace, self._name)
        try:
            said = await self._client.read("get", LEASES, Call("GET", path, {}, seconds=seconds))
        except ApiError as error:
            if error.not_found:
                return None
            raise
        return _Lease.model_validate(said)

    async def _write(self, lease: _Lease | None, holder: str, seconds: float) -> None:
        """Write past the token bucket: a Lease must not wait behind a burst of work."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: Document = {
            "holderIdentity": holder,
            "leaseDurationSeconds": math.ceil(self._terms.lease) if holder else 1,
            "renewTime": now,
        }
        metadata: Document = {"name": self._name, "namespace": self._namespace}
        if lease is None:
            spec |= {"acquireTime": now, "leaseTransitions": 0}
            body = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": metadata,
                "spec": spec,
            }
            call = Call("POST", LEASES.path(self._namespace), {}, body, seconds=seconds)
            await self._client.read("create", LEASES, call)
            return
        if holder and lease.spec.holder != holder:
            spec |= {"acquireTime": now, "leaseTransitions": lease.spec.transitions + 1}
        # With the version that was read: of two candidates that saw it free, one is refused.
        metadata["resourceVersion"] = lease.metadata.version
        call = Call(
            "PATCH",
            LEASES.path(self._namespace, self._name),
            {},
            {"metadata": metadata, "spec": spec},
            content_type="application/merge-patch+json",
            seconds=seconds,
        )
        await self._client.read("patch", LEASES, call)
