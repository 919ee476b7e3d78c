"""How long a job trains and when it is looked at: steps, warm-up, evaluations.

Decides what epochs, fractions and ``1ep`` mean in optimiser steps, and which metric chooses
the best checkpoint. Pure.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from tunefleet.api.job import FineTuneJob
from tunefleet.plan.document import EvaluationPlan, OptimizerPlan
from tunefleet.plan.facts import Facts
from tunefleet.plan.notes import Notes

WINDOW_STEPS = 50
DEFAULT_EPOCHS = 3

_EVERY = re.compile(r"(\d+)(ep|steps)")


@dataclass(frozen=True, slots=True)
class Length:
    """How long a job trains. ``epochs`` counts begun ones."""

    epochs: int
    steps_per_epoch: int
    total_steps: int


def length(job: FineTuneJob, facts: Facts, notes: Notes) -> Length:
    """Epochs and steps."""
    training, units = job.spec.training, facts.data.train.units
    per_epoch = -(-units // training.batch_size)
    if units < training.batch_size:
        notes.warn(
            f"batchSize {training.batch_size} is larger than the {units} training units: every "
            f"epoch is one step of {units}; a smaller batchSize moves the weights more often"
        )
    if training.max_steps is not None:
        return Length(-(-training.max_steps // per_epoch), per_epoch, training.max_steps)
    epochs = training.epochs
    if epochs is None:
        epochs = DEFAULT_EPOCHS
        reason = "neither epochs nor maxSteps is given; 3 is the field's usual for fine-tuning"
        notes.decide("spec.training.epochs", epochs, reason)
    return Length(epochs, per_epoch, epochs * per_epoch)


def optimizer(job: FineTuneJob, total_steps: int, notes: Notes) -> OptimizerPlan:
    """The optimiser with its defaults settled."""
    spec = job.spec.training.optimizer
    warmup = int(spec.warmup) if spec.warmup > 1 else math.ceil(total_steps * spec.warmup)
    if warmup >= total_steps and spec.warmup > 0:
        notes.warn(
            f"warm-up takes {warmup} of {total_steps} steps: the learning rate never reaches "
            f"{spec.learning_rate:g}; lower optimizer.warmup or train longer"
        )
    if spec.name == "adamw":
        if spec.betas is None:
            notes.decide("spec.training.optimizer.betas", "[0.9, 0.999]", "AdamW's own defaults")
        if spec.epsilon is None:
            notes.decide("spec.training.optimizer.epsilon", "1e-08", "AdamW's own default")
    elif spec.momentum is None:
        notes.decide("spec.training.optimizer.momentum", "0.0", "plain SGD unless asked for")
    beta1, beta2 = spec.betas or (0.9, 0.999)
    return OptimizerPlan(
        name=spec.name,
        learning_rate=spec.learning_rate,
        weight_decay=spec.weight_decay,
        schedule=spec.schedule,
        warmup_steps=warmup,
        clip_norm=spec.clip_norm,
        beta1=beta1,
        beta2=beta2,
        epsilon=spec.epsilon if spec.epsilon is not None else 1e-8,
        momentum=spec.momentum or 0.0,
    )


def evaluation(job: FineTuneJob, lasting: Length, micro_batch: int, notes: Notes) -> EvaluationPlan:
    """When the validation rows are scored, and by what the best checkpoint is chosen."""
    spec, stopping = job.spec.evaluation, job.spec.evaluation.early_stopping
    metric = job.spec.primary_metric
    known = {m.name: m for m in job.spec.declaration.metrics(job.spec.options)}
    if spec.metric is None and stopping is None:
        reason = f"the primary metric of {job.spec.task} with these options"
        notes.decide("spec.evaluation.metric", metric, reason)
    # Without a graph to keep, twice the units take less memory than a training micro-batch;
    # logits over a vocabulary are the exception.
    larger = 1 if job.spec.declaration.weight_unit == "tokens" else 2
    return EvaluationPlan(
        every_steps=_every_steps(job, lasting, notes),
        micro_batch=micro_batch * larger,
        metric=metric,
        higher_is_better=known[metric].higher,
        patience=stopping.patience if stopping else None,
        min_delta=stopping.min_delta if stopping else 0.0,
    )


def _every_steps(job: FineTuneJob, lasting: Length, notes: Notes) -> int:
    asked, where = job.spec.evaluation.every, "spec.evaluation.every"
    if isinstance(asked, int):
        steps = asked
    else:
        match = _EVERY.fullmatch(asked)
        number = int(match[1]) if match else 0
        steps = number * lasting.steps_per_epoch if asked.endswith("ep") else number
    if "every" not in job.spec.evaluation.model_fields_set:
        notes.decide(where, f"{steps} steps", f"once per epoch ({asked})")
    if steps > lasting.total_steps:
        notes.warn(
            f"evaluation every {steps:,} steps is longer than the run ({lasting.total_steps:,} "
            "steps): the tuned model is evaluated once, at the end"
        )
    return steps
