"""Which parts of a job decide its numbers, and their digest.

Decides what ``spec_digest`` covers: model, task and its options, data, training, and the
metric (with early stopping) that chooses the best checkpoint. Workers, checkpoints, retries,
labels, gates, how often is evaluated and whether activations are computed again are left out:
they change when, where and how dear, not what comes out. Pure.
"""

from __future__ import annotations

import hashlib
import json

from tunefleet.api.job import FineTuneJob


def numbers_of(job: FineTuneJob) -> dict[str, object]:
    """The parts of a job that affect the numbers, defaults filled in."""
    spec = job.spec
    stopping = spec.evaluation.early_stopping
    return {
        "model": spec.model.model_dump(mode="json", by_alias=True),
        "task": spec.task,
        "options": spec.options.model_dump(mode="json", by_alias=True),
        "data": spec.data.model_dump(mode="json", by_alias=True),
        "training": spec.training.model_dump(
            mode="json", by_alias=True, exclude={"gradient_checkpointing"}
        ),
        "metric": spec.primary_metric,
        "earlyStopping": stopping.model_dump(mode="json", by_alias=True) if stopping else None,
    }


def spec_digest(job: FineTuneJob) -> str:
    """``sha256:…`` over the canonical JSON of :func:`numbers_of`."""
    text = json.dumps(numbers_of(job), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
