"""How the weights are moved, and when the held-out rows are looked at.

Decides the shape of ``spec.training`` and ``spec.evaluation`` and the rules inside them.
Imports ``api`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tunefleet.api.base import Check, Name, PositiveInt, Rule, Spec

EVERY_PATTERN = r"^[1-9]\d{0,8}(ep|steps)$"

Beta = Annotated[float, Field(ge=0, lt=1)]

_FOREIGN = {
    key: Check(
        f"!has(self.{key}) || self.name != '{other}'",
        f"belongs to {owner}; it has no effect with name: {other}",
        (key,),
        f"remove {key}, or set name: {owner}",
        ((key,), ("name",)),
    )
    for key, owner, other in (
        ("betas", "adamw", "sgd"),
        ("epsilon", "adamw", "sgd"),
        ("momentum", "sgd", "adamw"),
    )
}
_WARMUP = Check(
    "self.warmup <= 1.0 || double(int(self.warmup)) == self.warmup",
    "is neither a fraction nor a number of steps",
    ("warmup",),
    "give a fraction of all steps up to 1, or a whole number of steps",
    (("warmup",),),
)
_LENGTH = Check(
    "!has(self.epochs) || !has(self.maxSteps)",
    "excludes epochs",
    ("maxSteps",),
    "keep either epochs or maxSteps",
    (("epochs",), ("maxSteps",)),
)
_MICRO_BATCH = Check(
    "type(self.microBatch) == string || self.microBatch <= self.batchSize",
    "is larger than batchSize",
    ("microBatch",),
    "microBatch is a part of batchSize that divides it; `auto` chooses one",
    (("microBatch",), ("batchSize",)),
)
_ONLY_WARMUP = Check(
    "!has(self.maxSteps) || self.optimizer.warmup <= 1.0 "
    "|| self.optimizer.warmup < double(self.maxSteps)",
    "leaves nothing of maxSteps after the warm-up",
    ("optimizer", "warmup"),
    "give fewer steps, or a fraction such as 0.06",
    (("optimizer", "warmup"), ("maxSteps",)),
)
_ONE_METRIC = Check(
    "!has(self.metric) || !has(self.earlyStopping) || self.earlyStopping.metric == self.metric",
    "is {stops}, but evaluation.metric is {chooses}",
    ("earlyStopping", "metric"),
    "one metric both stops the run and chooses its best checkpoint: "
    "name the same, or remove evaluation.metric",
    (("metric",), ("earlyStopping", "metric")),
    {"stops": "self.earlyStopping.metric", "chooses": "self.metric"},
)


class OptimizerSpec(Spec):
    """The optimiser and its schedule (transformers' names)."""

    checks = (*_FOREIGN.values(), _WARMUP)
    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 5e-5
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.01
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Annotated[float, Field(ge=0, le=1_000_000)] = 0.06
    clip_norm: Annotated[float, Field(gt=0, le=1e6)] | None = 1.0
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)] | None = None
    epsilon: Annotated[float, Field(gt=0, le=1)] | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None

    def _broken_rules(self) -> Iterator[Rule]:
        foreign: dict[str, object] = (
            {"betas": self.betas, "epsilon": self.epsilon}
            if self.name == "sgd"
            else {"momentum": self.momentum}
        )
        for key, value in foreign.items():
            if value is not None:
                yield _FOREIGN[key].broken()
        if self.warmup > 1 and not self.warmup.is_integer():
            yield _WARMUP.broken()


class TrainingSpec(Spec):
    """How the weights are moved. ``warmup`` ≤ 1 is a fraction of all steps, above a step count."""

    checks = (_LENGTH, _MICRO_BATCH, _ONLY_WARMUP)
    epochs: Annotated[int, Field(gt=0, le=100_000)] | None = None
    max_steps: Annotated[int, Field(gt=0, le=10**9)] | None = None
    batch_size: Annotated[int, Field(gt=0, le=1_000_000)] = 32
    micro_batch: Literal["auto"] | Annotated[int, Field(gt=0, le=65_536)] = "auto"
    optimizer: OptimizerSpec = OptimizerSpec()
    max_length: Annotated[int, Field(gt=1, le=1_048_576)] | None = None
    precision: Literal["auto", "fp32", "bf16", "fp64"] = "auto"
    gradient_checkpointing: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 17

    def _broken_rules(self) -> Iterator[Rule]:
        if self.epochs is not None and self.max_steps is not None:
            yield _LENGTH.broken()
        if isinstance(self.micro_batch, int) and self.micro_batch > self.batch_size:
            yield _MICRO_BATCH.broken()
        warmup = self.optimizer.warmup
        if self.max_steps is not None and warmup > 1 and warmup >= self.max_steps:
            yield _ONLY_WARMUP.broken()


class EarlyStoppingSpec(Spec):
    """Stop when ``metric`` has not improved by ``minDelta`` in ``patience`` evaluations."""

    metric: Name
    patience: Annotated[int, Field(gt=0, le=10_000)] = 3
    min_delta: Annotated[float, Field(ge=0, le=1e9)] = 0.0


class EvaluationSpec(Spec):
    """When the validation rows are looked at: ``1ep``, ``200steps``, or a number of steps."""

    checks = (_ONE_METRIC,)
    every: Annotated[str, StringConstraints(pattern=EVERY_PATTERN)] | PositiveInt = "1ep"
    early_stopping: EarlyStoppingSpec | None = None
    metric: Name | None = None

    def _broken_rules(self) -> Iterator[Rule]:
        stopping = self.early_stopping
        if self.metric is not None and stopping is not None and stopping.metric != self.metric:
            yield _ONE_METRIC.broken(stops=stopping.metric, chooses=self.metric)
