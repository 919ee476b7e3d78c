"""FineTuneJob: what a user asks for, field by field.

Decides the shape of ``apiVersion: tunefleet.dev/v1alpha1, kind: FineTuneJob`` and every
rule that one file alone can break. What needs data, a model or a machine is decided later
(prepare, plan). Imports pydantic alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StringConstraints, create_model, field_validator

from tunefleet.api import rules
from tunefleet.api.base import (
    Check,
    DnsLabel,
    Duration,
    Money,
    Name,
    PositiveInt,
    Rule,
    Spec,
    Text,
)
from tunefleet.api.inputs import (
    DataSpec,
    FromSpec,
    HeldOutSpec,
    HubSource,
    LoraSpec,
    MethodSpec,
    ModelSpec,
    SourceSpec,
)
from tunefleet.api.tasks import TaskDeclaration, TaskOptions, declaration_of, declarations
from tunefleet.api.training import EarlyStoppingSpec, EvaluationSpec, OptimizerSpec, TrainingSpec

__all__ = [
    "API_VERSION",
    "BudgetSpec",
    "CheckpointsSpec",
    "CredentialsSpec",
    "DataSpec",
    "EarlyStoppingSpec",
    "EvaluationSpec",
    "FineTuneJob",
    "FineTuneJobSpec",
    "FromSpec",
    "GateSpec",
    "HeldOutSpec",
    "HubSource",
    "JobSpecBase",
    "KeepSpec",
    "LoraSpec",
    "Metadata",
    "MethodSpec",
    "MlflowSpec",
    "ModelSpec",
    "OptimizerSpec",
    "ResourcesSpec",
    "RetrySpec",
    "ServingSpec",
    "SourceSpec",
    "TrackingSpec",
    "TrainingSpec",
    "WandbSpec",
    "WorkersSpec",
]

API_VERSION = "tunefleet.dev/v1alpha1"
MEMORY_PATTERN = r"^[1-9]\d{0,8}(Mi|Gi)$"


class ResourcesSpec(Spec):
    """What one worker asks for."""

    gpu: Annotated[int, Field(ge=0, le=1)] | None = None
    cpu: Annotated[float, Field(gt=0, le=1024)] | None = None
    memory: Annotated[str, StringConstraints(pattern=MEMORY_PATTERN)] | None = None


_RANGE_ALONE = Check(
    "!has(self.count) || !has(self.min) && !has(self.max)",
    "excludes min and max",
    ("count",),
    "keep count, or min and max",
)
_BOTH_ENDS = Check(
    "has(self.min) == has(self.max)", "a range needs both min and max", (), "add the missing one"
)
_IN_ORDER = Check(
    "!has(self.min) || !has(self.max) || self.min <= self.max",
    "is above max",
    ("min",),
    "exchange min and max",
)


class WorkersSpec(Spec):
    """How many workers share a step: a fixed ``count``, or a range."""

    checks = (_RANGE_ALONE, _BOTH_ENDS, _IN_ORDER)
    count: Annotated[int, Field(gt=0, le=4096)] | None = None
    min: Annotated[int, Field(gt=0, le=4096)] | None = None
    max: Annotated[int, Field(gt=0, le=4096)] | None = None
    resources: ResourcesSpec = ResourcesSpec()

    def _broken_rules(self) -> Iterator[Rule]:
        ranged = self.min is not None or self.max is not None
        if ranged and self.count is not None:
            yield _RANGE_ALONE.broken()
        if (self.min is None) is not (self.max is None):
            yield _BOTH_ENDS.broken()
        if self.min is not None and self.max is not None and self.min > self.max:
            yield _IN_ORDER.broken()

    @property
    def most(self) -> int:
        """The most workers at a time; one where their number is left open."""
        return self.max or self.count or 1


class KeepSpec(Spec):
    """Which checkpoints outlive the next one."""

    last: Annotated[int, Field(gt=0, le=10_000)] = 1
    best: Annotated[int, Field(ge=0, le=10_000)] = 1


class CheckpointsSpec(Spec):
    """Where the run lives and how often it is saved: ``auto``, steps, or a duration."""

    uri: Text = "runs"
    every: Literal["auto"] | Duration | PositiveInt = "auto"
    keep: KeepSpec = KeepSpec()


class CredentialsSpec(Spec):
    """Whose rights the job has in the cluster; secrets by reference only."""

    service_account_name: DnsLabel | None = None
    secret_refs: Annotated[list[DnsLabel], Field(max_length=64)] = []


class BudgetSpec(Spec):
    """What the job may cost and how long it may run."""

    max_cost: Money | None = None
    max_duration: Duration | None = None
    on_exceeded: Literal["Warn", "CheckpointAndStop", "Suspend"] = "CheckpointAndStop"

    def _broken_rules(self) -> Iterator[Rule]:
        if self.max_cost is None and self.max_duration is None:
            yield Rule(
                "a budget without a limit bounds nothing",
                (),
                'add maxCost: "25.00", maxDuration: 6h, or both',
            )


class RetrySpec(Spec):
    """How many failures without a new checkpoint in between end the job."""

    max_failures: Annotated[int, Field(ge=0, le=1000)] = 3


class WandbSpec(Spec):
    """Weights & Biases."""

    project: Name


class MlflowSpec(Spec):
    """MLflow."""

    checks = rules.MLFLOW_CHECKS
    uri: Text
    experiment: Name

    def _broken_rules(self) -> Iterator[Rule]:
        yield from rules.mlflow_uri(self.uri)


_SOME_TRACKER = Check(
    "has(self.tensorboard) || has(self.wandb) || has(self.mlflow)",
    "names no tracker",
    (),
    "add tensorboard: true, wandb or mlflow",
)


class TrackingSpec(Spec):
    """Where metrics are mirrored to."""

    checks = (_SOME_TRACKER,)
    tensorboard: bool = False
    wandb: WandbSpec | None = None
    mlflow: MlflowSpec | None = None

    def _broken_rules(self) -> Iterator[Rule]:
        if not self.model_fields_set:
            yield _SOME_TRACKER.broken()


class GateSpec(Spec):
    """The value a metric of the tuned model must reach before it is served."""

    metric: Name
    min: Annotated[float, Field(ge=-1e9, le=1e9)] | None = None
    max: Annotated[float, Field(ge=-1e9, le=1e9)] | None = None

    def _broken_rules(self) -> Iterator[Rule]:
        if self.min is None and self.max is None:
            yield Rule(
                "a gate without a bound lets everything through",
                (),
                "add min (where higher is better) or max (where lower is better)",
            )
        if self.min is not None and self.max is not None and self.min > self.max:
            yield Rule("is above max: nothing could pass", ("min",), "exchange min and max")


class ServingSpec(Spec):
    """When and as what the tuned model is served."""

    gate: GateSpec | None = None
    service: DnsLabel | None = None


_OWN_TASK = {
    declared.name: Check(
        f"!has(self.{declared.field_name}) || self.task == '{declared.name}'",
        "has no effect with task: {task}",
        (declared.field_name,),
        f"remove {declared.field_name}, or set task: {declared.name}",
        ((declared.field_name,), ("task",)),
        {"task": "self.task"},
    )
    for declared in declarations().values()
}


class JobSpecBase(Spec):
    """Everything of ``spec`` but the tasks' own options."""

    checks = tuple(_OWN_TASK.values())
    profile: DnsLabel | None = None
    task: Annotated[str, Field(json_schema_extra={"enum": list(declarations())})]
    model: ModelSpec
    data: DataSpec
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    workers: WorkersSpec = WorkersSpec()
    checkpoints: CheckpointsSpec = CheckpointsSpec()
    credentials: CredentialsSpec | None = None
    budget: BudgetSpec | None = None
    retry: RetrySpec = RetrySpec()
    tracking: TrackingSpec | None = None
    serving: ServingSpec | None = None
    suspend: bool = False
    cancel: bool = False

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str) -> str:
        return rules.known_task(task)

    def _broken_rules(self) -> Iterator[Rule]:
        for declared in declarations().values():
            given = getattr(self, _attribute(declared)) is not None
            if given and declared.name != self.task:
                yield _OWN_TASK[declared.name].broken(task=self.task)
        stopping, gate = self.evaluation.early_stopping, self.serving and self.serving.gate
        metrics = rules.Metrics(self.declaration, self.options)
        yield from metrics.named(("evaluation", "metric"), self.evaluation.metric)
        yield from metrics.named(
            ("evaluation", "earlyStopping", "metric"), stopping.metric if stopping else None
        )
        if gate:
            yield from metrics.named(("serving", "gate", "metric"), gate.metric)
            yield from metrics.bounded(
                ("serving", "gate"), gate.metric, low=gate.min, high=gate.max
            )
        data = self.data
        yield from rules.columns(self.declaration, self.options, data.columns)
        yield from rules.labels(self.declaration, self.options, data.labels)

    @property
    def declaration(self) -> TaskDeclaration:
        """The declaration of this job's task."""
        return declaration_of(self.task)

    @property
    def options(self) -> TaskOptions:
        """The task's own options, with their defaults."""
        given = getattr(self, _attribute(self.declaration))
        return given if isinstance(given, TaskOptions) else self.declaration.options()

    @property
    def primary_metric(self) -> str:
        """The metric that chooses the best checkpoint."""
        chosen = self.evaluation.early_stopping
        return (
            self.evaluation.metric
            or (chosen.metric if chosen else None)
            or self.declaration.primary_metric(self.options)
        )


def _attribute(declared: TaskDeclaration) -> str:
    return declared.name.replace("-", "_")


if TYPE_CHECKING:
    FineTuneJobSpec = JobSpecBase
else:
    _OPTIONS: dict[str, Any] = {
        _attribute(declared): (declared.options | None, None)
        for declared in declarations().values()
    }
    FineTuneJobSpec = create_model("FineTuneJobSpec", __base__=JobSpecBase, **_OPTIONS)


class Metadata(Spec):
    """The part of Kubernetes' object metadata that a user writes."""

    name: DnsLabel
    namespace: DnsLabel = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    def _broken_rules(self) -> Iterator[Rule]:
        yield from rules.kubernetes_labels(self.labels)
        yield from rules.kubernetes_annotations(self.annotations)


_ITSELF = Check(
    "!has(self.spec.model.from) || !has(self.spec.model.from.job) "
    "|| self.spec.model.from.job != self.metadata.name",
    "is this job itself",
    ("spec", "model", "from", "job"),
    "give this job a name of its own under metadata.name",
    (("spec", "model", "from", "job"), ("metadata", "name")),
)


class FineTuneJob(Spec):
    """One fine-tuning job, as it is written in a file."""

    checks = (_ITSELF,)
    api_version: Literal["tunefleet.dev/v1alpha1"]
    kind: Literal["FineTuneJob"]
    metadata: Metadata
    spec: FineTuneJobSpec

    def _broken_rules(self) -> Iterator[Rule]:
        source = self.spec.model.from_
        if source is not None and source.job == self.metadata.name:
            yield _ITSELF.broken()
