"""The FineTuneAttempt of a stage: what its pods are told, frozen. Pure."""

from __future__ import annotations

from tunefleet.api.attempt import AttemptSpec
from tunefleet.api.job import API_VERSION, FineTuneJob
from tunefleet.render import names


def attempt(job: FineTuneJob, uid: str, spec: AttemptSpec) -> dict[str, object]:
    """The object, owned by its job: it goes when the job goes."""
    name = names.attempt_name(job.metadata.name, uid, spec.number)
    return {
        "apiVersion": API_VERSION,
        "kind": "FineTuneAttempt",
        "metadata": {
            "name": name,
            "namespace": job.metadata.namespace,
            "labels": names.labels(job.metadata.name, name),
            "ownerReferences": [names.owner("FineTuneJob", job.metadata.name, uid)],
        },
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
