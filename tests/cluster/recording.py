"""The real KubeRay operator, led through the lives that tests play, and what it writes in them.

Decides at which status a player does what. ``python -m tests.cluster.recording`` writes
``tests/rayjobs.json`` anew, on the cluster that tests would take (it has to be a bed without a
node): after a new KubeRay, and then look at what is different.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from tests.cluster.api import MERGE, Api, administrator
from tests.cluster.players import Players, players
from tests.rayjobs import FIELDS, MOMENT, NAME, NAMESPACE, PATH, Life, Status
from tests.testbed import clusters
from tests.testbed.clusters import Cluster
from tests.testbed.parts import KUBERAY
from tests.unit.controller.world import World, a_cluster_job
from tunefleet.controller.kinds import RAY_JOBS

_SECONDS = 240
_PATIENCE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Stage:
    """Who plays around one RayJob."""

    players: Players
    api: Api
    namespace: str
    name: str

    def suspends(self, value: bool) -> None:
        """Somebody who queues it sets its flag."""
        path = RAY_JOBS.path(self.namespace, self.name)
        answer = self.api.call("PATCH", path, {"spec": {"suspend": value}}, MERGE)
        assert answer.code == 200, answer.message

    def loses_its_head(self) -> None:
        """The dashboard is gone, and whoever waited for it gives up."""
        self.players.mute(self.name)
        self.players.end_submitter(self.name, exit_code=1)


Act = Callable[[Stage], None]
_SAID = "Job entrypoint command failed with exit code 1, last available logs: no such file"
RUNS = ("Running", "RUNNING")


def _nothing(_: Stage) -> None:
    pass


# At which (jobDeploymentStatus, jobStatus) who does what; the last one is the end.
LIVES: Mapping[Life, list[tuple[tuple[str, str], Act]]] = {
    "ends well": [
        (RUNS, lambda stage: stage.players.end_driver(stage.name, "SUCCEEDED")),
        (
            ("Running", "SUCCEEDED"),
            lambda stage: stage.players.end_submitter(stage.name, exit_code=0),
        ),
        (("Complete", "SUCCEEDED"), _nothing),
    ],
    "fails": [
        (RUNS, lambda stage: stage.players.end_driver(stage.name, "FAILED", _SAID)),
        (
            ("Running", "FAILED"),
            lambda stage: stage.players.end_submitter(stage.name, exit_code=1),
        ),
        (("Failed", "FAILED"), _nothing),
    ],
    "loses its head": [
        (RUNS, Stage.loses_its_head),
        (("Failed", "RUNNING"), _nothing),
    ],
    "is suspended and goes on": [
        (RUNS, lambda stage: stage.suspends(True)),
        (("Suspended", ""), lambda stage: stage.suspends(False)),
        (RUNS, _nothing),
    ],
    "is refused": [(("ValidationFailed", ""), _nothing)],
}


def lived(cluster: Cluster, namespace: str, life: Life) -> list[Status]:
    """One RayJob's life; every status that the operator gives it, one after the other."""
    body = _ray_job(life)
    with administrator(cluster) as api, players(cluster, namespace) as playing:
        stage = Stage(playing, api, namespace, body["metadata"]["name"])
        acts = list(LIVES[life])
        seen: list[Status] = []
        for status in _statuses(stage, body):
            said = _normal(status, namespace)
            if not seen or said != seen[-1]:
                seen.append(said)
            at = (said.get("jobDeploymentStatus", ""), said.get("jobStatus", ""))
            if at == acts[0][0]:
                acts.pop(0)[1](stage)
            if not acts:
                return seen
    raise AssertionError(f"{acts[0][0]} did not come within {_SECONDS} s of {seen}")


def _statuses(stage: Stage, body: Mapping[str, object]) -> Iterator[Mapping[str, Any]]:
    """Every status of the RayJob, which is made as soon as somebody looks."""
    path = RAY_JOBS.path(stage.namespace)
    made = stage.api.call("POST", path, body)
    assert made.code == 201, made.message
    yield {}
    version = cast("Mapping[str, str]", made.body["metadata"])["resourceVersion"]
    query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(_SECONDS)}
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        with stage.api.client.stream("GET", path, params=query, timeout=_SECONDS) as reply:
            if reply.status_code == 200:
                for line in reply.iter_lines():
                    event = json.loads(line)
                    assert event["type"] != "ERROR", event["object"]
                    yield event["object"].get("status", {})
                return
            said = reply.read().decode()
        # A kind that was defined a moment ago is not watched yet. Nothing is missed meanwhile.
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


def _normal(status: Mapping[str, Any], namespace: str) -> Status:
    """The part of it that is compared."""
    kept = {name: str(status[name]) for name in FIELDS if status.get(name)}
    words = {"endTime": MOMENT, "rayClusterName": NAME}
    return {
        name: words.get(name, value.replace(namespace, NAMESPACE)) for name, value in kept.items()
    }


def _ray_job(life: Life) -> dict[str, Any]:
    """A RayJob as the controller makes it, of nobody's attempt."""
    world = World()
    world.put("FineTuneJob", a_cluster_job())
    while not world.of("RayJob"):
        world.reconcile()
        world.prepare_pod_ends()
    (made,) = world.of("RayJob")
    kept = {name: made["metadata"][name] for name in ("name", "labels", "annotations")}
    spec = dict(made["spec"])
    if life == "is refused":
        spec |= {"shutdownAfterJobFinishes": False, "suspend": True}
    return {**made, "metadata": kept, "spec": spec}


def _version() -> str:
    """The operator's, by the file that pins its module."""
    pinned = (KUBERAY.source / "go.mod").read_text(encoding="utf-8")
    found = re.search(rf"{re.escape(KUBERAY.package)} (v\S+)", pinned)
    assert found is not None, pinned
    return found[1]


def main() -> None:
    """Record every life."""
    lives: dict[Life, list[Status]] = {}
    with clusters.cluster(say=print) as cluster:
        clusters.ensure_kuberay(cluster, say=print)
        for life in LIVES:
            with cluster.namespace() as namespace:
                lives[life] = lived(cluster, namespace, life)
            print(f"{life}: {len(lives[life])} statuses")
    found = {"kuberay": _version(), "lives": lives}
    PATH.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
