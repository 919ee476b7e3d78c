"""The writes of a job's life, as the product's own decisions make them, to be done by anybody.

Decides that a peer's writes are the controller's: they are recorded from ``decide`` in a world
without a server, with words in place of what differs from job to job, and done again for as
many jobs as are wanted. Imports the controller's pure parts through its tests' world.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from benchmarks.plain_client import Plain
from tests import rayjobs
from tests.plans import some_facts
from tests.unit.controller.world import World, a_cluster_job
from tunefleet.controller.kinds import ATTEMPTS, FINE_TUNE_JOBS, RAY_JOBS
from tunefleet.kube.resources import Resource

_JOB, _NAMESPACE = "xxjobxx", "xxnamespacexx"
UID, _SHORT = "uid10000", "uid10"
"""The uid that the world gives the job, and the part of it that attempts are called by."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write. ``makes`` is the uid that its object has in the record; "" for a status."""

    resource: Resource
    path: str
    body: str
    makes: str = ""


@dataclass(frozen=True, slots=True)
class Life:
    """A job and the writes of its life: until it is launched, or what is left where it runs."""

    job: Write
    launching: tuple[Write, ...]
    running: tuple[Write, ...]


@dataclass(slots=True)
class Replay:
    """A recorded life, done again for one job. ``uids`` are the server's, by the record's."""

    name: str
    namespace: str
    uids: dict[str, str]

    async def do(self, client: Plain, writes: tuple[Write, ...]) -> None:
        """Do these writes, one after the other."""
        for write in writes:
            body = self.worded(write.body)
            if write.makes:
                self.uids[write.makes] = await client.post(self.worded(write.path), body)
            else:
                await client.patch(self.worded(write.path), body)

    def worded(self, text: str) -> str:
        """A path or a body of the record in this job's words."""
        if UID in self.uids:
            text = text.replace(f"{_JOB}-{_SHORT}-", self.attempt(""))
        for recorded, uid in self.uids.items():
            text = text.replace(f'"{recorded}"', f'"{uid}"')
        return text.replace(_JOB, self.name).replace(_NAMESPACE, self.namespace)

    def attempt(self, number: str) -> str:
        """The name of an attempt."""
        return f"{self.name}-{self.uids[UID][:5]}-{number}"


@cache
def life() -> Life:
    """The record: from ``kubectl apply`` to a RayJob, and to one that runs and told progress."""
    values = a_cluster_job()
    values["metadata"] = {"name": _JOB, "namespace": _NAMESPACE}
    world = World()
    world.put("FineTuneJob", values)
    job = world.of("FineTuneJob")[0]
    job["metadata"]["namespace"] = _NAMESPACE
    assert job["metadata"]["uid"] == UID
    launching = [*_looks(world)]
    launching.append(_said(world, ATTEMPTS, 0, prepared()))
    launching += _looks(world)
    world.kuberay_starts()
    running = [
        *(write for write in launching if write.resource in (ATTEMPTS, RAY_JOBS)),
        _said(world, RAY_JOBS, 1, rayjobs.running()),
        _said(world, ATTEMPTS, 1, {"progress": progress(10)}),
        list(_looks(world))[-1],
    ]
    path = _created(FINE_TUNE_JOBS)
    first = Write(FINE_TUNE_JOBS, path, json.dumps(values), UID)
    return Life(first, tuple(launching), tuple(running))


def prepared() -> dict[str, object]:
    """What a pod says that has prepared a job."""
    facts = some_facts().model_dump(mode="json", by_alias=True, exclude_none=True)
    result = {"phase": "Succeeded", "message": "1,000 rows to train on"}
    return {"run": "run-0001", "facts": facts, "result": result}


def progress(step: int) -> dict[str, object]:
    """What a driver says of how far it is."""
    return {
        "phase": "Running",
        "step": step,
        "totalSteps": 100_000,
        "epoch": step / 100_000,
        "epochs": 1,
        "workers": 2,
        "checkpointStep": step,
    }


def ray_job() -> str:
    """A RayJob as ours are rendered, owned by nobody; its words are to be replaced."""
    (write,) = (write for write in life().launching if write.resource is RAY_JOBS)
    body = json.loads(write.body)
    del body["metadata"]["ownerReferences"]
    return json.dumps(body)


def _looks(world: World) -> Iterator[Write]:
    """The controller looks at the job until it has nothing more to write."""
    while writes := list(_look(world)):
        yield from writes


def _look(world: World) -> Iterator[Write]:
    before = world.of("FineTuneJob")[0].get("status")
    create = world.reconcile().create
    if create is not None:
        metadata = create.body["metadata"]
        assert isinstance(metadata, Mapping)
        made = world.objects[create.resource.kind, metadata["name"]]
        path = _created(create.resource)
        yield Write(create.resource, path, json.dumps(create.body), made["metadata"]["uid"])
    after = world.of("FineTuneJob")[0].get("status")
    if after != before:
        path = FINE_TUNE_JOBS.path(_NAMESPACE, _JOB, "status")
        yield Write(FINE_TUNE_JOBS, path, json.dumps({"status": after}))


def _said(world: World, resource: Resource, number: int, status: Mapping[str, object]) -> Write:
    """Somebody else says something in a status."""
    name = f"{_JOB}-{_SHORT}-{number}"
    world.touch((resource.kind, name), status)
    path = resource.path(_NAMESPACE, name, "status")
    return Write(resource, path, json.dumps({"status": status}))


def _created(resource: Resource) -> str:
    return resource.path(_NAMESPACE) + "?fieldValidation=Strict"
