"""What a real kubelet keeps of a pod's words, by a user's command: while they come, and later."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cluster.commands import Home, Later, condition, define
from tests.testbed.clusters import Cluster
from tests.testbed.ray_job import LIMITS, STRICT
from tunefleet.render.names import labels
from tunefleet.verbs.cluster import logs
from tunefleet.verbs.cluster.connect import Cluster as Connected
from tunefleet.verbs.cluster.connect import Where, on

PAUSE = 4
_SPEAK = f"""
import time
print("step 1", flush=True)
time.sleep({PAUSE})
print("step 2 " + "x" * 70_000 + " end", flush=True)
"""
JOB = {
    "apiVersion": "tunefleet.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "reviews"},
    "spec": {
        "task": "text-classification",
        "model": {"name": "google-bert/bert-base-uncased"},
        "data": {"train": {"uri": "s3://bucket/rows.csv"}},
        "checkpoints": {"uri": "s3://bucket/models"},
    },
}


def test_a_driver_is_heard_as_it_speaks_and_afterwards(
    cluster: Cluster,
    namespace: str,
    runtime_image: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    define(cluster)
    home = Home(cluster, namespace, capsys, tmp_path)
    cluster.apply(JOB, namespace=namespace)
    home.say("ftj", "reviews", phase="Running", conditions=[])
    attempt = home.make_attempt("reviews", 1)
    cluster.apply(_driver(attempt, runtime_image), namespace=namespace)
    heard: list[tuple[str, str, float]] = []

    async def follow(connected: Connected) -> None:
        def say(who: str, line: str) -> None:
            heard.append((who, line, time.monotonic()))

        await logs.follow(connected, "reviews", say, every=0.5)

    def end() -> None:
        pod = ("pod", f"{attempt}-head", "-n", namespace)
        cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", *pod, "--timeout=60s")
        told = [condition("Succeeded", "True", "Finished")]
        home.say("ftj", "reviews", phase="Succeeded", message="finished", conditions=told)

    with Later(end):
        on(Where(cluster.kubeconfig, namespace), follow)
    spoken = [(line, moment) for who, line, moment in heard if who == "driver"]
    assert [line[:6] for line, _ in spoken] == ["step 1", "step 2"]
    assert spoken[1][0].endswith(" end")
    assert len(spoken[1][0]) > 70_000
    assert spoken[1][1] - spoken[0][1] > PAUSE / 2
    assert heard[-1][:2] == ("tunefleet", "reviews: Succeeded: finished")
    whole = home.tunefleet("logs", "reviews", "--attempt", "1").out.splitlines()
    assert whole == [f"[driver] {line}" for line, _ in spoken]


def _driver(attempt: str, image: str) -> dict[str, object]:
    container = {
        "name": "ray-job-submitter",
        "image": image,
        "command": ["python", "-c", _SPEAK],
        "securityContext": LIMITS,
    }
    own = {**labels("reviews", attempt), "ray.io/node-type": "head"}
    metadata = {"name": f"{attempt}-head", "labels": own}
    spec = {"restartPolicy": "Never", "securityContext": STRICT, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
