"""Preparing a job, the same for ``check``, ``plan`` and ``run``.

Decides where the cache is and what ``model.from.job`` means: the bundle of that job's newest
finished run in the same storage and namespace.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from tunefleet.api.errors import ModelError
from tunefleet.verbs.jobfile import JobFile

if TYPE_CHECKING:
    from tunefleet.data.model_files import ModelFolder
    from tunefleet.train.prepare import Prepared


def prepare_job(file: JobFile, progress: Callable[[str, int, int], None] | None = None) -> Prepared:
    """The facts of a job; raises a ``TunefleetError`` with all problems at once."""
    from tunefleet.data.cache import cache_root
    from tunefleet.train.prepare import prepare
    from tunefleet.train.trackers import choice

    choice.require(file.job.spec.tracking)
    return prepare(
        file.job,
        file.base,
        cache=cache_root(),
        progress=progress,
        model=_tuned_model(file),
    )


def _tuned_model(file: JobFile) -> ModelFolder | None:
    """The folder of the model that ``model.from.job`` names; None without it."""
    source = file.job.spec.model.from_
    if source is None or source.job is None:
        return None
    from tunefleet.data.model_files import ModelFolder
    from tunefleet.evaluate.result import Outcome
    from tunefleet.storage.run import RunStore
    from tunefleet.storage.store import open_store
    from tunefleet.verbs.target import bundle_folder

    store = open_store(file.job.spec.checkpoints.uri, file.base)
    for run in reversed(RunStore.all(store, file.job.metadata.namespace, source.job)):
        found = run.get_json("report/outcome.json")
        if found is not None:
            bundle = Outcome.from_json(json.dumps(found)).bundle
            return ModelFolder(bundle_folder(bundle), bundle.uri)
    raise ModelError(
        f"spec.model.from.job: no finished run of {source.job!r} in {store.uri}",
        remedy="finish that job first, or name its bundle with spec.model.from.bundle",
    )
