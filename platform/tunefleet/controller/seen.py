"""What the controller keeps of each object it watches: a few fields, never the whole.

Decides the projections, read leniently (a newer server or a newer runtime image may say more than
our own models know) and straight from bytes. Specs and facts are not kept: they are read again
when something is made from them. Imports pydantic, ``kube``'s outline, ``api`` and ``channel``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from tunefleet.api.attempt import AttemptResult, Stage
from tunefleet.api.status import JobStatus
from tunefleet.api.words import Command, DeviceType
from tunefleet.channel.schema import Progress
from tunefleet.kube.outline import outline
from tunefleet.render.names import ATTEMPT_LABEL

WORTH_COMPRESSING = 1024
"""Of what is shorter, in bytes, compressing saves less than its time is worth."""
NODE_TYPE = "ray.io/node-type"
"""The label by which KubeRay tells heads from workers."""


class _Lenient(BaseModel):
    model_config = ConfigDict(
        extra="ignore", frozen=True, alias_generator=to_camel, populate_by_name=True
    )


class _Owner(_Lenient):
    uid: str
    controller: bool = False


class Metadata(_Lenient):
    """The part of an object's metadata that is looked at."""

    namespace: str = ""
    name: str
    uid: str
    resource_version: str
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    owner_references: tuple[_Owner, ...] = ()


class Seen(_Lenient):
    """An object as it was last seen."""

    metadata: Metadata

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return self.metadata.namespace

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name

    @property
    def uid(self) -> str:
        """Its uid."""
        return self.metadata.uid

    @property
    def resource_version(self) -> str:
        """The version that was seen."""
        return self.metadata.resource_version

    @property
    def owner_uid(self) -> str | None:
        """The uid of the object that controls it."""
        return next((o.uid for o in self.metadata.owner_references if o.controller), None)

    @property
    def going(self) -> bool:
        """Whether it is being deleted."""
        return self.metadata.deletion_timestamp is not None

    @classmethod
    def read(cls, body: bytes) -> Self:
        """What is known of an object as the server sends it; raises ``ValidationError``."""
        return cls.model_validate_json(_outline(cls)(body), extra="ignore")

    def packed(self) -> bytes:
        """All that is known of it, small."""
        said = self.model_dump_json(by_alias=True, exclude_unset=True).encode()
        return said if len(said) < WORTH_COMPRESSING else zlib.compress(said, level=1)

    @classmethod
    def unpacked(cls, body: bytes) -> Self:
        """What was packed."""
        said = body if body.startswith(b"{") else zlib.decompress(body)
        return cls.model_validate_json(said, extra="ignore")


@cache
def _outline(model: type[Seen]) -> Callable[[bytes], bytes]:
    return outline(model, _Lenient)


class _Wishes(_Lenient):
    suspend: bool = False
    cancel: bool = False


class _Asked(Seen):
    """A FineTuneJob but for its status."""

    spec: _Wishes = _Wishes()


class JobSeen(_Asked):
    """A FineTuneJob; ``status`` as the controller wrote it (empty where it is unreadable)."""

    status: JobStatus = JobStatus()


class _WorkersWanted(_Lenient):
    min: int | None = None


class _Wanted(_Lenient):
    profile: str | None = None
    workers: _WorkersWanted = _WorkersWanted()


class _Manifest(_Lenient):
    spec: _Wanted = _Wanted()


class _PlanSeen(_Lenient):
    workers: int = 0
    device: str = ""


class _Counted(_Lenient):
    """What a profile's limits count, of an attempt's spec."""

    manifest: _Manifest = _Manifest()
    plan: _PlanSeen | None = None

    @property
    def profile(self) -> str:
        """The profile it was made with; "" without one."""
        return self.manifest.spec.profile or ""

    @property
    def gpus(self) -> int:
        """How many GPUs it was planned for."""
        plan = self.plan
        return plan.workers if plan is not None and plan.device == DeviceType.CUDA else 0


class _AttemptSpecSeen(_Counted):
    number: int
    stage: Stage
    command: Command = Command.NONE
    sequence: int = 0


class _AttemptStatusSeen(_Lenient):
    run: str | None = None
    progress: Progress | None = None
    result: AttemptResult | None = None


class AttemptSeen(Seen):
    """A FineTuneAttempt: of its plan and manifest hardly anything, of its facts nothing."""

    spec: _AttemptSpecSeen
    status: _AttemptStatusSeen = _AttemptStatusSeen()

    @property
    def least(self) -> int | None:
        """The fewest workers of its range; None where it has none."""
        return self.spec.manifest.spec.workers.min


class Told(_Lenient):
    """A condition of somebody else's object."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class _RayClusterStatus(_Lenient):
    conditions: list[Told] = []


class _RayJobStatus(_Lenient):
    job_status: str = ""
    job_deployment_status: str = ""
    reason: str = ""
    message: str = ""
    end_time: str | None = None
    ray_cluster_name: str = ""
    ray_cluster_status: _RayClusterStatus = _RayClusterStatus()


class _RayJobSpec(_Lenient):
    suspend: bool = False


class RayJobSeen(Seen):
    """A RayJob. ``Complete`` alone is no success: a stopped job is Complete too.

    ``spec.suspend`` belongs to whoever queues it.
    """

    spec: _RayJobSpec = _RayJobSpec()
    status: _RayJobStatus = _RayJobStatus()

    @property
    def ended(self) -> bool:
        """Whether KubeRay does nothing more with it."""
        return self.status.job_deployment_status in {"Complete", "Failed", "ValidationFailed"}

    @property
    def refused_pods(self) -> str:
        """Why the API server refuses its pods (a quota, a policy); "" while it does not."""
        for condition in self.status.ray_cluster_status.conditions:
            if condition.type == "ReplicaFailure" and condition.status == "True":
                return condition.message
        return ""


class _NamedOwner(_Owner):
    kind: str = ""
    name: str = ""


class _WorkloadMetadata(Metadata):
    owner_references: tuple[_NamedOwner, ...] = ()


class _WorkloadStatus(_Lenient):
    conditions: list[Told] = []


class WorkloadSeen(Seen):
    """What Kueue keeps of a RayJob that it queues."""

    metadata: _WorkloadMetadata
    status: _WorkloadStatus = _WorkloadStatus()

    @property
    def ray_job(self) -> str:
        """The name of the RayJob; "" where it is another kind's Workload."""
        owners = self.metadata.owner_references
        return next((o.name for o in owners if o.controller and o.kind == "RayJob"), "")

    def condition(self, kind: str) -> Told | None:
        """A condition of that type, whatever its status."""
        return next((each for each in self.status.conditions if each.type == kind), None)


class _PrepareStatus(_Lenient):
    conditions: list[Told] = []
    active: int = 0


class PrepareJobSeen(Seen):
    """A Kubernetes Job that prepares."""

    status: _PrepareStatus = _PrepareStatus()

    @property
    def runs(self) -> bool:
        """Whether it has a pod, and may keep it."""
        return self.status.active > 0 and not self.going

    @property
    def failure(self) -> str | None:
        """Why the Job gave up; None while it has not."""
        for condition in self.status.conditions:
            if condition.type == "Failed" and condition.status == "True":
                return condition.message or condition.reason
        return None


class _Terminated(_Lenient):
    reason: str = ""
    message: str = ""
    exit_code: int = 0


class _Waiting(_Lenient):
    reason: str = ""
    message: str = ""


class _ContainerState(_Lenient):
    waiting: _Waiting | None = None
    terminated: _Terminated | None = None


class _Container(_Lenient):
    name: str
    state: _ContainerState = _ContainerState()
    last_state: _ContainerState = _ContainerState()


class _PodSpec(_Lenient):
    node_name: str = ""


class _PodStatus(_Lenient):
    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: list[Told] = []
    container_statuses: list[_Container] = []
    init_container_statuses: list[_Container] = []


class PodSeen(Seen):
    """A pod of an attempt."""

    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()

    @property
    def attempt(self) -> str:
        """The attempt it belongs to."""
        return self.metadata.labels.get(ATTEMPT_LABEL, "")

    @property
    def is_worker(self) -> bool:
        """Whether it is one of a RayCluster's workers."""
        return self.metadata.labels.get(NODE_TYPE) == "worker"

    @property
    def is_head(self) -> bool:
        """Whether it is a RayCluster's head."""
        return self.metadata.labels.get(NODE_TYPE) == "head"

    @property
    def placed(self) -> bool:
        """Whether it has a node."""
        scheduled = self._scheduled
        return bool(self.spec.node_name) or (scheduled is not None and scheduled.status == "True")

    @property
    def unschedulable(self) -> Told | None:
        """In the scheduler's words, why no node has room for it; None while it is not said."""
        told = self._scheduled
        unplaced = told is not None and (told.status, told.reason) == ("False", "Unschedulable")
        return told if unplaced else None

    @property
    def _scheduled(self) -> Told | None:
        return next((c for c in self.status.conditions if c.type == "PodScheduled"), None)

    @property
    def ended(self) -> bool:
        """Whether none of its containers runs or will."""
        return self.status.phase in {"Succeeded", "Failed"}


def counted(spec: Mapping[str, object]) -> tuple[str, int]:
    """The profile and the GPUs of an attempt's spec; "" and none where it has none."""
    found = _Counted.model_validate(spec)
    return found.profile, found.gpus


def workload_seen(body: bytes) -> WorkloadSeen:
    """A Workload; of one that is no RayJob's no more is kept than that it is there."""
    found = WorkloadSeen.read(body)
    if found.ray_job:
        return found
    return found.model_copy(update={"status": _WorkloadStatus()})


def job_seen(body: bytes) -> JobSeen:
    """A FineTuneJob; one whose status somebody spoilt counts as one without."""
    try:
        return JobSeen.read(body)
    except ValidationError:
        asked = _Asked.read(body)
        return JobSeen(metadata=asked.metadata, spec=asked.spec)
