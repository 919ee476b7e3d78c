"""A cluster of a few objects, behind the client's own verbs."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast

from tunefleet.kube.client import Client, Page
from tunefleet.kube.errors import ApiError
from tunefleet.kube.resources import Document, Manifest, Resource
from tunefleet.render.names import labels
from tunefleet.verbs.cluster.connect import Cluster

NAMESPACE = "research"
UID = "7f3a90c1-aaaa"
BEGAN = "2026-11-01T10:00:00Z"


class FakeClient:
    """Objects by kind and name; remembers every write."""

    server = "https://cluster.test"
    namespace = NAMESPACE

    def __init__(self, *objects: tuple[str, Mapping[str, Any]]) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {
            (plural, body["metadata"]["name"]): dict(body) for plural, body in objects
        }
        self.written: list[tuple[str, str, Manifest]] = []
        self.texts: dict[tuple[str, str], list[str]] = {}
        self.fails: list[ApiError] = []

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Document:
        self._fail()
        found = self.objects.get((resource.plural, name))
        if found is None:
            text = f'{resource.plural} "{name}" not found'
            raise ApiError(404, "NotFound", text, {"name": name})
        return copy.deepcopy(found)

    async def list_pages(
        self, resource: Resource, namespace: str | None = None, *, labels: str = ""
    ) -> AsyncGenerator[Page, None]:
        self._fail()
        wanted = dict([labels.split("=")]) if labels else {}
        found = [
            json.dumps(body).encode()
            for (plural, _), body in self.objects.items()
            if plural == resource.plural
            and wanted.items() <= body["metadata"].get("labels", {}).items()
        ]
        yield Page("1", found)

    async def patch(
        self, resource: Resource, namespace: str | None, name: str, body: Manifest
    ) -> Document:
        self._fail()
        self.written.append(("patch", name, body))
        found = self.objects[resource.plural, name]
        found["spec"].update(cast("dict[str, Any]", body["spec"]))
        return found

    async def apply(
        self, resource: Resource, namespace: str | None, name: str, body: Manifest, *, manager: str
    ) -> Document:
        self._fail()
        self.written.append((f"apply as {manager} in {namespace}", name, body))
        known = self.objects.get((resource.plural, name))
        spec = cast("dict[str, Any]", body["spec"])
        generation = 1 if known is None else known["metadata"]["generation"]
        if known is not None and known["spec"] != spec:
            generation += 1
        uid = known["metadata"]["uid"] if known else UID
        metadata = {"name": name, "uid": uid, "generation": generation, "resourceVersion": "2"}
        self.objects[resource.plural, name] = {"metadata": metadata, "spec": spec}
        return copy.deepcopy(self.objects[resource.plural, name])

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str
    ) -> None:
        self._fail()
        self.written.append(("delete", name, {"uid": uid}))
        del self.objects[resource.plural, name]

    async def log_lines(
        self, namespace: str, pod: str, container: str, *, follow: bool = False
    ) -> AsyncGenerator[str, None]:
        if (pod, container) not in self.texts:
            raise ApiError(400, "BadRequest", f"container {container} is waiting to start")
        for line in self.texts[pod, container]:
            yield line

    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def _fail(self) -> None:
        if self.fails:
            raise self.fails.pop(0)


def cluster(client: FakeClient) -> Cluster:
    return Cluster(cast("Client", client), NAMESPACE)


def job(name: str = "reviews", uid: str = UID, /, **status: object) -> tuple[str, dict[str, Any]]:
    body = {
        "apiVersion": "tunefleet.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": metadata(name, uid) | {"generation": 1, "creationTimestamp": BEGAN},
        "spec": {"checkpoints": {"uri": "s3://models/runs"}},
        **({"status": status} if status else {}),
    }
    return "finetunejobs", body


def condition(kind: str, status: str, reason: str) -> dict[str, object]:
    return {"type": kind, "status": status, "reason": reason, "lastTransitionTime": BEGAN}


def attempt(number: int, owner: str = UID, **status: object) -> tuple[str, dict[str, Any]]:
    name = f"reviews-7f3a9-{number}"
    stage = "Train" if number else "Prepare"
    own = metadata(name, f"uid-{number}")
    body = {
        "metadata": own
        | {
            "labels": labels("reviews", name),
            "ownerReferences": [{"uid": owner, "controller": True}],
            "creationTimestamp": f"2026-11-01T10:0{number}:00Z",
        },
        "spec": {"number": number, "stage": stage},
        "status": status,
    }
    return "finetuneattempts", body


def pod(
    name: str, attempt: str, containers: tuple[str, ...], node: str = "", phase: str = "Running"
) -> tuple[str, dict[str, Any]]:
    kind = {"ray.io/node-type": node} if node else {}
    body = {
        "metadata": metadata(name, f"uid-{name}") | {"labels": labels("reviews", attempt) | kind},
        "spec": {"containers": [{"name": container} for container in containers]},
        "status": {"phase": phase},
    }
    return "pods", body


def metadata(name: str, uid: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "uid": uid, "resourceVersion": "1"}
