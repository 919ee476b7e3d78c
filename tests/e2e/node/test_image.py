"""The runtime image where it has to work: in pods that KubeRay makes, under the strict rules."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.e2e.node.pods import run_pod
from tests.testbed.clusters import Cluster
from tests.testbed.ray_job import GOOD_LIFE, ray_job


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
    cluster.apply(ray_job("pair", runtime_image, "K8sJobMode"), namespace=namespace)
    get = ("get", "rayjob", "pair", "--namespace", namespace, "--output=json")
    life: list[str] = []
    deadline = time.monotonic() + 270
    while not life or life[-1] not in ("Complete", "Failed"):
        status = json.loads(cluster.kubectl(*get)).get("status", {})
        stage = status.get("jobDeploymentStatus")
        if stage and stage not in life:
            life.append(stage)
        assert time.monotonic() < deadline, cluster.kubectl("events", "--namespace", namespace)
        time.sleep(0.3)
    assert (life, status["jobStatus"]) == (GOOD_LIFE, "SUCCEEDED"), status
