"""The chart gives the controller what it uses and no more: read from the API server's own log.

The real controller, with the token of the chart's service account, looks after jobs; the test
plays their user and their pods. What the server was asked is compared with what the chart allows.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from ruamel.yaml import YAML

from docs.reference.generate import CRDS
from tests.cluster import kueue
from tests.cluster.api import MERGE, Api, administrator
from tests.cluster.installed import Release, installed, rendered
from tests.cluster.language import RIGHT
from tests.plans import some_facts
from tests.testbed.clusters import Cluster
from tests.testbed.kuberay import CRDS as RAY_KINDS
from tests.testbed.parts import KUBERAY, build
from tunefleet.api.crd.resources import GROUP, KINDS, VERSION
from tunefleet.controller.kinds import WORKLOADS
from tunefleet.render.names import QUEUE_LABEL

ROOT = f"/apis/{GROUP}/{VERSION}"
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
    with kueue.installed(cluster), administrator(cluster) as found:
        yield found


def test_the_chart_allows_what_the_controller_asks_for_and_nothing_else(
    cluster: Cluster, api: Api, namespace: str, tmp_path: Path
) -> None:
    option = f"--set=onlyNamespace={namespace}"
    with installed(cluster, option) as release:
        config = _kubeconfig(cluster, api, release, tmp_path)
        with _controller(config, release, namespace, tmp_path) as process:
            play = Play(api, namespace, process)
            with play.a_profile():
                play.a_job_that_is_told_to_save_and_ends_well()
                play.a_job_that_is_suspended_before_it_trains()
                play.a_job_that_is_cancelled_while_it_prepares()
                play.a_job_that_waits_in_a_queue()
        asked = _asked(cluster, release)
    refused = [right for right, code in asked if code == 403]
    assert refused == []
    used = {right for right, _ in asked}
    allowed = set(_allowed(option))
    assert used <= allowed
    assert allowed - used <= ON_A_BAD_DAY


@dataclass(frozen=True, slots=True)
class Play:
    """The part of a user and of the pods, in lives that ask for everything a controller does."""

    api: Api
    namespace: str
    process: subprocess.Popen[bytes]

    @property
    def profile(self) -> str:
        return f"profile-of-{self.namespace}"

    @contextlib.contextmanager
    def a_profile(self) -> Iterator[None]:
        where = f"{ROOT}/computeprofiles"
        self._make(where, "ComputeProfile", self.profile, PROFILE)
        try:
            yield
        finally:
            self.api.call("DELETE", f"{where}/{self.profile}")

    def a_job_that_is_told_to_save_and_ends_well(self) -> None:
        self._job("led")
        second, ray = self._prepared("led")
        group = ray["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
        _under_its_profile(group["template"]["spec"], placed=True)
        assert second["spec"]["profile"]["nodeSelector"] == {"pool": "l4"}
        progress = {
            **{"phase": "Running", "step": 1, "totalSteps": 9, "epoch": 0.1, "epochs": 1},
            "workers": 1,
        }
        self._report(second, progress=progress)
        self._until(lambda: self._phase("led") == "Running")
        self._wish("led", suspend=True)
        name = second["metadata"]["name"]
        self._until(lambda: self._command(name) == "CheckpointAndStop")
        bundle = {"uri": "s3://bucket/models/bundle", "digest": "0" * 64}
        self._report(second, result={"phase": "Succeeded", "bundle": bundle})
        self._until(lambda: self._phase("led") == "Succeeded")

    def a_job_that_is_suspended_before_it_trains(self) -> None:
        self._job("waiting")
        self._prepared("waiting")
        self._wish("waiting", suspend=True)
        self._until(lambda: self._phase("waiting") == "Suspended")
        self._until(lambda: self._one(self._rays, "waiting") is None)

    def a_job_that_is_cancelled_while_it_prepares(self) -> None:
        self._job("dropped")
        self._until(lambda: self._one(self._jobs, "dropped"))
        self._wish("dropped", cancel=True)
        self._until(lambda: self._phase("dropped") == "Stopped")

    def a_job_that_waits_in_a_queue(self) -> None:
        self._job("queued", {QUEUE_LABEL: "gpu"})
        _, ray = self._prepared("queued")
        name = ray["metadata"]["name"]
        suspended = self.api.call(
            "PATCH", f"{self._rays}/{name}", {"spec": {"suspend": True}}, MERGE
        )
        assert suspended.code == 200, suspended.message
        where = f"/apis/{WORKLOADS.api_version}/namespaces/{self.namespace}/{WORKLOADS.plural}"
        body = kueue.workload(WORKLOADS, ray["metadata"])
        answer = self.api.call("POST", where, body)
        assert answer.code == 201, answer.message
        status = {"status": kueue.said({"QuotaReserved": ("False", "Pending", kueue.CROWDED)})}
        where = f"{where}/{kueue.name_of(name)}/status"
        answer = self.api.call("PATCH", where, status, MERGE)
        assert answer.code == 200, answer.message
        self._until(lambda: kueue.CROWDED in self._status("queued").get("message", ""))

    @property
    def _home(self) -> str:
        return f"{ROOT}/namespaces/{self.namespace}"

    @property
    def _rays(self) -> str:
        return f"/apis/ray.io/v1/namespaces/{self.namespace}/rayjobs"

    @property
    def _jobs(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    def _job(self, name: str, labels: Mapping[str, str] = MappingProxyType({})) -> None:
        spec = {**RIGHT, "profile": self.profile}
        self._make(f"{self._home}/finetunejobs", "FineTuneJob", name, spec, labels)

    def _make(
        self,
        where: str,
        kind: str,
        name: str,
        spec: Mapping[str, object],
        labels: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": kind,
            "metadata": {"name": name, "labels": dict(labels)},
            "spec": spec,
        }
        answer = self.api.call("POST", where, body)
        assert answer.code == 201, answer.message

    def _prepared(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The attempt and the RayJob that come once preparing has found out the facts."""
        attempts = f"{self._home}/finetuneattempts"
        first = self._until(lambda: self._one(attempts, name, "-0"))
        job = self._until(lambda: self._one(self._jobs, name, "-0"))
        _under_its_profile(job["spec"]["template"]["spec"], placed=False)
        facts = json.loads(some_facts().to_json())
        self._report(first, facts=facts, run="run-0001", result={"phase": "Succeeded"})
        second = self._until(lambda: self._one(attempts, name, "-1"))
        return second, self._until(lambda: self._one(self._rays, name, "-1"))

    def _report(self, attempt: Mapping[str, Any], **status: object) -> None:
        where = f"{self._home}/finetuneattempts/{attempt['metadata']['name']}/status"
        answer = self.api.call("PATCH", where, {"status": status}, MERGE)
        assert answer.code == 200, answer.message

    def _wish(self, name: str, **spec: bool) -> None:
        where = f"{self._home}/finetunejobs/{name}"
        answer = self.api.call("PATCH", where, {"spec": spec}, MERGE)
        assert answer.code == 200, answer.message

    def _one(self, where: str, name: str, end: str = "") -> dict[str, Any] | None:
        found: Any = self.api.call("GET", where).body
        # A kind that is new is answered with 429 until the server's cache of it is filled.
        names = {each["metadata"]["name"]: each for each in found.get("items", [])}
        return next(
            (names[key] for key in names if key.startswith(f"{name}-") and key.endswith(end)), None
        )

    def _phase(self, name: str) -> str:
        return str(self._status(name).get("phase"))

    def _status(self, name: str) -> dict[str, Any]:
        found: Any = self.api.call("GET", f"{self._home}/finetunejobs/{name}").body
        return dict(found.get("status", {}))

    def _command(self, name: str) -> str:
        found: Any = self.api.call("GET", f"{self._home}/finetuneattempts/{name}").body
        return str(found["spec"]["command"])

    def _until(self, look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 90
        while not (found := look()):
            assert self.process.poll() is None, "the controller has ended"
            assert time.monotonic() < deadline, "nothing happened for 90 s"
            time.sleep(0.3)
        return found


def _under_its_profile(pod: Mapping[str, Any], *, placed: bool) -> None:
    container = pod["containers"][0]
    assert {"name": "HTTPS_PROXY", "value": "http://proxy:3128"} in container["env"]
    assert (pod.get("nodeSelector") == {"pool": "l4"}) is placed
    assert (container["resources"]["requests"]["memory"] == "8Gi") is placed


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
            f"--lease-name={release.lease}",
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
