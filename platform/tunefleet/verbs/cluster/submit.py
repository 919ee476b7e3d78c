"""``tunefleet submit``: a job file becomes a FineTuneJob of a cluster.

Decides what is applied: the job as its file and overrides say it, with what lies on this machine
replaced by where it was uploaded to, and nothing written out that the file leaves open. Imports
``data``, ``storage``, ``kube`` and its siblings.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tunefleet.api.base import Document
from tunefleet.api.crd.text import to_yaml
from tunefleet.api.errors import ClusterError, SpecError
from tunefleet.api.job import FineTuneJob
from tunefleet.controller.kinds import FINE_TUNE_JOBS
from tunefleet.controller.seen import JobSeen, job_seen
from tunefleet.kube.errors import ApiError
from tunefleet.verbs.cluster import jobs, uploads
from tunefleet.verbs.cluster.connect import MANAGER, Cluster
from tunefleet.verbs.cluster.uploads import Progress, Upload
from tunefleet.verbs.jobfile import load

if TYPE_CHECKING:
    from rich.console import Console

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_LONGEST = 63
_SUFFIX = 5


@dataclass(frozen=True, slots=True)
class Ready:
    """A job that a cluster takes, and what has to be uploaded first.

    ``namespace`` is the one that the file or the command names, else None.
    """

    manifest: dict[str, object]
    name: str
    namespace: str | None
    place: str
    uploads: tuple[Upload, ...]

    def to_yaml(self) -> str:
        """As ``kubectl apply -f -`` takes it."""
        return to_yaml(self.manifest)


class Submitted(Document):
    """A job that a cluster has taken. ``made`` False: it was there already."""

    name: str
    namespace: str
    made: bool
    changed: bool
    uploaded_bytes: int
    locations: dict[str, str]

    def render(self, console: Console) -> None:
        """What was done, and what can be done next."""
        for field, uri in self.locations.items():
            console.print(f"{field}: {uri}", highlight=False, soft_wrap=True)
        done = (
            "submitted" if self.made else "changed" if self.changed else "there already, as it is"
        )
        where = f"-n {self.namespace} {self.name}"
        console.print(f"{self.name} is {done}", highlight=False, soft_wrap=True)
        console.print(f"next: tunefleet status {where} --watch", highlight=False, soft_wrap=True)
        console.print(f"      tunefleet logs {where} --follow", highlight=False, soft_wrap=True)


def ready(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    upload: str | None = None,
    namespace: str | None = None,
    fresh_name: bool = False,
) -> Ready:
    """Read a job file for a cluster; raises with everything that is wrong with it.

    Asks nothing of the cluster and uploads nothing.
    """
    file = load(path, overrides, refused=uploads.refused)
    job = file.job
    place = uploads.place_of(job, upload)
    found = uploads.found_here(job, file.base, place)
    if upload is not None and not found:
        raise SpecError(
            "--upload has no effect: the job names nothing on this machine",
            remedy="leave --upload out",
        )
    where = _namespace(job, namespace)
    name = _fresh(job.metadata.name) if fresh_name else job.metadata.name
    return Ready(_manifest(job, name, where, found), name, where, place, tuple(found))


async def submit(cluster: Cluster, job: Ready, progress: Progress | None = None) -> Submitted:
    """Upload what is missing, then apply the job.

    A job of this name that has ended is not touched: applying it would do nothing.
    """
    before = await _there(cluster, job.name)
    if before is not None and jobs.is_final(before):
        raise ClusterError(
            f"{job.name} is there already and has ended ({before.status.phase})",
            remedy=f"give the new one another name (--fresh-name, or --set metadata.name=…), or "
            f"`tunefleet delete {job.name}` first; its runs stay",
        )
    sent = uploads.send(job.uploads, job.place, progress) if job.uploads else 0
    answer = await cluster.client.apply(
        FINE_TUNE_JOBS, cluster.namespace, job.name, job.manifest, manager=MANAGER
    )
    after = job_seen(json.dumps(answer).encode())
    return Submitted(
        name=job.name,
        namespace=cluster.namespace,
        made=before is None or before.uid != after.uid,
        changed=before is None or before.metadata.generation != after.metadata.generation,
        uploaded_bytes=sent,
        locations={each.field: each.uri for each in job.uploads},
    )


async def _there(cluster: Cluster, name: str) -> JobSeen | None:
    try:
        found = await cluster.client.get(FINE_TUNE_JOBS, cluster.namespace, name)
    except ApiError as error:
        if error.not_found and error.details.get("name"):
            return None
        raise
    return job_seen(json.dumps(found).encode())


def _namespace(job: FineTuneJob, asked: str | None) -> str | None:
    named = job.metadata.namespace if "namespace" in job.metadata.model_fields_set else None
    if asked is not None and named is not None and asked != named:
        raise SpecError(
            f"the file says metadata.namespace: {named}, the command -n {asked}",
            remedy="remove one of them",
        )
    return asked or named


def _fresh(name: str) -> str:
    """A name that no job has: with a few letters at its end."""
    tail = "".join(secrets.choice(_LETTERS) for _ in range(_SUFFIX))
    return f"{name[: _LONGEST - _SUFFIX - 1].rstrip('-')}-{tail}"


def _manifest(
    job: FineTuneJob, name: str, namespace: str | None, found: Sequence[Upload]
) -> dict[str, object]:
    """What the file says; its open fields are the cluster's to fill in."""
    written = job.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    metadata = {**written["metadata"], "name": name}
    manifest = {**written, "metadata": metadata | ({"namespace": namespace} if namespace else {})}
    for upload in found:
        *above, last = upload.field.split(".")
        holder: dict[str, object] = manifest
        for step in above:
            holder = cast("dict[str, object]", holder[step])
        holder[last] = upload.uri
    return manifest
