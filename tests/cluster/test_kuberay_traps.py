"""What the real operator does that we build around. When one of these fails, build anew."""

from __future__ import annotations

import time

import pytest

from tests.testbed.clusters import Cluster
from tests.testbed.ray_job import Mode, ray_job


@pytest.mark.parametrize(
    ("mode", "refused"),
    [
        pytest.param("SidecarMode", True, id="the submitter beside the head is refused"),
        pytest.param("K8sJobMode", False, id="a submitter with a template of its own is taken"),
    ],
)
def test_where_pods_are_held_to_the_restricted_standard(
    kuberay: Cluster, namespace: str, mode: Mode, refused: bool
) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    kuberay.kubectl("label", "namespace", namespace, label)
    kuberay.apply(ray_job("pair", "localhost/none:1", mode), namespace=namespace)
    deadline = time.monotonic() + 60
    while True:
        pods = kuberay.kubectl("get", "pods", "--namespace", namespace, "--output=name")
        events = kuberay.kubectl("events", "--namespace", namespace)
        violated = "violates PodSecurity" in events and "ray-job-submitter" in events
        if "-head-" in pods or violated:
            break
        assert time.monotonic() < deadline, events
        time.sleep(0.3)
    assert violated == refused, events
