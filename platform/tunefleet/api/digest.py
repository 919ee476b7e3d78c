"""The digest of a job: the same for two files that ask for the same thing.

Decides that comments, order of fields and written-out defaults do not count. Imports
``api`` alone.
"""

from __future__ import annotations

import hashlib
import json

from tunefleet.api.job import FineTuneJob


def job_values(job: FineTuneJob) -> dict[str, object]:
    """The job as JSON values under the file's names, every default written out."""
    return job.model_dump(mode="json", by_alias=True)


def job_digest(job: FineTuneJob) -> str:
    """``sha256:<hex>`` over the job's canonical JSON."""
    text = json.dumps(job_values(job), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
