"""The Kubernetes Job that prepares: one pod on a CPU, with the job's own rights. Pure.

Decides what preparing may take, and that a pod which vanished is replaced while one that
refused the input is not: a refusal is said in the attempt's status, and ends the Job well.
"""

from __future__ import annotations

from tunefleet.api.job import FineTuneJob
from tunefleet.render import names
from tunefleet.render.pods import NOTHING_TO_SAVE, Resources, template
from tunefleet.render.settings import Runtime

COMMAND = ["tunefleet", "pod", "prepare"]
RESOURCES = Resources(cpu=0.5, memory="4Gi")
_RETRIES = 3


def prepare_job(
    job: FineTuneJob, attempt: str, attempt_uid: str, runtime: Runtime
) -> dict[str, object]:
    """The Job of an attempt's prepare stage, owned by the attempt."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": attempt,
            "namespace": job.metadata.namespace,
            "labels": names.labels(job.metadata.name, attempt),
            "ownerReferences": [names.owner("FineTuneAttempt", attempt, attempt_uid)],
        },
        "spec": {
            "backoffLimit": _RETRIES,
            "completions": 1,
            "parallelism": 1,
            "template": template(
                job,
                attempt,
                runtime,
                RESOURCES,
                container={"command": COMMAND},
                grace_seconds=NOTHING_TO_SAVE,
                spec={"restartPolicy": "Never"},
            ),
        },
    }
