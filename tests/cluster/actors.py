"""Those who act beside the controller, played on a real API server where no pod runs.

Decides nothing: the prepare pod's word and the driver's are written as they write them, and
KubeRay's as they were recorded from it (``tests.rayjobs``). RayJobs of these tests are marked as
another manager's (``managedBy``), so that a KubeRay operator on the same server leaves them to us.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests import rayjobs
from tests.plans import some_facts
from tunefleet.controller.kinds import ATTEMPTS, PREPARE_JOBS, RAY_JOBS
from tunefleet.kube.client import Client
from tunefleet.kube.errors import ApiError
from tunefleet.kube.resources import Manifest, Resource
from tunefleet.render.names import JOB_LABEL, QUEUE_LABEL

BUNDLE = {"uri": "s3://models/runs/bundle/0123", "digest": "sha256:0123"}
_ENDED_WELL: tuple[rayjobs.Life, str] = ("ends well", "Complete")
_FAILED: tuple[rayjobs.Life, str] = ("fails", "Failed")


def moment() -> str:
    """Now, as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Killed(BaseException):
    """The controller is killed here: nothing of it runs any more, not even a handler."""


class MortalClient(Client):
    """A client whose process is killed before a write, or after it and before its reply."""

    before: int | None = None
    after: int | None = None
    writes: list[str]

    def count(self, before: int | None = None, after: int | None = None) -> None:
        """Begin to count; writes are numbered from 0."""
        self.before, self.after = before, after
        self.writes = []

    async def create(
        self, resource: Resource, namespace: str | None, body: Manifest
    ) -> dict[str, object]:
        """Make an object; a RayJob of another manager's, and suspended where it names a queue."""
        if resource.kind == "RayJob":
            made = json.loads(json.dumps(body))
            made["spec"]["managedBy"] = "kueue.x-k8s.io/multikueue"
            # Kueue's webhook does so when the object is made.
            made["spec"]["suspend"] = QUEUE_LABEL in made["metadata"].get("labels", {})
            body = made
        return await super().create(resource, namespace, body)

    async def write(self, verb: str, resource: Resource, call: Any) -> dict[str, object]:
        """A write, unless the process does not live to see it."""
        number = len(self.writes)
        if number == self.before:
            self.before = None
            raise Killed
        self.writes.append(f"{verb} {resource.kind}")
        found = await super().write(verb, resource, call)
        if number == self.after:
            self.after = None
            raise Killed
        return found


async def everything(client: Client, resource: Resource, namespace: str) -> list[dict[str, Any]]:
    """All objects of a kind in a namespace; none of a kind that is not installed (yet)."""
    found: list[dict[str, Any]] = []
    try:
        async for page in client.list_pages(resource, namespace):
            found += [json.loads(item) for item in page.items]
    except ApiError as error:
        if not error.not_found:
            raise
    return found


@dataclass
class Players:
    """Prepare pod, KubeRay and driver of one namespace. ``client`` is an administrator's.

    While ``failing``, the next attempt that has told a step fails, and ends that.
    """

    client: Client
    namespace: str
    steps: dict[str, int] = field(default_factory=dict)
    failing: bool = False

    async def act(self) -> None:
        """Everybody does one thing, if there is one to do."""
        for attempt in await everything(self.client, ATTEMPTS, self.namespace):
            name = attempt["metadata"]["name"]
            if attempt.get("status", {}).get("result"):
                continue
            if attempt["spec"]["stage"] == "Prepare":
                await self._prepare(name)
            else:
                await self._train(name, attempt["spec"].get("command", "None"))

    async def _prepare(self, name: str) -> None:
        if name not in [
            job["metadata"]["name"]
            for job in await everything(self.client, PREPARE_JOBS, self.namespace)
        ]:
            return
        published = some_facts().model_dump(mode="json", by_alias=True, exclude_none=True)
        status = {
            "run": "run-0001",
            "facts": published,
            "result": {"phase": "Succeeded", "message": "1,000 rows to train on"},
        }
        await self.say(ATTEMPTS, name, status)

    async def _train(self, name: str, command: str) -> None:
        ours = [
            o
            for o in await everything(self.client, RAY_JOBS, self.namespace)
            if JOB_LABEL in o["metadata"].get("labels", {})
        ]
        found = [o for o in ours if o["metadata"]["name"] == name]
        if not found or found[0]["spec"].get("suspend"):
            return
        step = self.steps.get(name, 0)
        self.steps[name] = step + 1
        if step == 0:
            await self.say(RAY_JOBS, name, rayjobs.running())
        elif command == "CheckpointAndStop":
            await self._end(name, {"phase": "Stopped", "step": 10 * step})
        elif self.failing and step > 1:
            self.failing = False
            why = {"failure": "infrastructure", "message": "a worker was lost"}
            await self._end(name, {"phase": "Failed", "step": 10, **why})
        elif step < 4:
            progress = {
                "phase": "Running",
                "step": 10 * step,
                "totalSteps": 30,
                "epoch": 0.1,
                "epochs": 1,
                "workers": 2,
                "checkpointStep": 10 * step,
            }
            await self.say(ATTEMPTS, name, {"progress": progress})
        else:
            await self._end(name, {"phase": "Succeeded", "step": 30, "bundle": BUNDLE})

    async def admit(self, name: str) -> None:
        """Kueue lets a RayJob run, on nodes of a flavour."""
        template = {"spec": {"nodeSelector": {"pool": "spot"}}}
        ray_job = await self.client.get(RAY_JOBS, self.namespace, name)
        spec = json.loads(json.dumps(ray_job["spec"]))
        spec["suspend"] = False
        for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
            group["template"]["spec"] |= template["spec"]
        await self.client.patch(RAY_JOBS, self.namespace, name, {"spec": spec})

    async def evict(self, name: str) -> None:
        """Kueue takes a RayJob's nodes back: its pods save and go."""
        await self.client.patch(RAY_JOBS, self.namespace, name, {"spec": {"suspend": True}})
        step = 10 * max(0, self.steps.get(name, 0) - 1)
        await self.say(ATTEMPTS, name, {"result": {"phase": "Stopped", "step": step}})
        said = rayjobs.said("is suspended and goes on", "Suspended", moment())
        await self.say(RAY_JOBS, name, said)

    async def _end(self, name: str, result: Mapping[str, object]) -> None:
        await self.say(ATTEMPTS, name, {"result": result})
        ended = _FAILED if result["phase"] == "Failed" else _ENDED_WELL
        await self.say(RAY_JOBS, name, rayjobs.said(*ended, moment()))

    async def say(self, resource: Resource, name: str, status: Mapping[str, object]) -> None:
        """Write into an object's status; one that is gone is nobody's any more."""
        try:
            await self.client.patch(
                resource, self.namespace, name, {"status": dict(status)}, sub="status"
            )
        except ApiError as error:
            if not error.not_found:
                raise
