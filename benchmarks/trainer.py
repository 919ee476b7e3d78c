"""How fast Kubeflow's Trainer makes JobSets of TrainJobs, at its own settings.

What the burst of FineTuneJobs is beside: one object becomes one JobSet, without preparing, plan or
attempts of its own. JobSet's definition is there and its controller is not, so that nothing runs.
The Trainer's own webhooks are not called: they need a network that leads to pods.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.api_server import Server, served
from benchmarks.scale import Scale
from benchmarks.table import Row
from benchmarks.taken_up import rows, taken_up
from tests.testbed import parts
from tests.testbed.bed import BedError
from tests.testbed.clusters import Cluster
from tests.testbed.parts import KUBERNETES, TRAINER
from tests.testbed.processes import Processes
from tests.testbed.s3 import free_ports
from tunefleet.kube.resources import Resource

TRAIN_JOBS = Resource("trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob")
_PROCESS = "trainer-controller-manager"
_NAMESPACE = "kubeflow-system"
_SECRET = "kubeflow-trainer-webhook-cert"
_RUNTIME = "torch-distributed"
# Where it looks for its certificate, wherever it runs.
_MOUNTED = Path("/tmp/k8s-webhook-server/serving-certs")
# It waits until its certificate is in a webhook's configuration; this one is never called.
_UNCALLED = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "validator.trainer.kubeflow.org"},
    "webhooks": [
        {
            "name": "nothing.trainer.kubeflow.org",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [
                {
                    "apiGroups": ["nothing.trainer.kubeflow.org"],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["nothings"],
                }
            ],
        }
    ],
}


def measure(scale: Scale) -> Iterator[Row]:
    """Two rows: JobSets a second, and how long the slowest TrainJobs waited for theirs."""
    try:
        parts.build([TRAINER], say=lambda line: print(f"  trainer: {line}", flush=True))
    except BedError as error:
        print(f"  trainer: left out: {error}", flush=True)
        return
    with served("trainer") as server:
        if server is None:
            return
        server.without_controllers()
        with _trainer(server):
            taken_up(server, TRAIN_JOBS, _train_jobs(1), "first", "jobsets")
            jobs = _train_jobs(scale.burst)
            found = taken_up(server, TRAIN_JOBS, jobs, "train-jobs", "jobsets")
    yield from rows(
        f"Kubeflow Trainer's burst of {scale.burst:,} TrainJobs",
        found,
        of="TrainJob",
        what="JobSet",
        note="no webhooks, its defaults",
    )


def _train_jobs(count: int) -> list[str]:
    return [json.dumps(_train_job(number)) for number in range(count)]


def _train_job(number: int) -> dict[str, object]:
    return {
        "apiVersion": TRAIN_JOBS.api_version,
        "kind": TRAIN_JOBS.kind,
        "metadata": {"name": f"train-{number:05}"},
        "spec": {
            "runtimeRef": {"name": _RUNTIME},
            "trainer": {"numNodes": 2, "image": "registry.example/trainer:1"},
        },
    }


@contextmanager
def _trainer(server: Server) -> Iterator[None]:
    """Its definitions, its runtime for torch, and itself as a process in the bed's network."""
    cluster = Cluster(server.administrator, str(KUBERNETES.path("kubectl")), server.bed)
    theirs = parts.source_of(TRAINER, "github.com/kubeflow/trainer/v2") / "manifests" / "base"
    job_sets = parts.source_of(TRAINER, "sigs.k8s.io/jobset") / "config/components/crd/bases"
    kinds = [*sorted((theirs / "crds").glob("trainer.*.yaml")), job_sets]
    for each in kinds:
        cluster.kubectl("apply", "--server-side", "-f", str(each))
    server.namespace(_NAMESPACE)
    cluster.kubectl("create", "secret", "generic", _SECRET, f"--namespace={_NAMESPACE}")
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(_UNCALLED))
    for each in kinds:
        cluster.kubectl("wait", "--for=condition=Established", "-f", str(each))
    cluster.kubectl("apply", "-f", str(theirs / "runtimes" / "torch_distributed.yaml"))

    probes, webhooks = free_ports(2)
    processes = Processes(server.bed.run)
    processes.start(
        _PROCESS,
        [
            str(TRAINER.path(_PROCESS)),
            f"--kubeconfig={server.administrator}",
            f"--health-probe-bind-address=127.0.0.1:{probes}",
            f"--webhook-server-port={webhooks}",
        ],
    )
    try:
        processes.wait(_PROCESS, lambda: _has_certificate(cluster), seconds=60)
        yield
    finally:
        processes.stop(_PROCESS)
        shutil.rmtree(_MOUNTED, ignore_errors=True)


def _has_certificate(cluster: Cluster) -> bool:
    """Whether it has made its certificate; what a kubelet would mount is put into its folder."""
    said = cluster.kubectl("get", "secret", _SECRET, f"--namespace={_NAMESPACE}", "-o", "json")
    data: dict[str, str] = json.loads(said).get("data") or {}
    if "tls.crt" not in data:
        return False
    _MOUNTED.mkdir(parents=True, exist_ok=True)
    for name, value in data.items():
        (_MOUNTED / name).write_bytes(base64.b64decode(value))
    return True
