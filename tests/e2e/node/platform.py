"""The whole platform on a node: definitions, chart, a bucket, and a namespace with its keys.

Decides nothing of its own: what an administrator installs by hand is installed here by the same
files. The controller looks after one namespace alone, so that two tests never share one.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore

from docs.reference.generate import CRDS
from tests.cluster.installed import Release, installed
from tests.testbed import clusters
from tests.testbed.bed_s3 import BedS3, bed_s3
from tests.testbed.clusters import Cluster
from tests.tiny_models import tiny_bert

WORDS = ("wonderful", "dull", "charming", "terrible", "clever", "slow", "funny", "long")
BUCKET = "tunefleet-tests"


@dataclass(frozen=True, slots=True)
class Platform:
    """A namespace that is looked after, and the bucket its pods may use."""

    cluster: Cluster
    namespace: str
    s3: BedS3
    release: Release

    def apply(self, name: str, **spec: object) -> None:
        """Apply a small sentiment job; ``spec`` adds to it or replaces parts of it."""
        self.cluster.apply(
            {
                "apiVersion": "tunefleet.dev/v1alpha1",
                "kind": "FineTuneJob",
                "metadata": {"name": name},
                "spec": {
                    "task": "text-classification",
                    "model": {"uri": f"s3://{BUCKET}/model"},
                    "data": {
                        "train": {"uri": f"s3://{BUCKET}/rows/*.csv"},
                        "validation": {"fraction": 0.2},
                        "columns": {"text": "text", "label": "label"},
                    },
                    "training": {"maxSteps": 40, "batchSize": 16, "seed": 17},
                    "evaluation": {"every": 20},
                    "workers": {"count": 2, "resources": {"cpu": 0.2, "memory": "3Gi"}},
                    "checkpoints": {"uri": f"s3://{BUCKET}/runs", "every": 10},
                    "credentials": {"secretRefs": ["bucket"]},
                    **spec,
                },
            },
            namespace=self.namespace,
        )

    def patch(self, name: str, **spec: object) -> None:
        """Edit a job's spec, as ``kubectl patch`` does."""
        body = json.dumps({"spec": spec})
        self.kubectl("patch", "ftj", name, "--type=merge", f"--patch={body}")

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments)

    def job(self, name: str) -> dict[str, Any]:
        """A job as it stands."""
        found = json.loads(self.kubectl("get", "ftj", name, "--output=json"))
        assert isinstance(found, dict)
        return found

    def wait(
        self, name: str, until: Callable[[dict[str, Any]], bool], *, seconds: float
    ) -> dict[str, Any]:
        """The job's status once ``until`` holds of it."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.job(name).get("status", {})
            if until(status):
                assert isinstance(status, dict)
                return status
            if time.monotonic() > deadline or status.get("phase") == "Failed":
                raise AssertionError(f"{json.dumps(status, indent=1)}\n{self._evidence()}")
            time.sleep(1)

    def pods(self) -> list[str]:
        """Names of pods that have not ended."""
        running = "--field-selector=status.phase!=Succeeded,status.phase!=Failed"
        return self.kubectl("get", "pods", running, "--output=name").split()

    def _evidence(self) -> str:
        kinds = "finetuneattempts,rayjobs,jobs,pods"
        parts = [
            self.kubectl("get", kinds, "--output=wide"),
            self.kubectl("get", "events", "--sort-by=.lastTimestamp"),
            self.cluster.kubectl(
                "logs",
                f"--namespace={self.release.namespace}",
                "--selector=app.kubernetes.io/component=controller",
                "--tail=50",
            ),
        ]
        for pod in self.kubectl("get", "pods", "--output=name").split():
            with contextlib.suppress(Exception):
                log = self.kubectl("logs", pod, "--all-containers", "--tail=40")
                parts.append(f"--- {pod}\n{log}")
        return "\n".join(parts)


@contextlib.contextmanager
def platform(cluster: Cluster, say: Callable[[str], None], scratch: Path) -> Iterator[Platform]:
    """The platform for the duration of a block."""
    assert cluster.bed is not None, "a cluster of one's own needs a bucket of one's own"
    images = {
        target: clusters.ensure_image(cluster, target, say=say)
        for target in ("runtime", "controller")
    }
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    cluster.kubectl("wait", "--for=condition=Established", "-f", str(CRDS))
    with contextlib.ExitStack() as stack:
        s3 = stack.enter_context(bed_s3(cluster.bed, bucket=BUCKET))
        _fill(s3, scratch)
        namespace = stack.enter_context(cluster.namespace())
        label = "pod-security.kubernetes.io/enforce=restricted"
        cluster.kubectl("label", "namespace", namespace, label)
        secret = {"metadata": {"name": "bucket"}, "stringData": s3.environment_for_pods()}
        cluster.apply({"apiVersion": "v1", "kind": "Secret", **secret}, namespace=namespace)
        values = {
            "controller.image": images["controller"],
            "controller.pullPolicy": "Never",
            "controller.replicas": "1",
            "runtime.image": images["runtime"],
            "runtime.pullPolicy": "Never",
            "runtime.graceSeconds": "60",
            "onlyNamespace": namespace,
        }
        options = [part for name in values for part in ("--set", f"{name}={values[name]}")]
        release = stack.enter_context(installed(cluster, *options, "--wait"))
        yield Platform(cluster, namespace, s3, release)


def _fill(s3: BedS3, scratch: Path) -> None:
    client = s3.server.client()
    for path in sorted(tiny_bert(scratch / "model").iterdir()):
        obstore.put(client, f"model/{path.name}", path)
    for part in range(2):
        rows = "".join(
            f"a {WORDS[i % 8]} film number {part}-{i},{'good' if i % 2 == 0 else 'bad'}\n"
            for i in range(200)
        )
        obstore.put(client, f"rows/{part}.csv", f"text,label\n{rows}".encode())
