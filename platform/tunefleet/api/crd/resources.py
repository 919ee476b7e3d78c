"""The kinds a cluster gets: their names, their columns, and what of the models is offered.

Decides how ``kubectl get`` shows a job and an attempt, which fields stay as they were made, and
what a cluster asks beyond a laptop. A kind or field without a controller is not here. Imports
``api`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import BaseModel

from tunefleet.api.attempt import AttemptSpec, AttemptStatus
from tunefleet.api.base import Check
from tunefleet.api.crd.structural import Offer, Schema, structural
from tunefleet.api.job import API_VERSION, FineTuneJobSpec
from tunefleet.api.status import JobStatus
from tunefleet.api.support import ONE_WORD, REFUSED_ON_CLUSTER

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


@dataclass(frozen=True, slots=True)
class Kind:
    """A custom resource: what it is called, shaped like and shown as."""

    kind: str
    plural: str
    short: str
    summary: str
    spec: type[BaseModel]
    status: type[BaseModel]
    columns: Sequence[Column]
    offer: Offer = field(default_factory=Offer)
    checks: Sequence[Check] = ()

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
                "scope": "Namespaced",
                "versions": [self._version(meanings)],
            },
        }

    def _version(self, meanings: Mapping[str, str]) -> Schema:
        return {
            "name": VERSION,
            "served": True,
            "storage": True,
            "subresources": {"status": {}},
            "additionalPrinterColumns": [column.manifest() for column in self.columns],
            "schema": {"openAPIV3Schema": self._schema(meanings)},
        }

    def _schema(self, meanings: Mapping[str, str]) -> Schema:
        own = {
            path.removeprefix(SPEC): meaning
            for path, meaning in meanings.items()
            if path.startswith(SPEC)
        }
        root: Schema = {
            "description": self.summary,
            "type": "object",
            "required": ["metadata", "spec"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": structural(self.spec, replace(self.offer, meanings=own)),
                "status": structural(self.status, Offer(defaults=False)),
            },
        }
        if self.checks:
            root["x-kubernetes-validations"] = [check.as_cel() for check in self.checks]
        return root


def _below_spec(paths: Mapping[str, object], *, words: bool) -> frozenset[str]:
    return frozenset(path.removeprefix(SPEC) for path in paths if (path in ONE_WORD) is words)


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
        needed=frozenset({"budget.maxDuration"}),
        undefaulted=frozenset({"checkpoints.uri"}),
    ),
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
)

KINDS = (JOBS, ATTEMPTS)
"""Every kind that a cluster is given."""
