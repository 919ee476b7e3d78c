"""The kinds a cluster gets: their names, their columns, and what of the models is offered.

Decides how ``kubectl get`` shows a job and an attempt, which fields stay as they were made, and
what a cluster asks beyond a laptop. A kind or field without a controller is not here. Imports
``api`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from pydantic import BaseModel

from tunefleet.api.attempt import AttemptSpec, AttemptStatus
from tunefleet.api.base import Check
from tunefleet.api.crd.structural import Offer, Schema, structural
from tunefleet.api.job import API_VERSION, FineTuneJob, FineTuneJobSpec
from tunefleet.api.profile import ProfileSpec
from tunefleet.api.status import JobStatus
from tunefleet.api.support import (
    IN_STORE,
    LASTS,
    LASTS_OR_COUNTS,
    LOCATIONS,
    NAMED_FOR_PODS,
    ONE_WORD,
    REFUSED_ON_CLUSTER,
    RUNS_NAMED,
)

GROUP, _, VERSION = API_VERSION.partition("/")
SPEC = "spec."


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``; ``wide`` ones are shown with ``-o wide`` only."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False

    def manifest(self) -> Schema:
        """As a CustomResourceDefinition has it."""
        shown: Schema = {"name": self.name, "type": self.type, "jsonPath": self.path}
        return shown | ({"priority": 1} if self.wide else {})


_AS_IT_WAS = Check(
    "",
    "cannot change while the job is there",
    (),
    "delete the job and apply it anew, or give it another name",
)
_AS_MADE = Check(
    "", "stays as the attempt was made", (), "leave it alone; the controller makes the next attempt"
)
_NEWER = Check(
    "self.sequence >= oldSelf.sequence",
    "is older than the command that was given before",
    ("sequence",),
    "give a higher sequence with every command",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A custom resource: what it is called, shaped like and shown as."""

    kind: str
    plural: str
    short: str
    summary: str
    spec: type[BaseModel]
    status: type[BaseModel] | None
    columns: Sequence[Column]
    offer: Offer = field(default_factory=Offer)
    changeable: frozenset[str] = frozenset()
    unchanged: Check | None = field(default=_AS_IT_WAS)
    checks: Sequence[Check] = ()
    namespaced: bool = True

    @property
    def name(self) -> str:
        """The definition's own name."""
        return f"{self.plural}.{GROUP}"

    def manifest(self, meanings: Mapping[str, str]) -> Schema:
        """The CustomResourceDefinition; ``meanings`` describe fields by their whole path."""
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.name},
            "spec": {
                "group": GROUP,
                "names": {
                    "kind": self.kind,
                    "listKind": f"{self.kind}List",
                    "plural": self.plural,
                    "singular": self.kind.lower(),
                    "shortNames": [self.short],
                    "categories": ["tunefleet"],
                },
                "scope": "Namespaced" if self.namespaced else "Cluster",
                "versions": [self._version(meanings)],
            },
        }

    def _version(self, meanings: Mapping[str, str]) -> Schema:
        return {
            "name": VERSION,
            "served": True,
            "storage": True,
            **({"subresources": {"status": {}}} if self.status else {}),
            "additionalPrinterColumns": [column.manifest() for column in self.columns],
            "schema": {"openAPIV3Schema": self._schema(meanings)},
        }

    def _schema(self, meanings: Mapping[str, str]) -> Schema:
        own = {
            path.removeprefix(SPEC): meaning
            for path, meaning in meanings.items()
            if path.startswith(SPEC)
        }
        status = {"status": structural(self.status, Offer(defaults=False))} if self.status else {}
        root: Schema = {
            "description": self.summary,
            "type": "object",
            "required": ["metadata", "spec"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                # The name's field is here for rules to point at; the rest is Kubernetes' own.
                "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
                "spec": self._guarded(structural(self.spec, replace(self.offer, meanings=own))),
                **status,
            },
        }
        # A rule about a field that is not offered has nothing to look at.
        checks = [check.as_cel() for check in self.checks if _is_offered(root, check.at)]
        if checks:
            root["x-kubernetes-validations"] = checks
        return root

    def _guarded(self, spec: Schema) -> Schema:
        """With a rule for each field that stays as it was made."""
        if self.unchanged is None:
            return spec
        names = [name for name in cast("Schema", spec["properties"]) if name not in self.changeable]
        required = cast("Sequence[str]", spec.get("required", ()))
        own = cast("Sequence[Schema]", spec.get("x-kubernetes-validations", ()))
        kept = [
            replace(self.unchanged, holds=_same(name, name in required), at=(name,)).as_cel()
            | {"reason": "FieldValueForbidden"}
            for name in names
        ]
        return spec | {"x-kubernetes-validations": [*own, *kept]}


def _is_offered(schema: Schema, path: Sequence[str]) -> bool:
    node: object = schema
    for step in path:
        properties = node.get("properties") if isinstance(node, dict) else None
        if not isinstance(properties, dict) or step not in properties:
            return False
        node = properties[step]
    return True


def _same(name: str, required: bool) -> str:
    """That a field is now what it was, which an absent one is by staying away."""
    same = f"self.{name} == oldSelf.{name}"
    if required:
        return same
    return f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {same})"


def _below_spec(paths: Mapping[str, object], *, words: bool) -> frozenset[str]:
    return frozenset(path.removeprefix(SPEC) for path in paths if (path in ONE_WORD) is words)


def _left_alone(alternatives: Mapping[str, str]) -> frozenset[str]:
    """Fields that must be given since the only other one is not offered."""
    return frozenset(
        left for other, left in alternatives.items() if f"{SPEC}{other}" in REFUSED_ON_CLUSTER
    )


JOBS = Kind(
    kind="FineTuneJob",
    plural="finetunejobs",
    short="ftj",
    summary="One fine-tuning job: what a model learns, from which rows, and on what machines.",
    spec=FineTuneJobSpec,
    status=JobStatus,
    columns=(
        Column("Phase", ".status.phase"),
        Column("Step", ".status.progress.step", "integer"),
        Column("Of", ".status.progress.totalSteps", "integer"),
        Column("ETA", ".status.progress.eta"),
        Column("Metric", ".status.evaluation.best", "number"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Run", ".status.run", wide=True),
        Column("Message", ".status.message", wide=True),
    ),
    offer=Offer(
        withheld=_below_spec(REFUSED_ON_CLUSTER, words=False),
        words={path.removeprefix(SPEC): frozenset({word}) for path, word in ONE_WORD.items()},
        texts=frozenset({"data.train.uri", "data.validation.uri", "data.test.uri"}),
        needed=_left_alone({"budget.maxCost": "budget.maxDuration"}),
        # `tensorboard: false` has to be written: a server's default would name a tracker.
        undefaulted=frozenset({"checkpoints.uri", "tracking.tensorboard"}),
        checks={
            "": (RUNS_NAMED,),
            "budget.maxDuration": (LASTS,),
            "checkpoints.every": (LASTS_OR_COUNTS,),
            **{path.removeprefix(SPEC): (IN_STORE,) for path in LOCATIONS},
        },
    ),
    changeable=frozenset({"budget", "suspend", "cancel"}),
    checks=(NAMED_FOR_PODS, *FineTuneJob.checks),
)

ATTEMPTS = Kind(
    kind="FineTuneAttempt",
    plural="finetuneattempts",
    short="fta",
    summary="One stage of a job's life: preparing, or one go at training. Made by the controller.",
    spec=AttemptSpec,
    status=AttemptStatus,
    columns=(
        Column("Job", ".spec.job"),
        Column("Stage", ".spec.stage"),
        Column("Phase", ".status.result.phase"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Run", ".spec.run", wide=True),
        Column("Message", ".status.result.message", wide=True),
    ),
    offer=Offer(checks={"": (_NEWER,)}),
    changeable=frozenset({"command", "sequence"}),
    unchanged=_AS_MADE,
)

PROFILES = Kind(
    kind="ComputeProfile",
    plural="computeprofiles",
    short="cprofile",
    summary="What an administrator decides for a class of machines. Jobs name it: spec.profile.",
    spec=ProfileSpec,
    status=None,
    columns=(
        Column("GPU", ".spec.accelerator.name"),
        Column("CPU", ".spec.resources.cpu", "number"),
        Column("Memory", ".spec.resources.memory"),
        Column("Workers", ".spec.limits.maxWorkers", "integer"),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Image", ".spec.image", wide=True),
    ),
    # An attempt keeps what its profile said when it was made.
    unchanged=None,
    namespaced=False,
)

KINDS = (JOBS, ATTEMPTS, PROFILES)
"""Every kind that a cluster is given."""
