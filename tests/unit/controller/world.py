"""A small cluster in memory: what a decision stands on, and who acts beside the controller.

Plays the API server (names are taken once, uids are new each time), the garbage collector, the
prepare pod, KubeRay (in the words recorded from it) and the driver, each as single steps that a
test puts into any order. The controller may look at an old copy of it, and may be killed before
or after each of its writes.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from tests import rayjobs
from tests.plans import job_values, some_facts
from tunefleet.api.attempt import AttemptSpec
from tunefleet.api.errors import Problem
from tunefleet.api.job import FineTuneJob
from tunefleet.api.profile import ProfileSpec, with_defaults
from tunefleet.controller.jobs.decide import decide
from tunefleet.controller.jobs.decision import Decision
from tunefleet.controller.jobs.language import judge
from tunefleet.controller.jobs.observe import Observed, Spec, wants_spec
from tunefleet.controller.jobs.placing import PATIENCE_SECONDS
from tunefleet.controller.jobs.training import LONGEST_PAUSE
from tunefleet.controller.seen import (
    NODE_TYPE,
    AttemptSeen,
    PodSeen,
    PrepareJobSeen,
    RayJobSeen,
    Seen,
    job_seen,
)
from tunefleet.plan.facts import Facts
from tunefleet.render.settings import Runtime

RUNTIME = Runtime(image="tunefleet-runtime:test")
NAMESPACE = "default"

SeenT = TypeVar("SeenT", bound=Seen)

Objects = dict[tuple[str, str], dict[str, Any]]


class Killed(Exception):
    """The controller was killed here."""


def a_cluster_job(**changes: object) -> dict[str, object]:
    """A job that a cluster can honour, as JSON values."""
    values = job_values(
        model={"uri": "s3://models/minilm"},
        data={"train": {"uri": "s3://data/reviews.csv"}},
        checkpoints={"uri": "s3://models/runs"},
        **{"workers": {"count": 2}, **changes},
    )
    return values


@dataclass
class World:
    """The objects by (kind, name), and the time. ``room``: so many workers find a place at once."""

    objects: Objects = field(default_factory=dict)
    now: datetime = datetime(2026, 11, 28, tzinfo=UTC)
    kuberay: bool = True
    place: int | None = None
    too_old: str = ""
    profile: ProfileSpec | None = None
    gpus_of_others: int = 0
    room: int = 0
    created: list[tuple[str, str]] = field(default_factory=list)
    _uids: itertools.count[int] = field(default_factory=lambda: itertools.count(10_000))
    _versions: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    # -- the API server ------------------------------------------------------------------

    def put(self, kind: str, body: Mapping[str, object]) -> bool:
        """Make an object; False when its name is taken."""
        made = copy.deepcopy(dict(body))
        metadata = made["metadata"]
        assert isinstance(metadata, dict)
        key = (kind, str(metadata["name"]))
        if key in self.objects:
            return False
        metadata.update(
            uid=f"uid{next(self._uids)}",
            resourceVersion=str(next(self._versions)),
            generation=1,
            namespace=NAMESPACE,
        )
        self.objects[key] = made
        self.created.append(key)
        return True

    def touch(self, key: tuple[str, str], status: Mapping[str, object]) -> None:
        """Merge into an object's status."""
        found = self.objects[key]
        merged = {**found.get("status", {}), **status}
        found["status"] = {name: value for name, value in merged.items() if value is not None}
        found["metadata"]["resourceVersion"] = str(next(self._versions))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind by name."""
        return [self.objects[key] for key in sorted(self.objects) if key[0] == kind]

    def collect_garbage(self) -> None:
        """Take away what has lost its owner."""
        while True:
            uids = {o["metadata"]["uid"] for o in self.objects.values()}
            orphans = [
                key
                for key, found in self.objects.items()
                if any(r["uid"] not in uids for r in found["metadata"].get("ownerReferences", []))
            ]
            if not orphans:
                return
            for key in orphans:
                del self.objects[key]

    # -- the controller --------------------------------------------------------------------

    def copy(self) -> Objects:
        """What a cache holds now."""
        return copy.deepcopy(self.objects)

    def reconcile(self, cached: Objects | None = None, *, killed_at: int | None = None) -> Decision:
        """One look and its writes; Killed before the write with that number (0, 1, 2)."""
        seen = self.observed(cached)
        decision = decide(seen, RUNTIME, self.now)
        writes = 0

        def alive() -> None:
            nonlocal writes
            if killed_at == writes:
                raise Killed
            writes += 1

        if decision.create is not None:
            alive()
            self.put(decision.create.resource.kind, decision.create.body)
        if decision.delete is not None:
            alive()
            key = (decision.delete.resource.kind, decision.delete.name)
            found = self.objects.get(key)
            if found is not None and found["metadata"]["uid"] == decision.delete.uid:
                del self.objects[key]
        if decision.ask is not None:
            alive()
            told = self.objects["FineTuneAttempt", decision.ask.attempt]["spec"]
            told.update(command=decision.ask.command.value, sequence=decision.ask.sequence)
        wanted = decision.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        known = seen.seen.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        if wanted != known:
            alive()
            key = ("FineTuneJob", seen.seen.name)
            if self.objects[key]["metadata"]["resourceVersion"] == seen.seen.resource_version:
                self.objects[key]["status"] = wanted
                self.objects[key]["metadata"]["resourceVersion"] = str(next(self._versions))
        alive()
        return decision

    def observed(self, cached: Objects | None = None) -> Observed:
        """What the controller sees: caches of some moment, and reads of now."""
        world = self.objects if cached is None else cached
        job = next(o for key, o in world.items() if key[0] == "FineTuneJob")
        uid = job["metadata"]["uid"]
        attempts = tuple(
            sorted(
                (
                    _kept(AttemptSeen.read, o)
                    for key, o in world.items()
                    if key[0] == "FineTuneAttempt"
                    and o["metadata"]["ownerReferences"][0]["uid"] == uid
                ),
                key=lambda attempt: attempt.spec.number,
            )
        )
        first = attempts[0] if attempts else None
        prepare = world.get(("Job", first.name)) if first else None
        seen = Observed(
            seen=_kept(job_seen, job),
            attempts=attempts,
            prepare_job=_kept(PrepareJobSeen.read, prepare) if prepare else None,
            ray_jobs={
                a.name: _kept(RayJobSeen.read, world["RayJob", a.name])
                for a in attempts
                if ("RayJob", a.name) in world
            },
            pods={a.name: _pods(world, a.name) for a in attempts},
            place=self.place,
            kuberay=self.kuberay,
        )
        if not wants_spec(seen):
            return seen
        live = self.objects["FineTuneJob", job["metadata"]["name"]]
        asked, problems = judge(live)
        return Observed(
            seen=_kept(job_seen, live),
            spec=self._under_profile(asked, tuple(problems)),
            attempts=attempts,
            facts=self._facts(first.name) if first else None,
            frozen=self._frozen(attempts[-1].name) if attempts else None,
            prepare_job=seen.prepare_job,
            ray_jobs=seen.ray_jobs,
            pods=seen.pods,
            place=self.place,
            kuberay=self.kuberay,
            too_old="" if attempts else self.too_old,
            gpus_of_others=self.gpus_of_others,
        )

    def _under_profile(self, job: FineTuneJob | None, problems: tuple[Problem, ...]) -> Spec:
        if job is None or self.profile is None:
            return Spec(job, problems)
        return Spec(with_defaults(job, self.profile), (), self.profile)

    def _facts(self, name: str) -> Facts | None:
        found = self.objects.get(("FineTuneAttempt", name), {}).get("status", {})
        if "result" not in found or "facts" not in found:
            return None
        return Facts.from_json(json.dumps(found["facts"]))

    def _frozen(self, name: str) -> AttemptSpec:
        spec = self.objects["FineTuneAttempt", name]["spec"]
        return AttemptSpec.from_json(json.dumps(spec))

    @property
    def _stamp(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    # -- everybody else --------------------------------------------------------------------

    def live_writers(self) -> set[str]:
        """Attempts that train and have a pod that may still write."""
        return {
            o["metadata"]["labels"]["tunefleet.dev/attempt"]
            for o in self.of("Pod")
            if o["status"]["phase"] == "Running" and "train" in o["metadata"]["name"]
        }

    def prepare_pod_ends(self) -> None:
        """The newest prepare Job's pod publishes facts and a result."""
        for job in self.of("Job"):
            key = ("FineTuneAttempt", job["metadata"]["name"])
            if "result" not in self.objects[key].get("status", {}):
                published = some_facts().model_dump(mode="json", by_alias=True)
                self.touch(key, {"run": "run-0001", "facts": published})
                self.touch(key, {"result": {"phase": "Succeeded", "message": "fine"}})

    def kuberay_starts(self) -> None:
        """KubeRay makes the pods of RayJobs that have none; there is room for those that wait."""
        for ray_job in self.of("RayJob"):
            name = ray_job["metadata"]["name"]
            stage = ray_job.get("status", {}).get("jobDeploymentStatus")
            waits = ("Pod", f"{name}-head") in self.objects
            if stage and not (waits and stage in {"Initializing", "Running"}):
                continue
            self._take_pods(name)
            self.touch(("RayJob", name), rayjobs.running())
            self._pod(f"{name}-train", name, {"phase": "Running"})

    def some_have_no_place(self) -> None:
        """KubeRay makes the pods of RayJobs that have none, more than there is room for."""
        for ray_job in self.of("RayJob"):
            name = ray_job["metadata"]["name"]
            workers = _workers(ray_job)
            if workers > self.room and not ray_job.get("status", {}).get("jobDeploymentStatus"):
                self.touch(("RayJob", name), {"jobDeploymentStatus": "Initializing"})
                self._pods_that_wait(name, workers, self.room)

    def a_worker_finds_no_place_again(self) -> None:
        """The node of a worker is lost, and there is no other: training stands still."""
        name = self.training()
        if name is not None and ("RayJob", name) in self.objects:
            workers = _workers(self.objects["RayJob", name])
            self._take_pods(name)
            self._pods_that_wait(name, workers, workers - 1)

    def _pods_that_wait(self, attempt: str, workers: int, placed: int) -> None:
        stamp = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        self._pod(f"{attempt}-head", attempt, {"phase": "Running"}, "head")
        for index in range(workers):
            has = index < placed
            told = {
                "type": "PodScheduled",
                "status": str(has),
                "reason": "" if has else "Unschedulable",
                "message": "" if has else "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
                "lastTransitionTime": stamp,
            }
            status = {"phase": "Running" if has else "Pending", "conditions": [told]}
            self._pod(f"{attempt}-worker-{index}", attempt, status, "worker")

    def _pod(
        self, name: str, attempt: str, status: Mapping[str, object], role: str = "worker"
    ) -> None:
        labels = {"tunefleet.dev/attempt": attempt, "tunefleet.dev/job": "reviews"}
        metadata = {"name": name, "labels": {**labels, NODE_TYPE: role}}
        spec = {"nodeName": "node"} if status["phase"] == "Running" else {}
        self.put("Pod", {"metadata": metadata, "spec": spec, "status": status})

    def _take_pods(self, attempt: str) -> None:
        for pod in self.of("Pod"):
            if pod["metadata"]["labels"]["tunefleet.dev/attempt"] == attempt:
                del self.objects["Pod", pod["metadata"]["name"]]

    def training(self) -> str | None:
        """The attempt whose pods run and that has not ended."""
        for name in sorted(self.live_writers()):
            attempt = self.objects.get(("FineTuneAttempt", name))
            if attempt is not None and "result" not in attempt.get("status", {}):
                return name
        return None

    def progresses(self) -> None:
        """The driver says how far it is, and that a checkpoint is safe."""
        name = self.training()
        if name is not None:
            key = ("FineTuneAttempt", name)
            before = self.objects[key].get("status", {}).get("progress", {})
            step = before.get("step", self._safe_step()) + 10
            progress = {
                "phase": "Running",
                "step": step,
                "totalSteps": 100,
                "epoch": step / 100,
                "epochs": 1,
                "workers": 2,
                "checkpointStep": step,
            }
            self.touch(key, {"progress": progress})

    def _safe_step(self) -> int:
        steps = [
            a.get("status", {}).get("progress", {}).get("checkpointStep", 0)
            for a in self.of("FineTuneAttempt")
        ]
        return max(steps, default=0)

    def finishes(self) -> None:
        """The driver ends well."""
        name = self.training()
        if name is not None:
            bundle = {"uri": "s3://models/bundle", "digest": "sha256:b"}
            result = {"phase": "Succeeded", "step": 100, "bundle": bundle}
            self.touch(("FineTuneAttempt", name), {"result": result})

    def stops_if_asked(self) -> None:
        """The driver saves and stops when its attempt was told to."""
        name = self.training()
        if name is not None:
            key = ("FineTuneAttempt", name)
            if self.objects[key]["spec"].get("command") == "CheckpointAndStop":
                step = self.objects[key].get("status", {}).get("progress", {}).get("step", 0)
                self.touch(key, {"result": {"phase": "Stopped", "step": step}})

    def runs_out_of_memory(self) -> None:
        """A worker uses more memory than it may."""
        name = self.training()
        if name is not None:
            result = {"phase": "Failed", "failure": "outOfMemory", "message": "out of memory"}
            self.touch(("FineTuneAttempt", name), {"result": result})

    def wishes(self, **spec: bool) -> None:
        """The user edits ``spec.suspend`` or ``spec.cancel``."""
        job = self.of("FineTuneJob")[0]
        job["spec"].update(spec)
        job["metadata"]["generation"] += 1
        job["metadata"]["resourceVersion"] = str(next(self._versions))

    def fails(self) -> None:
        """The driver ends with a failure that a retry can mend."""
        name = self.training()
        if name is not None:
            result = {"phase": "Failed", "failure": "infrastructure", "message": "a lost worker"}
            self.touch(("FineTuneAttempt", name), {"result": result})

    def is_fenced(self) -> None:
        """The driver finds that a higher number has its run in storage."""
        name = self.training()
        if name is not None:
            result = {"phase": "Failed", "failure": "fenced", "message": "taken over by attempt 2"}
            self.touch(("FineTuneAttempt", name), {"result": result})

    def clock_jumps(self, hours: int) -> None:
        """Somebody sets the controller's clock."""
        self.now += timedelta(hours=hours)

    def head_is_killed(self) -> None:
        """The head goes without a word; KubeRay notices."""
        name = self.training()
        if name is not None:
            self.objects["Pod", f"{name}-train"]["status"] = {"phase": "Failed"}
            if ("RayJob", name) in self.objects:
                said = rayjobs.said("loses its head", "Failed", self._stamp)
                self.touch(("RayJob", name), said)

    def ray_job_is_deleted(self) -> None:
        """Somebody deletes the RayJob by hand; its pods go a moment later."""
        name = self.training()
        if name is not None:
            self.objects.pop(("RayJob", name), None)
            del self.objects["Pod", f"{name}-train"]

    def preparing_is_deleted(self) -> None:
        """Somebody deletes the attempt that prepared; its Job goes with it."""
        for attempt in self.of("FineTuneAttempt"):
            if attempt["spec"]["number"] == 0:
                del self.objects["FineTuneAttempt", attempt["metadata"]["name"]]
        self.collect_garbage()

    def kuberay_cleans(self) -> None:
        """KubeRay ends the RayJobs whose driver has ended, and takes their pods away."""
        for attempt in self.of("FineTuneAttempt"):
            name = attempt["metadata"]["name"]
            key = ("RayJob", name)
            ended = self.objects.get(key, {}).get("status", {}).get("jobDeploymentStatus")
            if key in self.objects and ("result" in attempt.get("status", {}) or ended == "Failed"):
                if ended == "Running":
                    well = attempt["status"]["result"]["phase"] != "Failed"
                    life: rayjobs.Life = "ends well" if well else "fails"
                    stage = "Complete" if well else "Failed"
                    self.touch(key, rayjobs.said(life, stage, self._stamp))
                self._take_pods(name)
            if key not in self.objects:
                self._take_pods(name)

    def waits(self) -> None:
        """A minute goes by."""
        self.now += timedelta(seconds=60)

    def waits_for_places(self) -> None:
        """Longer goes by than places are waited for."""
        self.now += timedelta(seconds=PATIENCE_SECONDS + 1)

    def goes_on_to_its_end(self, limit: int = 400) -> None:
        """Everybody does their part until nothing has changed for longer than any pause."""
        quiet = 0
        for _ in range(limit):
            before = copy.deepcopy(self.objects)
            self.reconcile()
            self.prepare_pod_ends()
            self.kuberay_cleans()
            self.kuberay_starts()
            self.progresses()
            self.stops_if_asked()
            self.finishes()
            self.waits()
            quiet = quiet + 1 if self.objects == before else 0
            if quiet > LONGEST_PAUSE // 60 + 1:
                return
        raise AssertionError("the job never came to rest")


def _kept(read: Callable[[bytes], SeenT], body: Mapping[str, object]) -> SeenT:
    """An object as a cache gives it out."""
    seen = read(json.dumps(body).encode())
    return type(seen).unpacked(seen.packed())


def _workers(ray_job: Mapping[str, Any]) -> int:
    (group,) = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    return int(group["replicas"])


def _pods(world: Objects, attempt: str) -> tuple[PodSeen, ...]:
    return tuple(
        _kept(PodSeen.read, o)
        for key, o in sorted(world.items())
        if key[0] == "Pod" and o["metadata"]["labels"]["tunefleet.dev/attempt"] == attempt
    )
