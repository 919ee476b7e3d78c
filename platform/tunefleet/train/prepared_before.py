"""Facts that were found before: when they still hold, and where they are kept.

Decides what facts depend on: the job's fields that prepare reads, the size and time of every
data and model file, this package's own code and the libraries' versions. Anything else (the
number of workers, epochs, the optimiser) leaves them as they are. Loads neither torch nor
transformers. Imports ``api``, ``data`` and ``plan``.
"""

from __future__ import annotations

import re
from functools import cache as remember
from pathlib import Path

from pydantic import ValidationError

import tunefleet.data
import tunefleet.tasks
from tunefleet.api.errors import DataError
from tunefleet.api.job import FineTuneJob, HubSource
from tunefleet.data.cache import digest_code, digest_values, stamp, versions, write_text
from tunefleet.data.model_files import ModelFolder, answer_files
from tunefleet.data.problems import Problems
from tunefleet.data.sources import Remote
from tunefleet.data.splits import find_sources
from tunefleet.data.tokenise import is_complete
from tunefleet.plan.facts import Facts

_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_LIBRARIES = ("tokenizers", "transformers", "peft", "datasets", "pyarrow", "tunefleet")


@remember
def code_digest() -> str:
    """A digest of the code and the libraries that turn rows into tokens."""
    folders = [Path(tunefleet.data.__path__[0]), Path(tunefleet.tasks.__path__[0])]
    return digest_values(digest_code(folders), versions("tokenizers", "transformers"))


def key(
    job: FineTuneJob, base: Path, model: ModelFolder | None, remote: Remote | None = None
) -> str | None:
    """The key of a job's facts; ``None`` where they can change without a trace (a hub data
    set without a pinned revision) or something named is not there.
    """
    if model is None:
        return None
    try:
        stamps = _data_stamps(job, base, remote)
    except (DataError, OSError):
        return None
    if stamps is None:
        return None
    spec = job.spec
    here = Path(__file__).parent
    own = [here / name for name in ("prepare.py", "units.py", "skeleton.py", "prepared_before.py")]
    return digest_values(
        spec.task,
        spec.options.model_dump(mode="json"),
        spec.model.model_dump(mode="json", by_alias=True),
        spec.data.model_dump(mode="json"),
        spec.training.max_length,
        spec.training.seed,
        str(base),
        [model.source, model.revision, [stamp(file) for file in answer_files(model.path)]],
        stamps,
        [file.read_text(encoding="utf-8") for file in own],
        code_digest(),
        versions(*_LIBRARIES),
    )


def _data_stamps(job: FineTuneJob, base: Path, remote: Remote | None) -> list[object] | None:
    problems = Problems()
    stamps: list[object] = []
    for name, source in find_sources(job.spec.data, base, problems, remote).items():
        if source is None:
            return None
        if source.hub is not None:
            found = _hub_stamp(source.hub)
            if found is None:
                return None
            stamps.append([name, found])
        else:
            stamps.append([name, [stamp(file.path) for file in source.files]])
    return None if problems else stamps


def _hub_stamp(hub: HubSource) -> list[object] | None:
    folder = Path(hub.name)
    if folder.is_absolute() and folder.is_dir():
        return [stamp(file) for file in sorted(folder.rglob("*")) if file.is_file()]
    if hub.revision is not None and _COMMIT.match(hub.revision):
        return [hub.name, hub.revision]
    return None


def read(cache: Path, found: str | None) -> Facts | None:
    """Facts under a key, when their token stores still stand."""
    if found is None:
        return None
    try:
        facts = Facts.from_json(_file(cache, found).read_bytes())
    except (OSError, ValidationError):
        return None
    splits = [facts.data.train, facts.data.validation, facts.data.test]
    if all(split is None or is_complete(Path(split.store)) for split in splits):
        return facts
    return None


def write(cache: Path, found: str | None, facts: Facts) -> None:
    """Keep facts for the next time."""
    if found is not None:
        write_text(_file(cache, found), facts.to_json())


def _file(cache: Path, found: str) -> Path:
    return cache / "facts" / f"{found[:32]}.json"
