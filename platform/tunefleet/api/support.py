"""Fields of the language that this version cannot honour, refused by name.

Decides what is refused and words what to do instead; nothing is ever ignored in silence.
Imports ``api`` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunefleet.api.errors import Problem
from tunefleet.api.job import FineTuneJob, HeldOutSpec, JobSpecBase, SourceSpec

REFUSED = {
    "spec.profile": "describe the machine under workers.resources, or leave it to the plan",
    "spec.credentials": "give credentials in the environment of the command",
    "spec.serving.service": "remove it; `tunefleet serve` serves the run's bundle",
    "spec.workers.min": "give workers.count instead of a range",
    "spec.workers.max": "give workers.count instead of a range",
    "spec.workers.resources.memory": "remove it; `tunefleet plan` shows what a worker needs",
    "spec.model.trustRemoteCode": (
        "remove it; code from a model repository is never run, so choose a model that "
        "transformers knows itself"
    ),
    "spec.model.method.type": "set type: lora (or full)",
    "spec.budget.onExceeded": "set onExceeded: CheckpointAndStop; a later run goes on from there",
}
"""Path of each refused field and the remedy; the last three are refused for one value only."""

REFUSED_ON_CLUSTER = {
    "spec.profile": "describe the machine under workers.resources",
    "spec.serving": "remove it; `tunefleet serve` serves the job's bundle",
    "spec.budget.maxCost": "set budget.maxDuration; a cluster's prices are not known yet",
    "spec.workers.min": REFUSED["spec.workers.min"],
    "spec.workers.max": REFUSED["spec.workers.max"],
    "spec.workers.resources.memory": "remove it; the plan asks for what a worker needs",
    "spec.model.trustRemoteCode": REFUSED["spec.model.trustRemoteCode"],
    "spec.model.method.type": REFUSED["spec.model.method.type"],
    "spec.budget.onExceeded": REFUSED["spec.budget.onExceeded"],
}
"""The same for a cluster, which is not offered these fields at all (the last two: one word)."""

ONE_WORD = {"spec.model.method.type": "qlora", "spec.budget.onExceeded": "Suspend"}
"""Fields of which one word alone is refused."""

STORES = frozenset({"s3", "gs", "az", "abfs", "abfss", "adl"})
"""Schemes of the object stores a location may lie in."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://|(?=\w+/))")
_LOCAL = (
    "give a path (relative to the job's file, or absolute), file:///…, or s3://, gs:// or "
    "az://bucket/…"
)
_CLAIM = (
    "a volume claim exists in a cluster only: on this machine give a folder, or s3://, gs:// or "
    "az://bucket/…"
)


def in_store(location: str) -> bool:
    """Whether a location lies in an object store, not on this machine."""
    return location.partition("://")[0] in STORES


def unsupported(job: FineTuneJob) -> list[Problem]:
    """What this version cannot honour of a job; empty: everything."""
    return [*_fields(job.spec), *_locations(job.spec)]


def _fields(spec: JobSpecBase) -> Iterator[Problem]:
    resources = spec.workers.resources
    present = {
        "spec.profile": spec.profile is not None,
        "spec.credentials": spec.credentials is not None,
        "spec.serving.service": spec.serving is not None and spec.serving.service is not None,
        "spec.workers.min": spec.workers.min is not None,
        "spec.workers.max": spec.workers.max is not None,
        "spec.workers.resources.memory": resources.memory is not None,
        "spec.model.trustRemoteCode": spec.model.trust_remote_code,
        "spec.model.method.type": spec.model.method.type == "qlora",
        "spec.budget.onExceeded": spec.budget is not None and spec.budget.on_exceeded == "Suspend",
    }
    for path, is_present in present.items():
        if is_present:
            value = {
                "spec.model.trustRemoteCode": ": true",
                "spec.model.method.type": ": qlora",
                "spec.budget.onExceeded": ": Suspend",
            }.get(path, "")
            name = path.rpartition(".")[2]
            yield Problem(f"`{name}{value}` is not supported in this version", path, REFUSED[path])


def _locations(spec: JobSpecBase) -> Iterator[Problem]:
    yield from _location("spec.model.uri", spec.model.uri)
    if spec.model.from_ is not None:
        yield from _location("spec.model.from.bundle", spec.model.from_.bundle)
    yield from _source("spec.data.train", spec.data.train)
    yield from _source("spec.data.validation", spec.data.validation)
    if spec.data.test is not None:
        yield from _source("spec.data.test", spec.data.test)
    yield from _location("spec.checkpoints.uri", spec.checkpoints.uri)


def _source(path: str, source: SourceSpec | HeldOutSpec) -> Iterator[Problem]:
    if source.uri is None or isinstance(source.uri, str):
        yield from _location(f"{path}.uri", source.uri)
    else:
        for index, uri in enumerate(source.uri):
            yield from _location(f"{path}.uri[{index}]", uri)


def _location(path: str, uri: str | None) -> Iterator[Problem]:
    if uri is None:
        return
    match = _SCHEME.match(uri)
    scheme = match[1] if match else ""
    if uri.startswith("file:"):
        if not uri.startswith("file:///"):
            yield Problem(f"`{uri}` names no absolute path", path, "write file:///folder/name")
    elif match and len(scheme) > 1 and scheme not in STORES:
        remedy = _CLAIM if scheme == "pvc" else _LOCAL
        yield Problem(f"`{scheme}` locations are not supported in this version", path, remedy)
