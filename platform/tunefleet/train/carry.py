"""Prepared data on its way from the machine that prepared it to those that train.

Decides where a run keeps its tokens (``prepared/<split>/``) and how another machine gets them
and the model: each into the cache under what it is, once, so that many processes of a machine
may ask at the same time. Nothing is tokenised twice. Imports ``data``, ``plan`` and
``storage``.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from tunefleet.api.errors import ModelError, StorageError
from tunefleet.api.job import FineTuneJob
from tunefleet.api.support import in_store
from tunefleet.data import model_files
from tunefleet.data.cache import cache_root
from tunefleet.data.tokenise import is_complete
from tunefleet.plan.facts import Facts, SplitFacts
from tunefleet.plan.worker import WorkerConfig
from tunefleet.storage.copies import Copies
from tunefleet.storage.run import RunStore
from tunefleet.train.prepare import Prepared, prepared_from


def stow(run: RunStore, facts: Facts) -> None:
    """Keep the run's tokens beside it. Again after a kill: what is there is replaced."""
    for name, split in facts.data.splits.items():
        folder = Path(split.store)
        for path in sorted(file for file in folder.rglob("*") if file.is_file()):
            run.store.put(run.key("prepared", name, str(path.relative_to(folder))), path)


def arrived(config: WorkerConfig) -> WorkerConfig:
    """A worker's config with this machine's paths, once tokens and model are here.

    Raises ``StorageError`` when the run's tokens are not whole, ``ModelError`` when the model
    is not the one that was prepared.
    """
    run, cache = RunStore.at(config.address), cache_root()
    facts = facts_of(run)
    job = FineTuneJob.model_validate_json(json.dumps(config.job))
    data = unpack(run, facts, cache).facts.data
    return config.model_copy(
        update={
            "model_path": str(_model_folder(job, facts, cache)),
            "stores": {name: split.store for name, split in data.splits.items()},
        }
    )


def facts_of(run: RunStore) -> Facts:
    """The facts that a run was prepared with; raises ``StorageError`` when there are none."""
    found = run.get_json("facts.json")
    if found is None:
        raise StorageError(
            f"{run.uri} holds no facts: it was not prepared", remedy="begin a new run"
        )
    return Facts.from_json(json.dumps(found))


def unpack(run: RunStore, facts: Facts, cache: Path) -> Prepared:
    """Facts with this machine's token stores, once they are here; StorageError as above."""
    stores = {name: _fetched(run, name, split, cache) for name, split in facts.data.splits.items()}
    data = facts.data.model_copy(
        update={
            name: split.model_copy(update={"store": str(stores[name])})
            for name, split in facts.data.splits.items()
        }
    )
    return prepared_from(facts.model_copy(update={"data": data}))


def _fetched(run: RunStore, name: str, split: SplitFacts, cache: Path) -> Path:
    """The token store of a split in this machine's cache."""
    # The folder is named after its content where it was prepared, and is so here.
    target = cache / "tokens" / Path(split.store).name
    if is_complete(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".carried-"))
    try:
        run.store.download(run.key("prepared", name), draft)
        if not is_complete(draft):
            raise StorageError(
                f"the prepared {name} rows of {run.uri} are not whole",
                remedy="begin a new run: what prepared this one was cut off",
            )
        try:
            os.replace(draft, target)
        except OSError:
            # Another process of this machine was faster.
            if not is_complete(target):
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _model_folder(job: FineTuneJob, facts: Facts, cache: Path) -> Path:
    folder = _found_model(job, facts, cache)
    if model_files.digest_model(folder, cache).model != facts.model.digest:
        raise ModelError(
            f"{facts.model.source} is not the model that was prepared: its files have changed",
            remedy="put the old files back, or begin a new run",
        )
    return folder


def _found_model(job: FineTuneJob, facts: Facts, cache: Path) -> Path:
    source = facts.model.source
    if in_store(source):
        skip = () if job.spec.model.from_ is not None else model_files.PICKLES
        return Copies(cache).folder(source, skip)
    if job.spec.model.from_ is not None:
        return Path(source.removeprefix("file://"))
    model = job.spec.model
    if model.name is not None and facts.model.revision:
        model = model.model_copy(update={"revision": facts.model.revision})
    return model_files.find_model(model, Path("/")).path
