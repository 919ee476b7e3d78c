"""Which bundle is meant: a bundle's folder, a run's folder, or a job file.

Decides how ``predict`` and ``serve`` find a bundle and what is known about it: the result of
the run that made it, with its metrics and its gate. Imports ``api``, ``storage``,
``evaluate`` (records only) and ``verbs.jobfile``; no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from tunefleet.api.errors import ModelError
from tunefleet.evaluate.result import RunResult

_RESULT = Path("report", "result.json")


@dataclass(frozen=True, slots=True)
class Target:
    """A bundle and, where its run is known, what came out of that run."""

    folder: Path
    result: RunResult | None

    @property
    def metrics(self) -> dict[str, float]:
        """What the bundle reached on the rows that were held out longest."""
        splits = self.result.splits if self.result is not None else {}
        for name in ("test", "validation"):
            if name in splits:
                return dict(splits[name].after)
        return {}


def find_bundle(target: str | Path) -> Target:
    """The bundle that ``target`` names; raises ``ModelError`` or ``SpecError``.

    A job file means the bundle of its newest run that made one.
    """
    path = Path(unquote(urlsplit(str(target)).path) if str(target).startswith("file:") else target)
    path = path.expanduser()
    if path.is_file() and path.suffix.lower() in {".yaml", ".yml"}:
        return _of_job(path)
    if (path / "tunefleet").is_dir():
        # A published bundle lies in its run's folder, under bundle/<digest>.
        return Target(path, _read_result(path.parent.parent / _RESULT))
    if (path / "RUN.json").is_file():
        return _of_run(path)
    if not path.exists():
        raise ModelError(
            f"{path} does not exist",
            remedy="name a bundle's folder, a run's folder, or a job file (job.yaml)",
        )
    raise ModelError(
        f"{path} is neither a bundle, nor a run's folder, nor a job file",
        remedy="a bundle holds a folder tunefleet/; `tunefleet run` prints where it is",
    )


def _of_run(folder: Path) -> Target:
    result = _read_result(folder / _RESULT)
    if result is None or result.bundle is None:
        raise ModelError(
            f"{folder} has no bundle: the run has not ended well",
            remedy="`tunefleet run` goes on with it",
        )
    # The folder may have been moved since: the bundle lies in it under the same name.
    moved = folder / "bundle" / Path(result.bundle.path).name
    return Target(moved if moved.is_dir() else Path(result.bundle.path), result)


def _of_job(path: Path) -> Target:
    from tunefleet.storage.run import RunStore
    from tunefleet.storage.store import open_store
    from tunefleet.verbs.jobfile import load

    file = load(path)
    store = open_store(file.job.spec.checkpoints.uri, file.base)
    metadata = file.job.metadata
    for run in reversed(RunStore.all(store, metadata.namespace, metadata.name)):
        record = run.get_json(_RESULT.as_posix())
        result = _parse_result(json.dumps(record), run.uri) if record is not None else None
        if result is not None and result.bundle is not None:
            return Target(Path(result.bundle.path), result)
    raise ModelError(
        f"{path}: no run of {metadata.name} has made a bundle yet",
        remedy=f"tunefleet run {path}",
    )


def _read_result(path: Path) -> RunResult | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return _parse_result(text, str(path))


def _parse_result(text: str, place: str) -> RunResult:
    try:
        return RunResult.from_json(text)
    except ValidationError as error:
        raise ModelError(
            f"{place}: the run's result cannot be read",
            remedy="it was written by another version of tunefleet, or edited by hand",
        ) from error
