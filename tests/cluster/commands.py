"""Commands as a user gives them, on a cluster whose controller is played by the test.

Decides nothing: what a command wrote, what the server has, and what the controller would have said.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from docs.reference.generate import CRDS
from tests.testbed.clusters import Cluster
from tunefleet.api.crd.resources import KINDS
from tunefleet.cli.main import run_command
from tunefleet.render.names import labels

MOMENT = "2026-11-01T10:00:00Z"
_AS_JSON = ("-o", "json", "--show-managed-fields")

Objects = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Home:
    """A namespace, and commands that are meant for it."""

    cluster: Cluster
    namespace: str
    capsys: pytest.CaptureFixture[str]
    folder: Path

    def tunefleet(self, *arguments: str) -> Said:
        where = ["--kubeconfig", str(self.cluster.kubeconfig), "-n", self.namespace]
        self.capsys.readouterr()
        code = run_command([*arguments, *where])
        shown = self.capsys.readouterr()
        return Said(code, shown.out, shown.err)

    def get(self, kind: str, name: str) -> Objects:
        text = self.cluster.kubectl("get", kind, name, "-n", self.namespace, *_AS_JSON)
        found: Objects = json.loads(text)
        return found

    def say(self, kind: str, name: str, **status: object) -> None:
        """Write a status, as the controller or a pod would."""
        patch = json.dumps({"status": status})
        self.cluster.kubectl(
            *("patch", kind, name, "-n", self.namespace),
            *("--subresource=status", "--type=merge", "-p", patch),
        )

    def guest(self, role: str = "") -> Home:
        """The same namespace as somebody sees it who has one of the cluster's roles, or none."""
        view = self.cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o=json")
        config, name, where = json.loads(view), role or "nobody", f"--namespace={self.namespace}"
        self.cluster.kubectl("create", "serviceaccount", name, where)
        if role:
            account = f"--serviceaccount={self.namespace}:{name}"
            rights = f"--clusterrole={role}"
            self.cluster.kubectl("create", "rolebinding", name, rights, account, where)
        token = self.cluster.kubectl("create", "token", name, where).strip()
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(config))
        return replace(self, cluster=Cluster(path, self.cluster.program))

    def make_attempt(self, job: str, number: int) -> str:
        uid = self.get("ftj", job)["metadata"]["uid"]
        name = f"{job}-{uid[:5]}-{number}"
        owner = {
            "apiVersion": "tunefleet.dev/v1alpha1",
            "kind": "FineTuneJob",
            "name": job,
            "uid": uid,
            "controller": True,
        }
        stage = "Train" if number else "Prepare"
        body = {
            "apiVersion": "tunefleet.dev/v1alpha1",
            "kind": "FineTuneAttempt",
            "metadata": {"name": name, "labels": labels(job, name), "ownerReferences": [owner]},
            "spec": {"job": job, "owner": uid, "number": number, "stage": stage, "manifest": {}},
        }
        self.cluster.apply(body, namespace=self.namespace)
        return name


def condition(kind: str, status: str, reason: str) -> Objects:
    return {"type": kind, "status": status, "reason": reason, "lastTransitionTime": MOMENT}


def define(cluster: Cluster) -> None:
    """Have the cluster know the kinds."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    cluster.kubectl("wait", "--for=condition=Established", *(f"crd/{kind.name}" for kind in KINDS))


class Later:
    """Do something on a thread a moment later; what it raises is raised here."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        if self._failed:
            raise self._failed[0]

    def _run(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            time.sleep(0.5)
            try:
                self._work()
                return
            except RuntimeError as error:  # the job is not there yet
                if time.monotonic() > deadline:
                    self._failed.append(error)
                    return


def until(shown: Callable[[], Said], part: str) -> str:
    deadline = time.monotonic() + 60
    while True:
        said = shown()
        if part in said.out:
            return said.out
        assert time.monotonic() < deadline, said
        time.sleep(0.5)
