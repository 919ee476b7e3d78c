"""The job as a value: what is chosen by default, and that it survives being written down."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from tunefleet.api.digest import job_digest, job_values
from tunefleet.api.job import FineTuneJob


def job(**spec: object) -> FineTuneJob:
    values = {
        "apiVersion": "tunefleet.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "a"},
        "spec": {
            "task": "text-classification",
            "model": {"name": "b"},
            "data": {"train": {"uri": "c.csv"}},
            **spec,
        },
    }
    return FineTuneJob.model_validate(values)


@pytest.mark.parametrize(
    ("spec", "metric"),
    [
        ({}, "f1_macro"),
        ({"evaluation": {"metric": "accuracy"}}, "accuracy"),
        ({"evaluation": {"earlyStopping": {"metric": "mcc"}}}, "mcc"),
        ({"textClassification": {"problem": "regression"}}, "rmse"),
        ({"textClassification": {"problem": "multi-label"}}, "f1_micro"),
        ({"task": "causal-lm"}, "loss"),
    ],
    ids=["single label", "named", "by early stopping", "regression", "multi-label", "causal-lm"],
)
def test_the_primary_metric_is_the_named_one_or_the_tasks_own(
    spec: dict[str, object], metric: str
) -> None:
    assert job(**spec).spec.primary_metric == metric


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"task": "causal-lm", "causalLm": {"format": "chat"}},
        {"training": {"maxSteps": 5, "optimizer": {"clipNorm": None}}},
        {"data": {"train": {"hub": {"name": "x"}}, "validation": {"uri": ["a", "b"]}}},
        {"serving": {"gate": {"metric": "loss", "max": 0.5}}, "workers": {"min": 1, "max": 2}},
    ],
    ids=["a short job", "another task", "no clipping", "a hub data set", "refused fields"],
)
def test_a_job_written_down_with_every_default_reads_back_the_same(spec: dict[str, object]) -> None:
    first = job(**spec)
    again = FineTuneJob.model_validate_json(json.dumps(job_values(first)))
    assert again == first
    assert job_digest(again) == job_digest(first)


def test_a_job_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        job().spec.training.epochs = 5  # type: ignore[misc]


def test_in_python_both_spellings_of_a_field_are_taken() -> None:
    assert job(training={"batch_size": 8}) == job(training={"batchSize": 8})
