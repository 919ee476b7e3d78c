"""A pod of a test's own, run to its end under the strict rules of its namespace."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.testbed.clusters import Cluster
from tests.testbed.ray_job import LIMITS, STRICT

_PATIENCE = 120


def run_pod(
    cluster: Cluster,
    namespace: str,
    image: str,
    start: Mapping[str, object],
    environment: Mapping[str, str] | None = None,
) -> str:
    """What it printed; it has to end well. ``start`` is its command or its arguments."""
    container = {
        "name": "main",
        "image": image,
        "env": [{"name": name, "value": value} for name, value in (environment or {}).items()],
        "securityContext": LIMITS,
        **start,
    }
    spec = {"restartPolicy": "Never", "securityContext": STRICT, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    cluster.apply(pod, namespace=namespace)
    get = ("get", "pod", "pod", "--namespace", namespace)
    deadline = time.monotonic() + _PATIENCE
    while (phase := cluster.kubectl(*get, "--output=jsonpath={.status.phase}")) not in (
        "Succeeded",
        "Failed",
    ):
        assert time.monotonic() < deadline, cluster.kubectl(*get, "--output=yaml")
        time.sleep(0.3)
    log = cluster.kubectl("logs", "pod", "--namespace", namespace)
    assert phase == "Succeeded", log
    return log
