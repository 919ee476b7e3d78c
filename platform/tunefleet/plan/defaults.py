"""The language's own defaults, explained: what was left out, what applies, and why.

Decides nothing: values come from the models of ``api``; here stand the reasons. Pure.
"""

from __future__ import annotations

from pydantic import BaseModel

from tunefleet.api.job import FineTuneJob
from tunefleet.plan.notes import Notes

# Field (camelCase path under spec) -> why the language's default is what it is. Fields whose
# default depends on data or machine are explained where they are chosen.
REASONS = {
    "model.method.type": "all weights are trained unless lora is asked for",
    "data.validation.fraction": "a tenth of the training rows is held out, stratified by label",
    "data.duplicates": "rows are taken as they are; check tells how many are double",
    "training.batchSize": "a usual size for fine-tuning; the same on any number of workers",
    "training.gradientCheckpointing": "off: it saves memory and costs a second forward pass",
    "training.seed": "fixed, so that a run can be repeated",
    "training.optimizer.name": "AdamW, the field's usual for transformers",
    "training.optimizer.learningRate": "a usual rate when all weights are tuned",
    "training.optimizer.weightDecay": "AdamW's usual; norms and biases do not decay",
    "training.optimizer.schedule": "linear decay to zero over the run",
    "training.optimizer.warmup": "a fraction of all steps, as in BERT's fine-tuning recipes",
    "training.optimizer.clipNorm": "gradients are clipped to a global norm of 1",
    "checkpoints.uri": "a folder beside the job file",
    "checkpoints.keep.last": "the newest is what a run goes on from",
    "checkpoints.keep.best": "the best is what becomes the bundle",
    "retry.maxFailures": "failures in a row without a new checkpoint before giving up",
}


def explain_defaults(job: FineTuneJob, notes: Notes) -> None:
    """Write down every plain default that applies because its field was left out."""
    for path, reason in REASONS.items():
        found = _left_out(job.spec, path.split("."))
        if found is not None:
            notes.decide(f"spec.{path}", found[0], reason)
    method, optimizer = job.spec.model.method, job.spec.training.optimizer
    if method.type == "lora" and "learning_rate" not in optimizer.model_fields_set:
        notes.warn(
            f"LoRA usually wants a higher learning rate than the default "
            f"{optimizer.learning_rate:g}; try optimizer.learningRate: 2e-4"
        )


def _left_out(model: BaseModel, path: list[str]) -> tuple[object] | None:
    """The value that applies when a field, or a part around it, was not written (else None)."""
    written = True
    value: object = model
    for alias in path:
        if not isinstance(value, BaseModel):
            return None
        fields = type(value).model_fields
        name = next(n for n, field in fields.items() if (field.alias or n) == alias)
        written = written and name in value.model_fields_set
        value = getattr(value, name)
    return None if written or value is None else (value,)
