"""The pods of a job: one container of the runtime image, restricted, told who it is.

Decides what every pod has in common: the ``restricted`` Pod Security profile, the volumes a
process needs to write to, credentials by reference only, and no service links. Nothing of a
user's spec becomes a command. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tunefleet.api.attempt import ATTEMPT_ENVIRONMENT, NAMESPACE_ENVIRONMENT
from tunefleet.api.job import FineTuneJob
from tunefleet.api.profile import DEFAULT_ACCOUNT
from tunefleet.plan.processes import MALLOC, RAY
from tunefleet.render import names
from tunefleet.render.settings import Runtime

CACHE = "/var/cache/tunefleet"
CERTIFICATES = "/etc/tunefleet/certificates"
USER = 10001
NOTHING_TO_SAVE = 20
"""Seconds of grace for a pod that has nothing to lose."""

# Spot interruption and scale-down by an autoscaler cost work; a drain by hand is still allowed.
ANNOTATIONS = {
    "karpenter.sh/do-not-disrupt": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "sidecar.istio.io/inject": "false",
}


@dataclass(frozen=True, slots=True)
class Resources:
    """What one pod asks for. ``cpu`` in cores; ``memory`` as Kubernetes writes it."""

    cpu: float
    memory: str
    gpu: int = 0

    def values(self) -> dict[str, object]:
        """Requests, and limits of what cannot be shared."""
        gpu = {"nvidia.com/gpu": str(self.gpu)} if self.gpu else {}
        return {
            "requests": {"cpu": f"{round(self.cpu * 1000)}m", "memory": self.memory, **gpu},
            "limits": {"memory": self.memory, **gpu},
        }


def template(
    job: FineTuneJob,
    attempt: str,
    runtime: Runtime,
    resources: Resources,
    *,
    container: Mapping[str, object],
    grace_seconds: int,
    spec: Mapping[str, object],
) -> dict[str, object]:
    """A pod template. ``container`` and ``spec`` add to what every pod has."""
    account = job.spec.credentials.service_account_name if job.spec.credentials else None
    return {
        "metadata": {
            "labels": names.labels(job.metadata.name, attempt),
            "annotations": dict(ANNOTATIONS),
        },
        "spec": {
            "serviceAccountName": account or DEFAULT_ACCOUNT,
            "automountServiceAccountToken": True,
            "enableServiceLinks": False,
            **_pull_secrets(runtime),
            "terminationGracePeriodSeconds": grace_seconds,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": names.CONTAINER,
                    "image": runtime.image,
                    "imagePullPolicy": runtime.pull_policy,
                    "resources": resources.values(),
                    "env": _environment(job, attempt, runtime),
                    "envFrom": _secrets(job),
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "cache", "mountPath": CACHE},
                        {"name": "shared-memory", "mountPath": "/dev/shm"},
                        *_certificates_mount(runtime),
                    ],
                    # The end of the log, where a container left no word of its own.
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    **container,
                }
            ],
            "volumes": [
                {"name": "cache", "emptyDir": {"sizeLimit": str(runtime.cache_bytes)}},
                {
                    "name": "shared-memory",
                    "emptyDir": {
                        "medium": "Memory",
                        "sizeLimit": str(runtime.shared_memory_bytes),
                    },
                },
                *_certificates_volume(runtime),
            ],
            **spec,
        },
    }


def _environment(job: FineTuneJob, attempt: str, runtime: Runtime) -> list[dict[str, str]]:
    told = {
        **runtime.environment,
        **(_trust(runtime.certificates[1]) if runtime.certificates else {}),
        ATTEMPT_ENVIRONMENT: attempt,
        NAMESPACE_ENVIRONMENT: job.metadata.namespace,
        "TUNEFLEET_CACHE": CACHE,
        **RAY,
        **MALLOC,
    }
    return [{"name": name, "value": value} for name, value in told.items()]


def _secrets(job: FineTuneJob) -> list[dict[str, object]]:
    given = job.spec.credentials.secret_refs if job.spec.credentials else []
    return [{"secretRef": {"name": name}} for name in given]


def _trust(key: str) -> dict[str, str]:
    """What the libraries that speak TLS look for; each has a name of its own for it."""
    file = f"{CERTIFICATES}/{key}"
    names_of_it = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
    return dict.fromkeys(names_of_it, file)


def _certificates_mount(runtime: Runtime) -> list[dict[str, object]]:
    if runtime.certificates is None:
        return []
    return [{"name": "certificates", "mountPath": CERTIFICATES, "readOnly": True}]


def _certificates_volume(runtime: Runtime) -> list[dict[str, object]]:
    if runtime.certificates is None:
        return []
    name, key = runtime.certificates
    source = {"name": name, "items": [{"key": key, "path": key}]}
    return [{"name": "certificates", "configMap": source}]


def _pull_secrets(runtime: Runtime) -> dict[str, object]:
    if not runtime.pull_secrets:
        return {}
    return {"imagePullSecrets": [{"name": name} for name in runtime.pull_secrets]}
