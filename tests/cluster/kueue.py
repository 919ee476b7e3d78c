"""Kueue's part, as far as a job's user sees it: a Workload for each RayJob that waits.

Decides nothing: a definition of the kind as small as it can be, and the conditions that Kueue
writes. Kueue itself admits and evicts by ``suspend``, which the players do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.testbed.clusters import Cluster
from tunefleet.controller.kinds import OLDER_WORKLOADS, RAY_JOBS, WORKLOADS
from tunefleet.kube.client import Client
from tunefleet.kube.resources import Resource

NAME = f"{WORKLOADS.plural}.{WORKLOADS.group}"
CROWDED = "couldn't assign flavors to pod set workers: insufficient unused quota, 2 more needed"
OUTRANKED = "Preempted to accommodate a workload due to prioritization in the ClusterQueue"

_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def definition(*served: Resource) -> dict[str, object]:
    """The kind under these versions, the last of which is stored."""
    fields = {"spec": _OPEN, "status": _OPEN}
    versions = [
        {
            "name": each.version,
            "served": True,
            "storage": each == served[-1],
            "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": fields}},
        }
        for each in served
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": NAME,
            "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in for tests"},
        },
        "spec": {
            "group": WORKLOADS.group,
            "names": {
                "kind": WORKLOADS.kind,
                "listKind": f"{WORKLOADS.kind}List",
                "plural": WORKLOADS.plural,
                "singular": "workload",
            },
            "scope": "Namespaced",
            "versions": versions,
        },
    }


@contextlib.contextmanager
def installed(cluster: Cluster, *served: Resource) -> Iterator[None]:
    """A cluster that has the kind (by default as a recent Kueue serves it)."""
    cluster.apply(definition(*(served or (OLDER_WORKLOADS, WORKLOADS))))
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{NAME}")
    try:
        yield
    finally:
        cluster.kubectl("delete", "crd", NAME, "--wait=true")


@dataclass(frozen=True, slots=True)
class Kueue:
    """The one who queues in a namespace. ``client`` is an administrator's."""

    client: Client
    namespace: str
    resource: Resource = WORKLOADS

    async def queues(self, ray_job: str, why: str = CROWDED) -> None:
        """Take a RayJob in, and find no quota for it."""
        found = await self.client.get(RAY_JOBS, self.namespace, ray_job)
        metadata = found["metadata"]
        assert isinstance(metadata, dict)
        body = workload(self.resource, metadata)
        await self.client.create(self.resource, self.namespace, body)
        await self._say(ray_job, {"QuotaReserved": ("False", "Pending", why)})

    async def admits(self, ray_job: str) -> None:
        """Find a place for it; that it may run is said by ``suspend``."""
        quota = ("True", "QuotaReserved", "Quota reserved in ClusterQueue gpu")
        admitted = ("True", "Admitted", "The workload is admitted")
        await self._say(ray_job, {"QuotaReserved": quota, "Admitted": admitted})

    async def evicts(self, ray_job: str, why: str = OUTRANKED) -> None:
        """Take its place for another."""
        lost = ("False", "Pending", why)
        evicted = ("True", "Preempted", why)
        told = {"QuotaReserved": lost, "Admitted": lost, "Evicted": evicted}
        await self._say(ray_job, told)

    async def _say(self, ray_job: str, told: Mapping[str, tuple[str, str, str]]) -> None:
        name, body = name_of(ray_job), {"status": said(told)}
        await self.client.patch(self.resource, self.namespace, name, body, sub="status")


def name_of(ray_job: str) -> str:
    """What a RayJob's Workload is called."""
    return f"rayjob-{ray_job}-0a1b2"


def workload(resource: Resource, ray_job: Mapping[str, object]) -> dict[str, object]:
    """The Workload of a RayJob, whose metadata is given."""
    owner = {
        "apiVersion": RAY_JOBS.api_version,
        "kind": RAY_JOBS.kind,
        "name": ray_job["name"],
        "uid": ray_job["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": name_of(str(ray_job["name"])),
            "labels": {"kueue.x-k8s.io/job-uid": ray_job["uid"]},
            "ownerReferences": [owner],
        },
        "spec": {"queueName": "gpu", "active": True},
    }


def said(told: Mapping[str, tuple[str, str, str]]) -> dict[str, object]:
    """A status of these conditions: type → status, reason, message."""
    conditions = [
        {"type": kind, "status": status, "reason": reason, "message": message}
        for kind, (status, reason, message) in told.items()
    ]
    return {"conditions": conditions}
