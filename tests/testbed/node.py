"""One node: containerd, kubelet, kube-proxy and the cluster's DNS.

Decides their settings and the order in which they start. Imports the bed's own modules, and
grpc to ask containerd whether it is ready.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import grpc

from tests.testbed import images, machine
from tests.testbed.bed import (
    CLUSTER_RANGE,
    DNS_SERVICE,
    NODE,
    NODE_ADDRESS,
    POD_RANGE,
    Bed,
    BedError,
)
from tests.testbed.control_plane import apply, kubectl
from tests.testbed.parts import COREDNS, KUBERNETES
from tests.testbed.processes import Processes, output

_DNS_PORT = 5353
SERVERS = ("dns", "proxy", "kubelet", "containerd")


def up(bed: Bed, *, say: Callable[[str], None]) -> None:
    """Start what does not run; returns when the node is Ready."""
    machine.take(bed)
    _write_settings(bed)
    for setting in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        # The second is there once the kernel has a bridge to filter, and not on every kernel.
        with contextlib.suppress(BedError):
            output(bed.inside("sh", "-c", f"echo 1 >/proc/sys/{setting}"))
    processes = Processes(bed.run)
    processes.start("containerd", bed.inside("containerd", "--config", bed.run / "containerd.toml"))
    processes.wait("containerd", lambda: _runs_pods(bed), seconds=60)
    images.load_small(bed)
    say("containerd")
    processes.start("kubelet", bed.inside(*_kubelet(bed)))
    proxy = KUBERNETES.path("kube-proxy")
    processes.start("proxy", bed.inside(proxy, f"--config={bed.run / 'proxy.json'}"))
    apply(bed, *_dns_objects())
    processes.start("dns", bed.inside(COREDNS.path("coredns"), "-conf", bed.run / "Corefile"))
    processes.wait("kubelet", lambda: ready(bed), seconds=180)
    say(f"{NODE} is Ready")


def ready(bed: Bed) -> bool:
    """Whether the node says so itself."""
    path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    try:
        return output(kubectl(bed, "get", "node", NODE, "--output", path)) == "True"
    except BedError:
        return False


def _runs_pods(bed: Bed) -> bool:
    """Whether containerd answers as the kubelet will ask it.

    Its own API is up before that of the Container Runtime Interface is, which looks through
    what an earlier life left first; a kubelet that asks in between ends at once.
    """
    with grpc.insecure_channel(f"unix://{bed.containerd}") as channel:
        version = channel.unary_unary("/runtime.v1.RuntimeService/Version")
        try:
            # An empty request is the same bytes in every version of the protocol: none.
            version(b"", timeout=5)
        except grpc.RpcError:
            return False
    return True


# -- the servers' settings -------------------------------------------------------------


def _write_settings(bed: Bed) -> None:
    for folder in (bed.run / "cni", bed.run / "kubelet", bed.sockets, bed.images):
        folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "resolv.conf": "",
        "containerd.toml": _containerd(bed),
        "cni/10-bridge.conflist": json.dumps(_bridge(bed)),
        "kubelet.json": json.dumps(_kubelet_settings(bed)),
        "proxy.json": json.dumps(_proxy_settings(bed)),
        "Corefile": _corefile(bed),
    }
    for name, text in texts.items():
        path = bed.run / name
        # kube-proxy ends as soon as its settings are written, be they the same.
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _containerd(bed: Bed) -> str:
    return f"""\
version = 2
root = "{bed.images}"
state = "{bed.sockets / "containerd"}"

[grpc]
  address = "{bed.containerd}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE_IMAGE}"
  # A container on a machine is often not allowed to lower it.
  restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{bed.run / "cni"}"
"""


def _bridge(bed: Bed) -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": str(bed.run / "addresses"),
        "ranges": [[{"subnet": POD_RANGE}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": addresses,
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": bed.name, "plugins": [bridge, ports]}


def _kubelet(bed: Bed) -> list[str | Path]:
    return [
        KUBERNETES.path("kubelet"),
        f"--config={bed.run / 'kubelet.json'}",
        f"--kubeconfig={bed.keys / 'kubelet.kubeconfig'}",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_ADDRESS}",
        f"--root-dir={bed.run / 'kubelet'}",
    ]


def _kubelet_settings(bed: Bed) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(bed.keys / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(bed.keys / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(bed.keys / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{bed.containerd}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{machine.cgroup(bed)}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": str(bed.run / "resolv.conf"),
        "podLogsDir": str(bed.run / "pod-logs"),
        "makeIPTablesUtilChains": False,
        "readOnlyPort": 0,
        "nodeStatusUpdateFrequency": "5s",
        # The disk is shared with everything else; images are this tool's to remove.
        "evictionHard": {
            "memory.available": "200Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }


def _proxy_settings(bed: Bed) -> dict[str, object]:
    conntrack = {
        "maxPerCore": 0,
        "min": 0,
        "tcpEstablishedTimeout": "0s",
        "tcpCloseWaitTimeout": "0s",
        "udpTimeout": "0s",
        "udpStreamTimeout": "0s",
    }
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(bed.keys / "proxy.kubeconfig")},
        "clusterCIDR": CLUSTER_RANGE,
        "mode": "nftables",
        "hostnameOverride": NODE,
        "bindAddress": NODE_ADDRESS,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "conntrack": conntrack,  # zero: leave the machine's as it is
    }


def _corefile(bed: Bed) -> str:
    # Names of the cluster, and no others: nothing leads out of the namespace.
    return f"""\
cluster.local:{_DNS_PORT} in-addr.arpa:{_DNS_PORT} ip6.arpa:{_DNS_PORT} {{
    bind {NODE_ADDRESS}
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {bed.keys / "dns.kubeconfig"}
        pods insecure
    }}
    cache 5
}}
.:{_DNS_PORT} {{
    bind {NODE_ADDRESS}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def _dns_objects() -> list[dict[str, object]]:
    meta = {"name": "kube-dns", "namespace": "kube-system"}
    ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
    role = "cluster-dns"
    group = "rbac.authorization.k8s.io"
    watches = ["get", "list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["services", "namespaces", "pods"], "verbs": watches},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": watches},
    ]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {
                "clusterIP": DNS_SERVICE,
                "ports": [
                    {"name": name, "port": 53, "protocol": protocol, "targetPort": _DNS_PORT}
                    for name, protocol in ports
                ],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**meta, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
            "ports": [
                {"name": name, "port": _DNS_PORT, "protocol": protocol} for name, protocol in ports
            ],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role},
            "rules": rules,
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": role, "apiGroup": group}],
        },
    ]
