"""Which bundle is meant: a bundle's folder, a run's folder, or a job file.

Decides how ``predict`` and ``serve`` find a bundle and what is known about it: the result of
the run that made it, with its metrics and its gate. A bundle in an object store is fetched
into the cache and checked there. Imports ``api``, ``storage``,
``evaluate`` (records only) and ``verbs.jobfile``; no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from tunefleet.api.errors import ModelError
from tunefleet.api.support import in_store
from tunefleet.evaluate.result import BundleResult, RunResult

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

    A job file means the bundle of its newest run that made one. A bundle or a run may lie in
    an object store (``s3://…/bundle/<digest>``).
    """
    if in_store(str(target)):
        return _in_store(str(target).rstrip("/"))
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


def bundle_folder(bundle: BundleResult) -> Path:
    """A bundle's folder on this machine; one in an object store is fetched."""
    return Path(bundle.path) if bundle.path else fetched_bundle(bundle.uri)


def fetched_bundle(uri: str) -> Path:
    """The checked copy of a bundle in an object store; raises ``ModelError`` when it changed."""
    from tunefleet.data.cache import cache_root
    from tunefleet.storage.bundle import open_bundle
    from tunefleet.storage.copies import Copies

    copies = Copies(cache_root())
    folder = copies.folder(uri)
    try:
        return open_bundle(folder)
    except ModelError as error:
        copies.forget(folder)
        raise ModelError(
            error.message.replace(str(folder), uri), remedy=error.remedy, problems=error.problems
        ) from None


def _in_store(uri: str) -> Target:
    from tunefleet.storage.keys import split_uri
    from tunefleet.storage.store import open_store

    root, key = split_uri(uri)
    store = open_store(root, Path("/"))

    def result_of(run: str) -> RunResult | None:
        place = f"{run}/{_RESULT.as_posix()}"
        if not run or not store.exists(place):
            return None
        return _parse_result(store.get(place).decode("utf-8", "replace"), f"{root}/{place}")

    if key and store.exists(f"{key}/RUN.json"):
        result = result_of(key)
        if result is None or result.bundle is None:
            raise ModelError(
                f"{uri} has no bundle: the run has not ended well",
                remedy="`tunefleet run` goes on with it",
            )
        # The run may have been copied from elsewhere: its bundle lies in it.
        return Target(fetched_bundle(f"{uri}/bundle/{_last(result.bundle.uri)}"), result)
    if not key or not store.exists(f"{key}/tunefleet/bundle.json"):
        raise ModelError(
            f"{uri} is neither a bundle nor a run's folder",
            remedy="`tunefleet run` prints where the bundle is: s3://…/bundle/<digest>",
        )
    return Target(fetched_bundle(uri), result_of("/".join(key.split("/")[:-2])))


def _last(uri: str) -> str:
    return uri.rstrip("/").rsplit("/", 1)[-1]


def _of_run(folder: Path) -> Target:
    result = _read_result(folder / _RESULT)
    if result is None or result.bundle is None:
        raise ModelError(
            f"{folder} has no bundle: the run has not ended well",
            remedy="`tunefleet run` goes on with it",
        )
    if not result.bundle.path:
        return Target(fetched_bundle(result.bundle.uri), result)
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
            return Target(bundle_folder(result.bundle), result)
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
