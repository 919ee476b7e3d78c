"""Nodes without machines: their kubelets are played, and fall silent when a test says so.

Decides what a kubelet does that is awake: it renews its node's Lease, starts the pods that the
real scheduler gives it, and ends those that are deleted. One that is silent does none of it;
what becomes of its node and of the pods there is the real controller manager's business. Every
node has room for one pod, so that a test knows which pods a node takes with it.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from tests.cluster.api import MERGE, Api, administrator
from tests.cluster.players import ended, started
from tests.testbed.clusters import Cluster

_NODES, _PODS = "/api/v1/nodes", "/api/v1/pods"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_ROOM = {"cpu": "16", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "1"}
_RENEW_SECONDS = 2.0
_PAUSE_SECONDS = 0.3
_KILLED = 137


class Nodes:
    """The nodes by name, and which of them are awake."""

    def __init__(self, api: Api, names: Sequence[str]) -> None:
        self._api = api
        self._names = tuple(names)
        self._awake = set(names)
        self._over = threading.Event()
        self._addresses = itertools.count()
        self._thread = threading.Thread(target=self._play)

    def fall_silent(self, name: str) -> None:
        """From now on, nothing is heard of a node."""
        self._awake.discard(name)

    def come_back(self, name: str) -> None:
        """Its kubelet is heard again, and ends what was to end meanwhile."""
        if self._api.call("GET", f"{_NODES}/{name}").code == 404:
            self.join(name)
            return
        self._tell(name)
        self._awake.add(name)

    def leave(self, name: str) -> None:
        """A silent node is taken out of the cluster, as clouds do with machines that are gone."""
        self._must(self._api.call("DELETE", f"{_NODES}/{name}").code)

    def join(self, name: str) -> None:
        """A node of that name comes into the cluster."""
        labels = {"kubernetes.io/hostname": name}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
        self._must(self._api.call("POST", _NODES, node).code)
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": _moment()},
        }
        self._must(self._api.call("POST", _LEASES, lease).code, 409)
        self._tell(name)
        self._awake.add(name)

    @contextlib.contextmanager
    def playing(self) -> Iterator[Nodes]:
        """In the cluster until the context ends."""
        for name in self._names:
            self.join(name)
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()

    # -- inside ------------------------------------------------------------------------

    def _play(self) -> None:
        renewed = 0.0
        while not self._over.wait(_PAUSE_SECONDS):
            if time.monotonic() - renewed > _RENEW_SECONDS:
                renewed = time.monotonic()
                for name in sorted(self._awake):
                    lease = {"spec": {"renewTime": _moment()}}
                    self._must(self._api.call("PATCH", f"{_LEASES}/{name}", lease, MERGE).code)
            answer = self._api.call("GET", _PODS)
            self._must(answer.code)
            for pod in cast("list[dict[str, Any]]", answer.body["items"]):
                if pod["spec"].get("nodeName") in self._awake:
                    self._look_after(pod)

    def _look_after(self, pod: dict[str, Any]) -> None:
        metadata, phase = pod["metadata"], pod["status"].get("phase", "Pending")
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        if "deletionTimestamp" not in metadata:
            if phase == "Pending":
                high, low = divmod(next(self._addresses), 250)
                self._say(path, started(pod, f"10.244.{100 + high}.{low + 2}"))
            return
        if phase == "Running" and "containerStatuses" in pod["status"]:
            self._say(path, ended(pod, _KILLED))
        at_once = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        self._must(self._api.call("DELETE", path, at_once).code, 404, 409)

    def _say(self, path: str, status: dict[str, object]) -> None:
        # Gone meanwhile, or changed by the controller manager: the next look will tell.
        patch = {"status": status}
        self._must(self._api.call("PATCH", f"{path}/status", patch, MERGE).code, 404, 409)

    def _tell(self, name: str) -> None:
        """What a kubelet says of its node."""
        now = _moment()
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "played",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        status = {"capacity": _ROOM, "allocatable": _ROOM, "conditions": [ready]}
        answer = self._api.call("PATCH", f"{_NODES}/{name}/status", {"status": status}, MERGE)
        self._must(answer.code)

    @staticmethod
    def _must(code: int, *also: int) -> None:
        assert code in (200, 201, 202, *also), code


@contextlib.contextmanager
def nodes(cluster: Cluster, count: int) -> Iterator[Nodes]:
    """So many nodes of a cluster that has no other."""
    names = [f"node-{number}" for number in range(1, count + 1)]
    with administrator(cluster) as api, Nodes(api, names).playing() as playing:
        yield playing


def _moment() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
