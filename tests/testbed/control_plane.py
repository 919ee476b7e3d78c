"""The control plane: etcd, API server, controller manager and scheduler, and the way in.

Decides their settings and the order in which they start. Each can be stopped and started alone
(:func:`start`), which is what tests of bad days do. Imports the bed's own modules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.testbed import certificates, network
from tests.testbed.bed import (
    API_PORT,
    CLUSTER_RANGE,
    NODE_ADDRESS,
    SERVICE_RANGE,
    Bed,
)
from tests.testbed.parts import ETCD, KUBERNETES
from tests.testbed.processes import Processes, output, succeeds

_ETCD_PORT = 2379
_ETCD_PEER_PORT = 2380
_SCHEDULER_PORT = 10259


def up(
    bed: Bed,
    *,
    settings: Mapping[str, Sequence[str]] | None = None,
    say: Callable[[str], None],
) -> None:
    """Start what does not run; returns when the API server serves and knows the namespaces.

    ``settings`` are flags of a server beside its own.
    """
    more = settings or {}
    network.make_namespace(bed)
    certificates.write_keys(bed.keys)
    start(bed, "etcd")
    start(bed, "apiserver", *more.get("apiserver", ()))
    port = network.api_port(bed)
    network.forward(bed, "forward-api", port=port, target=API_PORT)
    certificates.write_kubeconfig(bed.keys, "admin", bed.kubeconfig, port)
    wait_until_served(bed)
    say("API server")
    start(bed, "controllers", *more.get("controllers", ()))
    start(bed, "scheduler")
    processes = Processes(bed.run)
    account = kubectl(bed, "get", "serviceaccount", "default", "--namespace", "default")
    processes.wait("controllers", lambda: succeeds(account), seconds=120)
    processes.wait("scheduler", lambda: _listens(bed, _SCHEDULER_PORT), seconds=120)
    say("controller manager and scheduler")


def start(bed: Bed, server: str, *settings: str) -> None:
    """Start one server, if it does not run. ``settings`` are flags beside its own."""
    commands: dict[str, Callable[[Bed], Sequence[str | Path]]] = {
        "etcd": _etcd,
        "apiserver": _apiserver,
        "controllers": _controllers,
        "scheduler": _scheduler,
    }
    Processes(bed.run).start(server, bed.inside(*commands[server](bed), *settings))


def wait_until_served(bed: Bed) -> None:
    """Wait until the API server says that it is ready."""
    ready = kubectl(bed, "get", "--raw", "/readyz")
    Processes(bed.run).wait("apiserver", lambda: succeeds(ready), seconds=180)


def kubectl(bed: Bed, *arguments: str | Path) -> list[str]:
    """A kubectl command for the bed's administrator."""
    return [
        str(KUBERNETES.path("kubectl")),
        f"--kubeconfig={bed.kubeconfig}",
        *map(str, arguments),
    ]


def apply(bed: Bed, *documents: Mapping[str, object]) -> None:
    """Apply objects on the server's side."""
    items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    command = kubectl(
        bed, "apply", "--server-side", "--force-conflicts", "--field-manager=testbed", "-f", "-"
    )
    output(command, stdin=json.dumps(items))


# -- their settings --------------------------------------------------------------------


def _etcd(bed: Bed) -> list[str | Path]:
    client = f"http://127.0.0.1:{_ETCD_PORT}"
    peer = f"http://127.0.0.1:{_ETCD_PEER_PORT}"
    return [
        ETCD.path("etcd"),
        f"--name={bed.name}",
        f"--data-dir={bed.run / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster={bed.name}={peer}",
        # What a bed keeps need not survive a power cut, and disks here are slow and shared.
        "--unsafe-no-fsync",
        # Between two compactions every version of ten thousand jobs is kept.
        f"--quota-backend-bytes={8 << 30}",
    ]


def _apiserver(bed: Bed) -> list[str | Path]:
    keys = bed.keys
    policy = bed.run / "audit-policy.json"
    policy.write_text(json.dumps(_AUDIT_POLICY))
    return [
        KUBERNETES.path("kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{_ETCD_PORT}",
        "--bind-address=0.0.0.0",
        f"--secure-port={API_PORT}",
        f"--advertise-address={NODE_ADDRESS}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={keys / 'accounts.pub'}",
        f"--service-account-signing-key-file={keys / 'accounts.key'}",
        f"--client-ca-file={keys / 'ca.crt'}",
        f"--tls-cert-file={keys / 'apiserver.crt'}",
        f"--tls-private-key-file={keys / 'apiserver.key'}",
        f"--kubelet-client-certificate={keys / 'apiserver-kubelet.crt'}",
        f"--kubelet-client-key={keys / 'apiserver-kubelet.key'}",
        f"--kubelet-certificate-authority={keys / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={keys / 'ca.crt'}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={keys / 'front-proxy.crt'}",
        f"--proxy-client-key-file={keys / 'front-proxy.key'}",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={bed.audit}",
        "--audit-log-mode=batch",
    ]


def _controllers(bed: Bed) -> list[str | Path]:
    keys = bed.keys
    return [
        KUBERNETES.path("kube-controller-manager"),
        *_as(keys / "controllers.kubeconfig"),
        f"--service-account-private-key-file={keys / 'accounts.key'}",
        f"--root-ca-file={keys / 'ca.crt'}",
        f"--cluster-signing-cert-file={keys / 'ca.crt'}",
        f"--cluster-signing-key-file={keys / 'ca.key'}",
        "--use-service-account-credentials=true",
        "--allocate-node-cidrs=true",
        f"--cluster-cidr={CLUSTER_RANGE}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
    ]


def _scheduler(bed: Bed) -> list[str | Path]:
    return [KUBERNETES.path("kube-scheduler"), *_as(bed.keys / "scheduler.kubeconfig")]


def _as(kubeconfig: Path) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]


# One line for every finished request of a service account or a person: who asked for what.
# The servers' own talk is left out.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "None",
            "users": [
                "system:apiserver",
                "system:kube-controller-manager",
                "system:kube-scheduler",
                "system:kube-proxy",
                "cluster-dns",
            ],
        },
        {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
        {"level": "None", "nonResourceURLs": ["/*"]},
        {"level": "Metadata"},
    ],
}


def _listens(bed: Bed, port: int) -> bool:
    probe = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5).close()"
    return succeeds(bed.inside("python3", "-c", probe))
