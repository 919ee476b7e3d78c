"""Local data and models on their way to the cluster: what is uploaded, under which name.

Decides that what lies on this machine is put under its content's digest
(``<place>/sha256-<digest>/<name>``), so that the same rows are uploaded once and a job's location
never changes its meaning. Several files keep their order: their names get a number. Imports
``data`` and ``storage``.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tunefleet.api.errors import DataError, Problem, SpecError
from tunefleet.api.job import FineTuneJob, HeldOutSpec, SourceSpec
from tunefleet.api.support import all_locations, in_store, unsupported_on_cluster
from tunefleet.data.cache import cache_root, digest_file
from tunefleet.data.model_files import PICKLES, check_model
from tunefleet.data.problems import Problems
from tunefleet.data.sources import local_path, resolve
from tunefleet.storage.bundle import open_bundle
from tunefleet.storage.store import Store, open_store

Progress = Callable[[str, int, int], None]

BELOW_RUNS = "_uploads"
"""The folder beside the runs; no namespace can be called so."""

_RUNS = "spec.checkpoints.uri"
_MODEL = "spec.model.uri"
_BUNDLE = "spec.model.from.bundle"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine and its key below the place of uploads."""

    path: Path
    key: str
    size: int
    sha: str


@dataclass(frozen=True, slots=True)
class Upload:
    """What one field of a job names on this machine, and where it will lie."""

    field: str
    uri: str
    files: tuple[LocalFile, ...]


def refused(job: FineTuneJob) -> list[Problem]:
    """What a cluster cannot honour of a job, but for what uploading mends."""
    mended = set(_local_fields(job))
    return [problem for problem in unsupported_on_cluster(job) if problem.where not in mended]


def found_here(job: FineTuneJob, base: Path, place: str) -> list[Upload]:
    """Everything that a job names on this machine; raises with all that is wrong with it.

    Reads the files for their digests; uploads nothing.
    """
    problems = Problems()
    _hub_folders(job, base, problems)
    uploads = []
    data = job.spec.data
    sources: dict[str, SourceSpec | HeldOutSpec | None] = {
        "spec.data.train": data.train,
        "spec.data.validation": data.validation,
        "spec.data.test": data.test,
    }
    for field in _local_fields(job):
        source = sources.get(field.removesuffix(".uri"))
        if source is not None:
            resolved = resolve(source, base, field.removesuffix(".uri"), problems)
            if resolved is not None:
                paths = [file.path for file in resolved.files]
                uploads.append(_rows(field, paths, place))
        else:
            uploads.append(_folder(job, field, base, place))
    problems.raise_if_any("the job names what is not there")
    return uploads


def send(uploads: Sequence[Upload], place: str, progress: Progress | None = None) -> int:
    """Upload what is not there yet; how many bytes that were."""
    store = open_store(place, Path("/"))
    missing = []
    for file in {file.key: file for upload in uploads for file in upload.files}.values():
        there = store.entry(file.key)
        # An object is whole or not there, and its key holds the digest of what it should be.
        if there is None or there.size != file.size:
            missing.append(file)
    total, done = sum(file.size for file in missing), 0
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="upload") as pool:
        pending = [pool.submit(_put, store, file) for file in missing]
        for file, future in zip(missing, pending, strict=True):
            future.result()
            done += file.size
            if progress is not None:
                progress("uploading (MiB)", done >> 20, max(1, total >> 20))
    return total


def _put(store: Store, file: LocalFile) -> None:
    _, sha = store.write(file.key, file.path)
    if sha != file.sha:
        store.delete([file.key])
        raise DataError(
            f"{file.path} changed while it was uploaded",
            remedy="run again when nobody writes to it",
        )


def place_of(job: FineTuneJob, given: str | None) -> str:
    """Where uploads go: where it was said, or beside the job's runs."""
    if given is None:
        return f"{job.spec.checkpoints.uri.rstrip('/')}/{BELOW_RUNS}"
    if not in_store(given):
        raise SpecError(
            f"--upload {given} lies in no object store, so no cluster can read it",
            remedy="give s3://, gs:// or az://bucket/prefix",
        )
    return given.rstrip("/")


# -- what lies here --------------------------------------------------------------------


def _local_fields(job: FineTuneJob) -> Iterator[str]:
    """The fields whose locations are all on this machine."""
    for field, uri in all_locations(job.spec):
        named = [uri] if isinstance(uri, str) else uri or []
        if field != _RUNS and named and all(_is_local(each) for each in named):
            yield field


def _is_local(uri: str) -> bool:
    return uri.startswith("file:///") or _SCHEME.match(uri) is None


def _hub_folders(job: FineTuneJob, base: Path, problems: Problems) -> None:
    """A name of the hub that is a folder here would be something else, or nothing, in a pod."""
    spec = job.spec
    named = {"spec.model": spec.model.name}
    for part in ("train", "validation", "test"):
        source = getattr(spec.data, part)
        named[f"spec.data.{part}.hub"] = source.hub.name if source and source.hub else None
    for where, name in named.items():
        marker = "config.json" if where == "spec.model" else "."
        if name is not None and (base / name).is_dir() and (base / name / marker).exists():
            problems.add(
                "folder",
                f"{name!r} is a folder beside the job file, and a name of the hub to a cluster",
                where=f"{where}.name",
                remedy=f"name it by uri (uri: {name}, or its files), so that it is uploaded",
            )


def _rows(field: str, paths: Sequence[Path], place: str) -> Upload:
    """Files of rows. One pattern names several of them, in the order in which they are read."""
    sums = [digest_file(path, cache_root()) for path in paths]
    if len(paths) == 1:
        key = f"sha256-{sums[0]}/{_safe(paths[0].name)}"
        return Upload(field, f"{place}/{key}", (_file(paths[0], key, sums[0]),))
    names = [f"{at:05}-{_safe(path.name)}" for at, path in enumerate(paths)]
    folder = f"sha256-{_fold(names, sums)}"
    return Upload(field, f"{place}/{folder}/*", _files(paths, names, sums, folder))


def _folder(job: FineTuneJob, field: str, base: Path, place: str) -> Upload:
    """A model's or a bundle's folder: what will be read of it."""
    uri = dict(all_locations(job.spec))[field]
    assert isinstance(uri, str)
    path = local_path(uri, base).resolve()
    check_model(path)
    if field == _BUNDLE:
        open_bundle(path)
    skipped = () if field == _BUNDLE else PICKLES
    found = sorted(
        each
        for each in path.rglob("*")
        if each.is_file()
        and not any(part.startswith(".") for part in each.relative_to(path).parts)
        and not any(fnmatch.fnmatchcase(each.name, pattern) for pattern in skipped)
    )
    names = [each.relative_to(path).as_posix() for each in found]
    sums = [digest_file(each, cache_root()) for each in found]
    # A bundle's folder is called by the bundle's digest, and goes on to be.
    folder = f"sha256-{_fold(names, sums)}/{_safe(path.name)}"
    return Upload(field, f"{place}/{folder}", _files(found, names, sums, folder))


def _files(
    paths: Sequence[Path], names: Sequence[str], sums: Sequence[str], folder: str
) -> tuple[LocalFile, ...]:
    each = zip(paths, names, sums, strict=True)
    return tuple(_file(path, f"{folder}/{name}", sha) for path, name, sha in each)


def _file(path: Path, key: str, sha: str) -> LocalFile:
    return LocalFile(path, key, path.stat().st_size, sha)


def _safe(name: str) -> str:
    """A name without anything that a pattern, a URI or a store reads in its own way."""
    return _UNSAFE.sub("_", name).lstrip(".") or "_"


def _fold(names: Sequence[str], sums: Sequence[str]) -> str:
    sha = hashlib.sha256()
    for name, digest in zip(names, sums, strict=True):
        sha.update(f"{name}\0{digest}\n".encode())
    return sha.hexdigest()
