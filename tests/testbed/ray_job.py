"""A RayJob of our kind, made here by hand: what is tried with it owes nothing to ``render``."""

from __future__ import annotations

from typing import Literal

Mode = Literal["K8sJobMode", "SidecarMode"]
STRICT = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
LIMITS = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

# How far KubeRay says it is with one that ends well; a test on a node and a test with players in
# the pods' parts both hold it to that.
GOOD_LIFE = ["Initializing", "Running", "Complete"]

_COUNT = (
    "import ray; ray.init(); "
    "assert (len(ray.nodes()), ray.cluster_resources()['CPU']) == (3, 2), ray.nodes()"
)


def ray_job(name: str, image: str, mode: Mode) -> dict[str, object]:
    """A head and two workers, and a driver that counts them and fails when one is missing."""
    submitter = {"submitterPodTemplate": _pod(image, "1Gi")} if mode == "K8sJobMode" else {}
    workers = {
        "groupName": "workers",
        "replicas": 2,
        "minReplicas": 2,
        "maxReplicas": 2,
        "rayStartParams": {"num-cpus": "1"},
        "template": _pod(image, "2Gi"),
    }
    cluster = {
        "rayVersion": "2.60.0",
        "authOptions": {"mode": "token"},
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": _pod(image, "3Gi")},
        "workerGroupSpecs": [workers],
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name},
        "spec": {
            "entrypoint": f'python -c "{_COUNT}"',
            "submissionMode": mode,
            **submitter,
            "backoffLimit": 0,
            "shutdownAfterJobFinishes": True,
            "rayClusterSpec": cluster,
        },
    }


def _pod(image: str, memory: str) -> dict[str, object]:
    container = {
        "name": "ray",
        "image": image,
        "resources": {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"memory": memory}},
        "securityContext": LIMITS,
    }
    return {
        "spec": {"restartPolicy": "Never", "containers": [container], "securityContext": STRICT}
    }
