"""ConfigMaps as a controller sees them, and a controller of them: the smallest there can be.

``python -m tests.cluster.kube_things KUBECONFIG NAMESPACE NAME`` runs it under a Lease: whenever
a ConfigMap asks for something, it answers, with its own name.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field

from tunefleet.kube.cache import Name
from tunefleet.kube.client import Client
from tunefleet.kube.election import Election
from tunefleet.kube.queue import WorkQueue
from tunefleet.kube.reflector import Reflector
from tunefleet.kube.resources import Resource
from tunefleet.kube.runtime import Runtime

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
LABELS = "test=kube"


class _Owner(BaseModel):
    uid: str
    controller: bool = False


class _Metadata(BaseModel):
    name: str
    namespace: str
    uid: str
    resource_version: str = Field(alias="resourceVersion")
    owners: list[_Owner] = Field([], alias="ownerReferences")


class Thing(BaseModel):
    """What is kept of a ConfigMap."""

    metadata: _Metadata
    data: dict[str, str] = {}

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def uid(self) -> str:
        return self.metadata.uid

    @property
    def resource_version(self) -> str:
        return self.metadata.resource_version

    @property
    def owner_uid(self) -> str | None:
        return next((owner.uid for owner in self.metadata.owners if owner.controller), None)

    def packed(self) -> bytes:
        return self.model_dump_json(by_alias=True).encode()

    @classmethod
    def unpacked(cls, body: bytes) -> Self:
        return cls.model_validate_json(body)


def thing(name: str, **data: str) -> dict[str, object]:
    """A ConfigMap that :class:`Thing` reads."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"test": "kube"}},
        "data": data,
    }


class Answering:
    """A controller that answers every ConfigMap's question."""

    def __init__(self, client: Client, namespace: str, name: str) -> None:
        self._client = client
        self._name = name
        self._queue: WorkQueue[Name] = WorkQueue()
        self._things = Reflector(
            client,
            CONFIG_MAPS,
            Thing.model_validate_json,
            namespace=namespace,
            labels=LABELS,
            changed=self._changed,
        )
        self.runtime = Runtime(
            [self._things], self._queue, self._reconcile, keys=lambda: iter(self._things.cache)
        )

    def _changed(self, old: Thing | None, new: Thing | None) -> None:
        if known := new or old:
            self._queue.add(Name(known.namespace, known.name))

    async def _reconcile(self, key: Name) -> float | None:
        found = self._things.cache.get(*key)
        if found is None or found.data.get("answered") == found.data.get("asked"):
            return None
        data = {"answered": found.data.get("asked"), "by": self._name}
        metadata = {"resourceVersion": found.resource_version}
        await self._client.patch(CONFIG_MAPS, *key, {"metadata": metadata, "data": data})
        return None


async def _main(kubeconfig: Path, namespace: str, name: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with await Client.connect(kubeconfig) as client:
        election = Election(client, namespace, "answering", identity=name)
        client.fence(election.holds)
        await Answering(client, namespace, name).runtime.run(stop, election)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(_main(Path(sys.argv[1]), *sys.argv[2:]))
