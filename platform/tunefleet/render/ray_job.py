"""The RayJob of an attempt that trains: a head without work, and one pod a worker. Pure.

Decides how the attempt is run by KubeRay, frozen once rendered: no retry of its own, the
cluster taken away at the end, token authentication on, no autoscaler. A pod of ours submits the
driver, once: the submitter that KubeRay would put beside the head does not keep the restricted
profile. The entrypoint is a constant.
"""

from __future__ import annotations

from tunefleet.api.job import FineTuneJob
from tunefleet.api.words import DeviceType
from tunefleet.plan.document import Plan
from tunefleet.plan.nodes import worker_cpu, worker_memory
from tunefleet.render import names
from tunefleet.render.pods import NOTHING_TO_SAVE, Resources, template
from tunefleet.render.settings import Runtime

API_VERSION = "ray.io/v1"
ENTRYPOINT = "tunefleet pod train"
HEAD_RESOURCES = Resources(cpu=0.25, memory="4Gi")
SUBMITTER_RESOURCES = Resources(cpu=0.05, memory="512Mi")

# Head loss must end the attempt: a head that comes back knows nothing of what ran before.
_ANNOTATIONS = {"ray.io/disable-provisioned-head-restart": "true"}
# A pod that is never placed would wait for ever; so long a cluster may take to come up.
PRE_RUNNING_SECONDS = 3600


def ray_job(
    job: FineTuneJob, attempt: str, attempt_uid: str, plan: Plan, runtime: Runtime
) -> dict[str, object]:
    """The RayJob of an attempt, owned by the attempt and called like it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "RayJob",
        "metadata": {
            "name": attempt,
            "namespace": job.metadata.namespace,
            "labels": names.labels(job.metadata.name, attempt) | names.passed_on(job),
            "annotations": dict(_ANNOTATIONS),
            "ownerReferences": [names.owner("FineTuneAttempt", attempt, attempt_uid)],
        },
        "spec": {
            "entrypoint": ENTRYPOINT,
            "submissionMode": "K8sJobMode",
            "submitterConfig": {"backoffLimit": 0},
            "submitterPodTemplate": template(
                job,
                attempt,
                runtime,
                SUBMITTER_RESOURCES,
                container={},
                grace_seconds=NOTHING_TO_SAVE,
                spec={"restartPolicy": "Never"},
            ),
            "backoffLimit": 0,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 0,
            "preRunningDeadlineSeconds": PRE_RUNNING_SECONDS,
            "rayClusterSpec": {
                "rayVersion": runtime.ray_version,
                "enableInTreeAutoscaling": False,
                "authOptions": {"mode": "token"},
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
                    "template": template(
                        job,
                        attempt,
                        runtime,
                        HEAD_RESOURCES,
                        container={},
                        grace_seconds=NOTHING_TO_SAVE,
                        spec={"restartPolicy": "Never"},
                    ),
                },
                "workerGroupSpecs": [_workers(job, attempt, plan, runtime)],
            },
        },
    }


def _workers(job: FineTuneJob, attempt: str, plan: Plan, runtime: Runtime) -> dict[str, object]:
    gpu = int(plan.device is DeviceType.CUDA)
    resources = Resources(cpu=worker_cpu(job), memory=worker_memory(job), gpu=gpu)
    # The hook may take all of the grace time but a little, which Ray's own end needs.
    wait = max(1, runtime.grace_seconds - 15)
    drain = {"exec": {"command": ["tunefleet", "pod", "drain", "--seconds", str(wait)]}}
    return {
        "groupName": names.WORKER_GROUP,
        "replicas": plan.workers,
        "minReplicas": plan.workers,
        "maxReplicas": plan.workers,
        "rayStartParams": {"num-cpus": str(plan.threads_per_worker)},
        "template": template(
            job,
            attempt,
            runtime,
            resources,
            container={"lifecycle": {"preStop": drain}},
            grace_seconds=runtime.grace_seconds,
            spec={"restartPolicy": "Never", **runtime.placement},
        ),
    }
