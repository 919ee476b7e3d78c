"""Which changes a run may go on with, and which parts of a job decide its numbers."""

from __future__ import annotations

import copy
import json
from typing import get_args

import pytest
from pydantic import BaseModel

from tests.plans import a_job, job_values
from tunefleet.api.job import FineTuneJob
from tunefleet.plan.compare import Change, changes
from tunefleet.plan.digest import spec_digest

STOPPING = {"metric": "f1_macro", "patience": 3}
CONSTANT = {"schedule": "constant", "warmup": 0.0}


def judged(old: dict[str, object], new: dict[str, object]) -> Change:
    (change,) = changes(job_values(**old), job_values(**new))
    return change


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        pytest.param({}, {"workers__count": 4}, "spec.workers.count", id="workers"),
        pytest.param(
            {}, {"workers__resources__cpu": 2.0}, "spec.workers.resources.cpu", id="threads"
        ),
        pytest.param({}, {"checkpoints__every": 5}, "spec.checkpoints.every", id="saving"),
        pytest.param({}, {"checkpoints__keep__best": 3}, "spec.checkpoints.keep.best", id="keep"),
        pytest.param({}, {"retry__maxFailures": 9}, "spec.retry.maxFailures", id="retries"),
        pytest.param({}, {"evaluation__every": 10}, "spec.evaluation.every", id="evaluations"),
        pytest.param(
            {},
            {"training__gradientCheckpointing": True},
            "spec.training.gradientCheckpointing",
            id="recomputing",
        ),
        pytest.param(
            {"evaluation__earlyStopping": STOPPING},
            {"evaluation__earlyStopping": STOPPING | {"patience": 5}},
            "spec.evaluation.earlyStopping.patience",
            id="more patience",
        ),
        pytest.param(
            {"training__optimizer": CONSTANT, "training__epochs": 2},
            {"training__optimizer": CONSTANT, "training__epochs": 3},
            "spec.training.epochs",
            id="more epochs at a constant rate",
        ),
        pytest.param(
            {"training__optimizer": CONSTANT, "training__maxSteps": 20},
            {"training__optimizer": CONSTANT, "training__maxSteps": 30},
            "spec.training.maxSteps",
            id="more steps at a constant rate",
        ),
    ],
)
def test_safe(old: dict[str, object], new: dict[str, object], field: str) -> None:
    change = judged(old, new)
    assert (change.field, change.safe) == (field, True)
    assert change.why


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        pytest.param({}, {"model__uri": "other"}, "spec.model.uri", id="the model"),
        pytest.param({}, {"data__train__uri": "b.csv"}, "spec.data.train.uri", id="the data"),
        pytest.param({}, {"data__labels": ["b", "a"]}, "spec.data.labels", id="order of labels"),
        pytest.param({}, {"checkpoints__uri": "x"}, "spec.checkpoints.uri", id="another place"),
        pytest.param({}, {"training__batchSize": 64}, "spec.training.batchSize", id="the batch"),
        pytest.param({}, {"training__microBatch": 8}, "spec.training.microBatch", id="the cut"),
        pytest.param({}, {"training__seed": 1}, "spec.training.seed", id="the seed"),
        pytest.param({}, {"training__maxLength": 32}, "spec.training.maxLength", id="length"),
        pytest.param(
            {}, {"training__precision": "fp64"}, "spec.training.precision", id="precision"
        ),
        pytest.param(
            {},
            {"training__optimizer__learningRate": 1e-4},
            "spec.training.optimizer.learningRate",
            id="the rate",
        ),
        pytest.param(
            {"training__epochs": 2}, {"training__epochs": 3}, "spec.training.epochs", id="epochs"
        ),
        pytest.param(
            {"training__optimizer": CONSTANT, "training__epochs": 3},
            {"training__optimizer": CONSTANT, "training__epochs": 2},
            "spec.training.epochs",
            id="fewer epochs",
        ),
        pytest.param(
            {"training__optimizer": CONSTANT | {"warmup": 0.5}, "training__epochs": 2},
            {"training__optimizer": CONSTANT | {"warmup": 0.5}, "training__epochs": 3},
            "spec.training.epochs",
            id="more epochs where warm-up is a share of them",
        ),
        pytest.param(
            {}, {"evaluation__metric": "accuracy"}, "spec.evaluation.metric", id="the metric"
        ),
        pytest.param(
            {"evaluation__earlyStopping": STOPPING},
            {"evaluation__earlyStopping": STOPPING | {"patience": 1}},
            "spec.evaluation.earlyStopping.patience",
            id="less patience",
        ),
        pytest.param(
            {"evaluation__earlyStopping": STOPPING},
            {"evaluation__earlyStopping": STOPPING, "evaluation__every": 5},
            "spec.evaluation.every",
            id="evaluations that patience counts",
        ),
        pytest.param(
            {},
            {"textClassification__labelSmoothing": 0.1},
            "spec.textClassification.labelSmoothing",
            id="an option of the task",
        ),
    ],
)
def test_unsafe(old: dict[str, object], new: dict[str, object], field: str) -> None:
    found = {change.field: change for change in changes(job_values(**old), job_values(**new))}
    assert found[field].safe is False
    assert found[field].why


def test_epochs_exchanged_for_steps_are_unsafe() -> None:
    found = changes(job_values(training__epochs=2), job_values(training__maxSteps=90))
    assert [(c.field, c.old, c.new, c.safe) for c in found] == [
        ("spec.training.epochs", "2", "not given", False),
        ("spec.training.maxSteps", "not given", "90", False),
    ]


def test_labels_of_a_job_are_safe_and_its_name_is_not() -> None:
    old, new = job_values(), job_values()
    new["metadata"] = {"name": "other", "labels": {"team": "blue"}}
    assert [(change.field, change.safe) for change in changes(old, new)] == [
        ("metadata.labels.team", True),
        ("metadata.name", False),
    ]


def test_a_default_that_is_written_out_is_no_change() -> None:
    assert changes(job_values(), job_values(training__batchSize=32, training__seed=17)) == []


def test_a_job_as_it_is_stored_equals_the_job_as_it_was_written() -> None:
    stored = json.loads(a_job().model_dump_json(by_alias=True, exclude_none=True))
    assert changes(stored, job_values()) == []


def test_a_job_of_another_version_is_compared_as_it_is() -> None:
    old = job_values(workers__count=1)
    other = copy.deepcopy(old)
    other["spec"] = {**job_values()["spec"], "novelty": 1}  # type: ignore[dict-item]
    found = {change.field: change.safe for change in changes(old, other)}
    assert found["spec.novelty"] is False


def leaves(model: type[BaseModel], prefix: str) -> list[str]:
    """Every field of the language by path."""
    found = []
    for name, field in model.model_fields.items():
        path = f"{prefix}.{field.alias or name}".lstrip(".")
        kinds = [field.annotation, *get_args(field.annotation)]
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        found += [leaf for kind in inner for leaf in leaves(kind, path)] or [path]
    return found


@pytest.mark.parametrize("path", leaves(FineTuneJob, ""))
def test_every_field_of_the_language_is_judged(path: str) -> None:
    from tunefleet.plan.compare import _judge

    safe, why = _judge(path, {}, {})
    assert why != "nothing says that a run may go on with it"
    assert isinstance(safe, bool)


# -- digest ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"workers__count": 2},
        {"workers__resources__cpu": 2.0},
        {"checkpoints__every": 5},
        {"checkpoints__uri": "elsewhere"},
        {"retry__maxFailures": 1},
        {"evaluation__every": 5},
        {"serving__gate": {"metric": "accuracy", "min": 0.5}},
        {"training__gradientCheckpointing": True},
        {"training__seed": 17},
    ],
    ids=lambda values: next(iter(values)),
)
def test_the_digest_leaves_out_what_touches_no_number(values: dict[str, object]) -> None:
    assert spec_digest(a_job(**values)) == spec_digest(a_job())


@pytest.mark.parametrize(
    "values",
    [
        {"model__uri": "other"},
        {"data__train__uri": "other.csv"},
        {"data__columns": {"text": "review"}},
        {"textClassification__labelSmoothing": 0.1},
        {"training__seed": 18},
        {"training__epochs": 2},
        {"training__optimizer__warmup": 0.1},
        {"evaluation__metric": "accuracy"},
        {"evaluation__earlyStopping": {"metric": "f1_macro"}},
    ],
    ids=lambda values: next(iter(values)),
)
def test_the_digest_covers_what_decides_the_numbers(values: dict[str, object]) -> None:
    assert spec_digest(a_job(**values)) != spec_digest(a_job())
