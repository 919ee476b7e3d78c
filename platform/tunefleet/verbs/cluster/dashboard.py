"""``tunefleet dashboard``: a way to Ray's dashboard of the attempt that runs, and its token.

Decides which RayCluster that is, and that ``kubectl`` carries the connection: with the user's own
rights, and gone when the command ends. Imports ``kube`` and its siblings.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tunefleet.api.attempt import Stage
from tunefleet.api.errors import ClusterError, MachineError
from tunefleet.controller.seen import JobSeen
from tunefleet.kube.errors import ApiError
from tunefleet.kube.resources import Document, Resource
from tunefleet.verbs.cluster import jobs
from tunefleet.verbs.cluster.connect import Cluster

SECRETS = Resource("", "v1", "secrets", "Secret")
SERVICES = Resource("", "v1", "services", "Service")
PORT = 8265
TOKEN_KEY = "auth_token"

_NODE = "ray.io/node-type"
_CLUSTER = "ray.io/cluster"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Where the dashboard of a running attempt is, and the token that it asks for."""

    job: str
    attempt: int
    ray_cluster: str
    token: str
    command: tuple[str, ...]
    url: str


async def find(cluster: Cluster, name: str, *, port: int = PORT) -> Dashboard:
    """The dashboard of a job's running attempt; raises ``ClusterError`` when none runs."""
    job = await jobs.job(cluster, name)
    attempts = await jobs.attempts(cluster, job)
    newest = attempts[-1] if attempts else None
    if newest is None or newest.spec.stage is Stage.PREPARE or newest.result is not None:
        raise _nothing_runs(job)
    ray_cluster = await _ray_cluster(cluster, newest.name)
    if ray_cluster is None:
        raise _nothing_runs(job)
    service = await _service(cluster, ray_cluster)
    return Dashboard(
        job=name,
        attempt=newest.number,
        ray_cluster=ray_cluster,
        token=await _token(cluster, ray_cluster),
        command=forward(cluster.kubeconfig, cluster.namespace, service, port),
        url=f"http://127.0.0.1:{port}",
    )


def forward(kubeconfig: Path | None, namespace: str, service: str, port: int) -> tuple[str, ...]:
    """The command that carries the connection."""
    which = (f"--kubeconfig={kubeconfig}",) if kubeconfig else ()
    target = ("port-forward", "-n", namespace, f"service/{service}", f"{port}:{PORT}")
    return ("kubectl", *which, *target)


def carry(found: Dashboard) -> int:
    """Forward the port until kubectl ends or the user interrupts; how it ended."""
    program = shutil.which("kubectl")
    if program is None:
        raise MachineError(
            "there is no kubectl on this machine, which forwards the port",
            remedy=f"install it, or run elsewhere: {' '.join(found.command)}",
        )
    with subprocess.Popen([program, *found.command[1:]]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            return 0


async def _ray_cluster(cluster: Cluster, attempt: str) -> str | None:
    """The RayCluster whose head runs: told by its pod, which whoever may edit jobs may read."""
    for pod, _ in (await jobs.pods(cluster, attempt)).values():
        told = pod.metadata.labels
        if told.get(_NODE) == "head" and pod.status.phase == "Running" and not pod.going:
            return told.get(_CLUSTER)
    return None


async def _service(cluster: Cluster, ray_cluster: str) -> str:
    """The service that leads to a head's dashboard."""
    async for body in jobs.bodies(cluster, SERVICES, f"{_CLUSTER}={ray_cluster}"):
        found = json.loads(body)
        if PORT in {port.get("port") for port in found.get("spec", {}).get("ports", [])}:
            return str(found["metadata"]["name"])
    return f"{ray_cluster}-head-svc"


async def _token(cluster: Cluster, ray_cluster: str) -> str:
    try:
        secret = await cluster.client.get(SECRETS, cluster.namespace, ray_cluster)
    except ApiError as error:
        if not (error.not_found or error.forbidden):
            raise
        command = f"kubectl get secret -n {cluster.namespace} {ray_cluster}"
        raise ClusterError(
            f"the dashboard's token cannot be read: {error.message}",
            remedy=f"ask for the right to read the secret: {command}",
        ) from None
    token = _block(secret, "data").get(TOKEN_KEY)
    return base64.b64decode(str(token)).decode() if token else ""


def _block(holder: Document, name: str) -> Document:
    found = holder.get(name)
    return found if isinstance(found, dict) else {}


def _nothing_runs(job: JobSeen) -> ClusterError:
    said = f"{job.status.phase}: {job.status.message}".rstrip(": ")
    return ClusterError(
        f"nothing of {job.name} runs, so there is no dashboard ({said})",
        remedy=f"`tunefleet status {job.name}` and `tunefleet logs {job.name}` tell what is known",
    )
