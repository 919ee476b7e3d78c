"""The runtime image where it has to work: in pods that KubeRay makes, under the strict rules."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.e2e.node.pods import LIMITS, STRICT, run_pod
from tests.testbed.clusters import Cluster


@pytest.mark.parametrize(
    ("start", "said"),
    [
        pytest.param({"args": ["--version"]}, "tunefleet ", id="it starts tunefleet"),
        pytest.param(
            {"command": ["/bin/bash", "-lc", "--", "command -v ray python tunefleet wget"]},
            "/opt/tunefleet/bin/ray\n/opt/tunefleet/bin/python\n"
            "/opt/tunefleet/bin/tunefleet\n/usr/bin/wget\n",
            id="a login shell, in which KubeRay starts everything, finds what is called there",
        ),
        pytest.param(
            {"command": ["/bin/sh", "-c", "touch ~/x /tmp/x && id -u && echo ~"]},
            "10001\n/var/lib/tunefleet\n",
            id="its user is nobody in particular and can write at home",
        ),
        pytest.param(
            {
                "command": [
                    "python",
                    "-c",
                    "import importlib.util as u; print(u.find_spec('kubernetes'))",
                ]
            },
            "None\n",
            id="it has no client of Kubernetes",
        ),
    ],
)
def test_in_a_restricted_pod(
    cluster: Cluster, namespace: str, runtime_image: str, start: dict[str, Any], said: str
) -> None:
    log = run_pod(cluster, namespace, runtime_image, start)
    assert log.startswith(said)


def test_a_ray_job_gets_its_head_and_two_workers_and_ends_well(
    cluster: Cluster, namespace: str, runtime_image: str
) -> None:
    """Without wget in the image no pod of it would ever be ready, and only events would say so."""
    cluster.apply(_ray_job(runtime_image), namespace=namespace)
    get = ("get", "rayjob", "pair", "--namespace", namespace, "--output=json")
    deadline = time.monotonic() + 270
    while True:
        status = json.loads(cluster.kubectl(*get)).get("status", {})
        if status.get("jobDeploymentStatus") in ("Complete", "Failed"):
            break
        assert time.monotonic() < deadline, cluster.kubectl("events", "--namespace", namespace)
        time.sleep(0.5)
    log = cluster.kubectl("logs", "--namespace", namespace, "--selector=job-name=pair", "--tail=-1")
    assert status["jobStatus"] == "SUCCEEDED", log
    assert "3 nodes, 2 processors" in log


_COUNT = (
    "import ray; ray.init(); "
    "print(len(ray.nodes()), 'nodes,', int(ray.cluster_resources()['CPU']), 'processors')"
)


def _ray_job(image: str) -> dict[str, object]:
    def pod(memory: str) -> dict[str, object]:
        resources = {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"memory": memory}}
        container = {
            "name": "ray",
            "image": image,
            "resources": resources,
            "securityContext": LIMITS,
        }
        return {"spec": {"containers": [container], "securityContext": STRICT}}

    submitter = pod("1Gi")
    submitter["spec"]["restartPolicy"] = "Never"  # type: ignore[index]
    workers = {
        "groupName": "workers",
        "replicas": 2,
        "minReplicas": 2,
        "maxReplicas": 2,
        "rayStartParams": {"num-cpus": "1"},
        "template": pod("2Gi"),
    }
    cluster = {
        "rayVersion": "2.60.0",
        "authOptions": {"mode": "token"},
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": pod("3Gi")},
        "workerGroupSpecs": [workers],
    }
    spec = {
        "entrypoint": f'python -c "{_COUNT}"',
        "shutdownAfterJobFinishes": True,
        "submitterPodTemplate": submitter,
        "rayClusterSpec": cluster,
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": "pair"},
        "spec": spec,
    }
