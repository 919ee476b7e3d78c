"""``tunefleet dashboard``: a way to Ray's dashboard of the attempt that runs, and its token.

Decides which RayCluster that is, and that ``kubectl`` carries the connection: with the user's own
rights, and gone when the command ends. Imports ``kube`` and its siblings.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tunefleet.api.attempt import Stage
from tunefleet.api.errors import ClusterError, MachineError
from tunefleet.controller.kinds import RAY_JOBS
from tunefleet.controller.seen import JobSeen
from tunefleet.kube.errors import ApiError
from tunefleet.kube.resources import Document, Resource
from tunefleet.verbs.cluster import jobs
from tunefleet.verbs.cluster.connect import Cluster

SECRETS = Resource("", "v1", "secrets", "Secret")
PORT = 8265
TOKEN_KEY = "auth_token"


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
    try:
        ray_job = await cluster.client.get(RAY_JOBS, cluster.namespace, newest.name)
    except ApiError as error:
        if error.not_found:
            raise _nothing_runs(job) from None
        raise
    status = _block(ray_job, "status")
    ray_cluster = str(status.get("rayClusterName") or "")
    if not ray_cluster or status.get("jobDeploymentStatus") not in {"Initializing", "Running"}:
        raise _nothing_runs(job)
    head = _block(_block(status, "rayClusterStatus"), "head")
    service = str(head.get("serviceName") or f"{ray_cluster}-head-svc")
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
