"""Fields of the language that this version cannot honour, refused by name.

Decides what is refused and words what to do instead; nothing is ever ignored in silence.
Imports ``api`` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tunefleet.api.base import NO_TIME, Check, Rule
from tunefleet.api.errors import Problem
from tunefleet.api.job import FineTuneJob, JobSpecBase

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
    "spec.suspend": "remove it; Ctrl-C saves and stops, and the same command goes on",
    "spec.cancel": "remove it; Ctrl-C saves and stops",
}
"""Path of each refused field and the remedy; the last five are refused for one value only."""

REFUSED_ON_CLUSTER = {
    "spec.serving": "remove it; `tunefleet serve` serves the job's bundle",
    "spec.budget.maxCost": "set budget.maxDuration; a cluster's prices are not known yet",
    "spec.model.trustRemoteCode": REFUSED["spec.model.trustRemoteCode"],
    "spec.model.method.type": REFUSED["spec.model.method.type"],
    "spec.budget.onExceeded": REFUSED["spec.budget.onExceeded"],
}
"""The same for a cluster, which is not offered these fields at all (the last two: one word)."""

ONE_WORD = {"spec.model.method.type": "qlora", "spec.budget.onExceeded": "Suspend"}
"""Fields of which one word alone is refused."""

STORES = frozenset({"s3", "gs", "az", "abfs", "abfss", "adl"})
"""Schemes of the object stores a location may lie in."""

_STORE = "give s3://, gs:// or az://bucket/…; `tunefleet submit` uploads local data by itself"
IN_STORE = Check(
    f"self.matches('^(?:{'|'.join(sorted(STORES))})://')",
    "`{uri}` lies in no object store, so no cluster can read it",
    (),
    _STORE,
    values={"uri": "self"},
)
RUNS_NAMED = Check(
    "has(self.checkpoints.uri)",
    "is missing: a cluster keeps nothing on a machine of its own",
    ("checkpoints", "uri"),
    "give s3://, gs:// or az://bucket/folder, where the runs shall lie",
)
NAMED_FOR_PODS = Check(
    "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 63",
    "`{name}` cannot name a job's pods and services",
    ("metadata", "name"),
    "give at most 63 lower-case letters, digits and hyphens that begin with a letter",
    values={"name": "self.metadata.name"},
)
LASTS = Check("self.matches('[1-9]')", NO_TIME)
LASTS_OR_COUNTS = Check(
    "type(self) == int || self == 'auto' || string(self).matches('[1-9]')", NO_TIME
)
ONE_TEXT = "`uri` takes one text on a cluster"
"""Rules that a cluster has beyond a laptop's."""

LOCATIONS = (
    "spec.model.uri",
    "spec.model.from.bundle",
    "spec.data.train.uri",
    "spec.data.validation.uri",
    "spec.data.test.uri",
    "spec.checkpoints.uri",
)
"""Every field that holds a location."""

_POD_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
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
    """What this version cannot honour of a job on a laptop; empty: everything."""
    return [*_refused(job.spec, REFUSED), *_locations(job.spec)]


def unsupported_on_cluster(job: FineTuneJob) -> list[Problem]:
    """The same for a cluster, in the words of its API server."""
    spec = job.spec
    problems = list(_refused(spec, REFUSED_ON_CLUSTER))
    name = job.metadata.name
    if not _POD_NAME.fullmatch(name):
        problems.append(_problem("", NAMED_FOR_PODS.broken(name=name)))
    for path, uri in all_locations(spec):
        if isinstance(uri, list):
            remedy = "write one pattern, such as s3://bucket/folder/*.csv"
            problems.append(Problem(ONE_TEXT, path, remedy))
        elif path == "spec.checkpoints.uri" and "uri" not in spec.checkpoints.model_fields_set:
            problems.append(_problem("spec", RUNS_NAMED.broken()))
        elif uri is not None and not in_store(uri):
            problems.append(_problem(path, IN_STORE.broken(uri=uri)))
    return problems


def _problem(path: str, rule: Rule) -> Problem:
    where = ".".join(filter(None, (path, *map(str, rule.at))))
    return Problem(rule.message, where, rule.remedy)


def _refused(spec: JobSpecBase, remedies: Mapping[str, str]) -> Iterator[Problem]:
    budget, resources = spec.budget, spec.workers.resources
    present = {
        "spec.profile": spec.profile is not None,
        "spec.credentials": spec.credentials is not None,
        "spec.serving": spec.serving is not None,
        "spec.serving.service": spec.serving is not None and spec.serving.service is not None,
        "spec.suspend": spec.suspend,
        "spec.cancel": spec.cancel,
        "spec.workers.min": spec.workers.min is not None,
        "spec.workers.max": spec.workers.max is not None,
        "spec.workers.resources.memory": resources.memory is not None,
        "spec.model.trustRemoteCode": spec.model.trust_remote_code,
        "spec.model.method.type": spec.model.method.type == "qlora",
        "spec.budget.maxCost": budget is not None and budget.max_cost is not None,
        "spec.budget.onExceeded": budget is not None and budget.on_exceeded == "Suspend",
    }
    switches = ("spec.model.trustRemoteCode", "spec.suspend", "spec.cancel")
    values = dict.fromkeys(switches, "true") | ONE_WORD
    for path, remedy in remedies.items():
        if present[path]:
            name = path.rpartition(".")[2]
            value = f": {values[path]}" if path in values else ""
            yield Problem(f"`{name}{value}` is not supported in this version", path, remedy)


def all_locations(spec: JobSpecBase) -> Iterator[tuple[str, str | list[str] | None]]:
    """Every field that holds a location, and what it says."""
    data = spec.data
    yield "spec.model.uri", spec.model.uri
    yield "spec.model.from.bundle", spec.model.from_.bundle if spec.model.from_ else None
    yield "spec.data.train.uri", data.train.uri
    yield "spec.data.validation.uri", data.validation.uri
    yield "spec.data.test.uri", data.test.uri if data.test else None
    yield "spec.checkpoints.uri", spec.checkpoints.uri


def _locations(spec: JobSpecBase) -> Iterator[Problem]:
    for path, uri in all_locations(spec):
        if uri is None or isinstance(uri, str):
            yield from _location(path, uri)
        else:
            for index, each in enumerate(uri):
                yield from _location(f"{path}[{index}]", each)


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
