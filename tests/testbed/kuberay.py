"""The real KubeRay operator, as its own manifests install it.

Decides where it runs: on a bed with a node as the Deployment it ships, with its own account and
rights; without a node as a process of this machine, outside the bed's namespace, so that a test
can be the dashboard it asks. Imports the bed's own modules.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from tests.testbed import images
from tests.testbed.bed import Bed
from tests.testbed.control_plane import apply, kubectl
from tests.testbed.parts import KUBERAY
from tests.testbed.processes import Processes, output, succeeds
from tests.testbed.s3 import free_ports

NAMESPACE = "ray-system"
PROCESS = "kuberay-operator"
_IMAGE = f"localhost/{PROCESS}"
_OFFERED_IMAGE = "quay.io/kuberay/operator"
CRDS = ("rayclusters.ray.io", "rayjobs.ray.io", "rayservices.ray.io")


def up(bed: Bed, *, say: Callable[[str], None]) -> None:
    """Install it, or bring it to this version; returns when it is ready."""
    processes = Processes(bed.run)
    if processes.pid("kubelet") is not None:
        processes.stop(PROCESS)  # of the time before the bed had a node: one is enough
        if not _is_deployed(bed):
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
            apply(bed, namespace)
            _deploy(bed)
        status = ("rollout", "status", f"deployment/{PROCESS}", "--timeout=180s")
        output(kubectl(bed, "--namespace", NAMESPACE, *status), seconds=200)
    elif processes.pid(PROCESS) is None:
        crds = output(kubectl(bed, "kustomize", KUBERAY.folder / "config" / "crd"))
        _apply_text(bed, crds)
        start_beside(bed)
    _wait_for_crds(bed)
    say("KubeRay operator")


def start_beside(bed: Bed) -> None:
    """Start it as a process of this machine, unless it runs."""
    metrics, probes = free_ports(2)
    command = [
        str(KUBERAY.path(PROCESS)),
        f"--kubeconfig={bed.kubeconfig}",
        "--enable-leader-election=false",
        f"--metrics-addr=127.0.0.1:{metrics}",
        f"--health-probe-bind-address=127.0.0.1:{probes}",
    ]
    processes = Processes(bed.run)
    if processes.pid(PROCESS) is None:
        processes.start(PROCESS, command)
        processes.wait(PROCESS, lambda: _healthy(probes), seconds=120)


def _is_deployed(bed: Bed) -> bool:
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    get = ("get", "deployment", PROCESS, "--ignore-not-found", "--output", image)
    return output(kubectl(bed, "--namespace", NAMESPACE, *get)) == f"{_IMAGE}:{_digest()}"


def _digest() -> str:
    return KUBERAY.folder.name.rsplit("-", 1)[1]


def _deploy(bed: Bed) -> None:
    digest = _digest()
    image = images.Small(f"{_IMAGE}:{digest}", {"manager": KUBERAY.path(PROCESS)}, {}, ["/manager"])
    if image.name not in images.present(bed):
        image.load(bed)
    folder = bed.run / "kuberay"
    folder.mkdir(parents=True, exist_ok=True)
    # Its share of a processor is made for a machine with more of them; its user has no number
    # in an image without a user.
    container = "/spec/template/spec/containers/0"
    patch = [
        {"op": "replace", "path": f"{container}/resources/limits/cpu", "value": "1"},
        {"op": "add", "path": "/spec/template/spec/securityContext/runAsUser", "value": 1000},
    ]
    kustomization = {
        "namespace": NAMESPACE,
        "resources": [os.path.relpath(KUBERAY.folder / "config" / "default", folder)],
        "images": [{"name": _OFFERED_IMAGE, "newName": _IMAGE, "newTag": digest}],
        "patches": [
            {"target": {"kind": "Deployment", "name": PROCESS}, "patch": json.dumps(patch)}
        ],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization))
    _apply_text(bed, output(kubectl(bed, "kustomize", folder)))


def _apply_text(bed: Bed, manifests: str) -> None:
    command = kubectl(bed, "apply", "--server-side", "--force-conflicts", "--filename", "-")
    output(command, stdin=manifests)


def _wait_for_crds(bed: Bed) -> None:
    names = [f"crd/{name}" for name in CRDS]
    output(kubectl(bed, "wait", "--for=condition=Established", "--timeout=60s", *names))


def _healthy(port: int) -> bool:
    address = f"http://127.0.0.1:{port}/healthz"
    probe = f"import urllib.request; urllib.request.urlopen('{address}', timeout=5)"
    return succeeds(["python3", "-c", probe])
