"""What changed between two versions of a job, and whether a run may go on with it.

Decides what is safe: a change is safe when a run that had begun with the new job would stand
exactly where the old one stands now. Everything not listed as safe is not. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from tunefleet.api.job import FineTuneJob
from tunefleet.api.tasks import declarations

Json = Mapping[str, object]

_ABSENT = "not given"

# Path (itself or a part of it) -> why changing it is safe. The longest match counts.
_SAFE = {
    "metadata.labels": "labels only name a job",
    "metadata.annotations": "annotations only describe a job",
    "spec.workers": "the micro-batches of a step are the same on any number of workers",
    "spec.checkpoints.every": "it changes when is saved, not what",
    "spec.checkpoints.keep": "it changes which checkpoints stay, not what is in them",
    "spec.retry": "it changes when to give up, not what is computed",
    "spec.tracking": "it changes where numbers are shown, not the numbers",
    "spec.budget": "it changes when to stop for money, not what is computed",
    "spec.credentials": "it changes whose rights are used, not what is computed",
    "spec.suspend": "it changes when to train, not what is computed",
    "spec.cancel": "it changes when to stop, not what is computed",
    "spec.serving": "the gate is judged when training is over",
    "spec.training.gradientCheckpointing": "activations are computed again instead of kept; "
    "the numbers are the same",
}

_UNSAFE = {
    "apiVersion": "another version of the language may mean something else",
    "kind": "another kind is another object",
    "spec.profile": "a profile brings defaults of its own",
    "metadata.name": "another name is another job, with runs of its own",
    "metadata.namespace": "another namespace is another job, with runs of its own",
    "spec.task": "another task has another head and another loss",
    "spec.model": "the run trains the weights it began with",
    "spec.data": "the order of samples is a function of the data; other data is another order",
    "spec.checkpoints.uri": "the run's checkpoints lie in the old place",
    "spec.training.batchSize": "the steps of a run are cut once",
    "spec.training.microBatch": "the micro-batches of a run are cut once; dropout depends on them",
    "spec.training.maxLength": "texts that are cut elsewhere are other samples",
    "spec.training.precision": "numbers of another precision are other numbers",
    "spec.training.seed": "order and dropout are functions of the seed",
    "spec.training.optimizer": "the steps that were taken were taken with the old values",
    "spec.evaluation.metric": "the best checkpoint so far was chosen by the old metric",
    "spec.evaluation.earlyStopping": "the evaluations so far were judged by the old rule",
}


_UNSAFE |= {
    f"spec.{declared.field_name}": "a task's options decide what is learnt"
    for declared in declarations().values()
}


@dataclass(frozen=True, slots=True)
class Change:
    """A field that differs, with its values as text."""

    field: str
    old: str
    new: str
    safe: bool
    why: str


def changes(old_job: dict[str, object], new_job: dict[str, object]) -> list[Change]:
    """Every field that differs between two jobs (as JSON values), in alphabetical order.

    A default that is written out is no change.
    """
    old, new = _flat(_with_defaults(old_job)), _flat(_with_defaults(new_job))
    found = []
    for field in sorted(old.keys() | new.keys()):
        before, after = old.get(field), new.get(field)
        if before == after and type(before) is type(after):
            continue
        safe, why = _judge(field, old, new)
        found.append(Change(field, _shown(before), _shown(after), safe, why))
    return found


def _judge(field: str, old: Json, new: Json) -> tuple[bool, str]:
    special = _SPECIAL.get(field)
    if special is not None:
        return special(old, new)
    best, judged = -1, (False, "nothing says that a run may go on with it")
    for table, safe in ((_SAFE, True), (_UNSAFE, False)):
        for path, why in table.items():
            within = field == path or field.startswith(f"{path}.")
            if within and len(path) > best:
                best, judged = len(path), (safe, why)
    return judged


def _longer(old: Json, new: Json) -> tuple[bool, str]:
    """Epochs or maxSteps: safe only where no rate depends on the total and it grows."""
    schedules = {str(job.get("spec.training.optimizer.schedule")) for job in (old, new)}
    warmup = new.get("spec.training.optimizer.warmup")
    free = isinstance(warmup, int | float) and (warmup == 0 or warmup > 1)
    if schedules != {"constant"} or not free:
        return False, "the learning rate of every step depends on the number of all steps"
    for name in ("epochs", "maxSteps"):
        before, after = old.get(f"spec.training.{name}"), new.get(f"spec.training.{name}")
        if isinstance(before, int) and isinstance(after, int) and after > before:
            return True, "the rate is constant: the same steps, and then more of them"
    return False, "the run may have gone further already"


def _how_often(old: Json, new: Json) -> tuple[bool, str]:
    stopping = "spec.evaluation.earlyStopping.metric"
    if old.get(stopping) is None and new.get(stopping) is None:
        return True, "it changes when is looked, not what is learnt"
    return False, "early stopping counts evaluations"


def _patience(old: Json, new: Json) -> tuple[bool, str]:
    field = "spec.evaluation.earlyStopping.patience"
    before, after = old.get(field), new.get(field)
    if isinstance(before, int) and isinstance(after, int) and after > before:
        return True, "with more patience the run would have come as far"
    return False, "with less patience the run might have stopped before"


_SPECIAL: dict[str, Callable[[Json, Json], tuple[bool, str]]] = {
    "spec.training.epochs": _longer,
    "spec.training.maxSteps": _longer,
    "spec.evaluation.every": _how_often,
    "spec.evaluation.earlyStopping.patience": _patience,
}


def _with_defaults(job: dict[str, object]) -> Json:
    """The job with every default filled in; as it is where it is of another version."""
    try:
        parsed = FineTuneJob.model_validate_json(json.dumps(job))
    except ValidationError:
        return job
    filled: Json = json.loads(parsed.model_dump_json(by_alias=True))
    return filled


def _flat(value: Json, prefix: str = "") -> dict[str, object]:
    """Fields by path; lists are values, and nothing is the same as null."""
    fields: dict[str, object] = {}
    for name, inner in value.items():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(inner, Mapping):
            fields |= _flat(inner, path)
        elif inner is not None:
            fields[path] = inner
    return fields


def _shown(value: object) -> str:
    return _ABSENT if value is None else value if isinstance(value, str) else json.dumps(value)
