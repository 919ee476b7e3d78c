"""The chart gives the controller what it uses and no more: read from the API server's own log.

The real controller, with the token of the chart's service account, leads a job to its end; the
test plays the job's pods. What the server was asked is compared with what the chart allows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from docs.reference.generate import CRDS
from tests.cluster.api import MERGE, Api, administrator
from tests.cluster.installed import Release, installed, rendered
from tests.cluster.language import RIGHT
from tests.plans import some_facts
from tests.testbed.clusters import Cluster
from tests.testbed.kuberay import CRDS as RAY_KINDS
from tests.testbed.parts import KUBERAY, build
from tunefleet.api.crd.resources import GROUP, KINDS, VERSION

Right = tuple[str, str, str]

# Asked only after a crash between a write and its reply: whose the object is that is there.
ON_A_BAD_DAY = {("get", "batch", "jobs"), ("get", "ray.io", "rayjobs")}
PROFILE = {
    "environment": {"HTTPS_PROXY": "http://proxy:3128"},
    "nodeSelector": {"pool": "l4"},
    "resources": {"memory": "8Gi"},
}


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[Api]:
    if cluster.bed is None:
        pytest.skip("the log of what a server was asked is the bed's; unset KUBECONFIG")
    build([KUBERAY], say=print)
    ray = KUBERAY.folder / "config" / "crd" / "bases"
    for folder in (CRDS, ray):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(folder))
    kinds = [*(kind.name for kind in KINDS), *RAY_KINDS]
    cluster.kubectl("wait", "--for=condition=Established", *(f"crd/{kind}" for kind in kinds))
    with administrator(cluster) as found:
        yield found


def test_the_chart_allows_what_the_controller_asks_for_and_nothing_else(
    cluster: Cluster, api: Api, namespace: str, tmp_path: Path
) -> None:
    options = (f"--set=onlyNamespace={namespace}", f"--set=jobNamespaces={{{namespace}}}")
    with installed(cluster, *options) as release:
        config = _kubeconfig(cluster, api, release, tmp_path)
        with _controller(config, release, namespace, tmp_path) as process:
            _lead_a_job_to_its_end(api, namespace, process)
        asked = _asked(cluster, release)
    refused = [right for right, code in asked if code == 403]
    assert refused == []
    used = {right for right, _ in asked}
    allowed = set(_allowed(*options))
    assert used <= allowed
    assert allowed - used <= ON_A_BAD_DAY


def _lead_a_job_to_its_end(api: Api, namespace: str, process: subprocess.Popen[bytes]) -> None:
    root = f"/apis/{GROUP}/{VERSION}"
    home = f"{root}/namespaces/{namespace}"
    profile = f"profile-of-{namespace}"
    made = [
        (f"{root}/computeprofiles", "ComputeProfile", profile, PROFILE),
        (f"{home}/finetunejobs", "FineTuneJob", "led", {**RIGHT, "profile": profile}),
    ]
    for where, kind, name, spec in made:
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        answer = api.call("POST", where, body)
        assert answer.code == 201, answer.message
    try:
        first = _until(process, lambda: _one(api, f"{home}/finetuneattempts", "-0"))
        job = _until(
            process, lambda: _one(api, f"/apis/batch/v1/namespaces/{namespace}/jobs", "-0")
        )
        _under_its_profile(job["spec"]["template"]["spec"], placed=False)
        facts = json.loads(some_facts().to_json())
        _report(api, home, first, facts=facts, run="run-0001", result={"phase": "Succeeded"})
        second = _until(process, lambda: _one(api, f"{home}/finetuneattempts", "-1"))
        rays = f"/apis/ray.io/v1/namespaces/{namespace}/rayjobs"
        ray = _until(process, lambda: _one(api, rays, "-1"))
        group = ray["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
        _under_its_profile(group["template"]["spec"], placed=True)
        assert second["spec"]["profile"]["nodeSelector"] == {"pool": "l4"}
        bundle = {"uri": "s3://bucket/models/bundle", "digest": "0" * 64}
        _report(api, home, second, result={"phase": "Succeeded", "bundle": bundle})
        _until(process, lambda: _finished(api, home))
    finally:
        api.call("DELETE", f"{root}/computeprofiles/{profile}")


def _under_its_profile(pod: Mapping[str, Any], *, placed: bool) -> None:
    container = pod["containers"][0]
    assert {"name": "HTTPS_PROXY", "value": "http://proxy:3128"} in container["env"]
    assert (pod.get("nodeSelector") == {"pool": "l4"}) is placed
    assert (container["resources"]["requests"]["memory"] == "8Gi") is placed


def _report(api: Api, home: str, attempt: Mapping[str, Any], **status: object) -> None:
    where = f"{home}/finetuneattempts/{attempt['metadata']['name']}/status"
    answer = api.call("PATCH", where, {"status": status}, MERGE)
    assert answer.code == 200, answer.message


def _one(api: Api, where: str, end: str) -> dict[str, Any] | None:
    found: Any = api.call("GET", where).body
    return next((each for each in found["items"] if each["metadata"]["name"].endswith(end)), None)


def _finished(api: Api, home: str) -> bool:
    found: Any = api.call("GET", f"{home}/finetunejobs/led").body
    return bool(found.get("status", {}).get("phase") == "Succeeded")


def _until(process: subprocess.Popen[bytes], look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 90
    while not (found := look()):
        assert process.poll() is None, "the controller has ended"
        assert time.monotonic() < deadline, "nothing happened for 90 s"
        time.sleep(0.3)
    return found


def _kubeconfig(cluster: Cluster, api: Api, release: Release, folder: Path) -> Path:
    """A way in with the token of the chart's service account."""
    account = release.controller.rpartition(":")[2]
    where = f"/api/v1/namespaces/{release.namespace}/serviceaccounts/{account}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer: Any = api.call("POST", where, request)
    assert answer.code == 201, answer.message
    view = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    view["users"][0]["user"] = {"token": answer.body["status"]["token"]}
    path = folder / "kubeconfig"
    path.write_text(json.dumps(view), encoding="utf-8")
    return path


class _controller:
    """The controller's process, which ends with the block."""

    def __init__(self, config: Path, release: Release, namespace: str, folder: Path) -> None:
        self._command = [
            *(sys.executable, "-m", "tunefleet.controller"),
            f"--kubeconfig={config}",
            "--image=tunefleet-runtime:test",
            f"--namespace={namespace}",
            f"--lease-namespace={release.namespace}",
            "--port=0",
        ]
        self._log = folder / "controller.log"

    def __enter__(self) -> subprocess.Popen[bytes]:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        print(self._log.read_text(encoding="utf-8"))


def _asked(cluster: Cluster, release: Release) -> list[tuple[Right, int]]:
    """Everything the controller asked the server for, and the answer's code."""
    assert cluster.bed is not None
    time.sleep(2)  # the server writes its log in batches
    found = []
    for line in cluster.bed.audit.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        what = event.get("objectRef")
        if event["user"]["username"] != release.controller or what is None:
            continue
        resource = "/".join(filter(None, (what["resource"], what.get("subresource"))))
        right = (event["verb"], what.get("apiGroup", ""), resource)
        found.append((right, event.get("responseStatus", {}).get("code", 0)))
    return found


def _allowed(*options: str) -> Iterator[Right]:
    """Every right of the controller's roles."""
    for manifest in YAML(typ="safe").load_all(rendered(*options)):
        name = manifest["metadata"]["name"] if manifest else ""
        if not manifest or "rules" not in manifest or "-controller" not in name:
            continue
        for rule in manifest["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    yield from ((verb, group, resource) for verb in rule["verbs"])
