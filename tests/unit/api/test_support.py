"""Every field of a job is honoured somewhere or refused by name; none is ignored in silence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

import tunefleet
from tunefleet.api.fields import all_fields, dotted
from tunefleet.api.job import FineTuneJob
from tunefleet.api.support import REFUSED, unsupported

PACKAGE = Path(tunefleet.__file__).parent

SOURCE = {
    "uri": "data/sources.py",
    "hub.name": "data/readers.py",
    "hub.config": "data/readers.py",
    "hub.split": "data/readers.py",
    "hub.revision": "data/readers.py",
    "format": "data/sources.py",
    "encoding": "data/sources.py",
    "delimiter": "data/sources.py",
}
HELD_OUT = SOURCE | {"fraction": "data/splits.py", "groupBy": "data/splits.py"}

# Field → the file that reads it. What a field changes is shown by the tests of that file.
HONOURED: dict[str, str] = {
    "apiVersion": "api/job.py",
    "kind": "api/job.py",
    "metadata.name": "plan/planner.py",
    "metadata.namespace": "plan/planner.py",
    "metadata.labels": "plan/compare.py",
    "metadata.annotations": "plan/compare.py",
    "spec.task": "plan/planner.py",
    "spec.model.name": "data/model_files.py",
    "spec.model.revision": "data/model_files.py",
    "spec.model.uri": "data/model_files.py",
    "spec.model.from.job": "data/model_files.py",
    "spec.model.from.bundle": "data/model_files.py",
    "spec.model.method.type": "tasks/adapters.py",
    "spec.model.method.lora.rank": "tasks/adapters.py",
    "spec.model.method.lora.alpha": "tasks/adapters.py",
    "spec.model.method.lora.dropout": "tasks/adapters.py",
    "spec.model.method.lora.targetModules": "tasks/adapters.py",
    **{f"spec.data.train.{key}": file for key, file in SOURCE.items()},
    **{f"spec.data.validation.{key}": file for key, file in HELD_OUT.items()},
    **{f"spec.data.test.{key}": file for key, file in HELD_OUT.items()},
    "spec.data.columns": "data/columns.py",
    "spec.data.labels": "data/columns.py",
    "spec.data.duplicates": "data/splits.py",
    "spec.training.epochs": "plan/schedule.py",
    "spec.training.maxSteps": "plan/schedule.py",
    "spec.training.batchSize": "plan/planner.py",
    "spec.training.microBatch": "plan/choices.py",
    "spec.training.optimizer.name": "plan/schedule.py",
    "spec.training.optimizer.learningRate": "plan/schedule.py",
    "spec.training.optimizer.weightDecay": "plan/schedule.py",
    "spec.training.optimizer.schedule": "plan/schedule.py",
    "spec.training.optimizer.warmup": "plan/schedule.py",
    "spec.training.optimizer.clipNorm": "plan/schedule.py",
    "spec.training.optimizer.betas": "plan/schedule.py",
    "spec.training.optimizer.epsilon": "plan/schedule.py",
    "spec.training.optimizer.momentum": "plan/schedule.py",
    "spec.training.maxLength": "train/prepare.py",
    "spec.training.precision": "plan/choices.py",
    "spec.training.gradientCheckpointing": "plan/planner.py",
    "spec.training.seed": "plan/planner.py",
    "spec.evaluation.every": "plan/schedule.py",
    "spec.evaluation.earlyStopping.metric": "api/job.py",
    "spec.evaluation.earlyStopping.patience": "plan/schedule.py",
    "spec.evaluation.earlyStopping.minDelta": "plan/schedule.py",
    "spec.evaluation.metric": "api/job.py",
    "spec.workers.count": "plan/choices.py",
    "spec.workers.resources.gpu": "plan/choices.py",
    "spec.workers.resources.cpu": "plan/choices.py",
    "spec.checkpoints.uri": "train/prepare.py",
    "spec.checkpoints.every": "plan/interval.py",
    "spec.checkpoints.keep.last": "plan/interval.py",
    "spec.checkpoints.keep.best": "plan/interval.py",
    "spec.retry.maxFailures": "plan/planner.py",
    "spec.tracking.tensorboard": "train/trackers/choice.py",
    "spec.tracking.wandb.project": "train/trackers/choice.py",
    "spec.tracking.mlflow.uri": "train/trackers/choice.py",
    "spec.tracking.mlflow.experiment": "train/trackers/choice.py",
    "spec.budget.maxCost": "plan/budget.py",
    "spec.budget.maxDuration": "plan/budget.py",
    "spec.serving.gate.metric": "evaluate/gate.py",
    "spec.serving.gate.min": "evaluate/gate.py",
    "spec.serving.gate.max": "evaluate/gate.py",
    "spec.causalLm.format": "tasks/causal_lm.py",
    "spec.causalLm.supervise": "tasks/chat.py",
    "spec.causalLm.chatTemplate": "tasks/chat.py",
    "spec.causalLm.maxNewTokens": "tasks/causal_lm.py",
    "spec.textClassification.problem": "tasks/text_classification.py",
    "spec.textClassification.threshold": "tasks/text_classification.py",
    "spec.textClassification.labelSeparator": "train/prepare.py",
    "spec.textClassification.labelSmoothing": "tasks/text_classification.py",
}

# Refused for one value; any other is honoured.
ONE_VALUE = {"spec.model.method.type", "spec.model.trustRemoteCode", "spec.budget.onExceeded"} | {
    "spec.suspend",
    "spec.cancel",
}

VALUES: Mapping[str, object] = {
    "spec.profile": "l4",
    "spec.credentials": {},
    "spec.budget.onExceeded": "Suspend",
    "spec.serving.service": "reviews",
    "spec.workers.min": (1, 2),
    "spec.workers.max": (1, 2),
    "spec.workers.resources.memory": "16Gi",
    "spec.model.trustRemoteCode": True,
    "spec.model.method.type": "qlora",
    "spec.suspend": True,
    "spec.cancel": True,
}


def leaves() -> list[str]:
    """Every field that is not itself a block, by its dotted path."""
    return [dotted(path) for path, field in all_fields().items() if field.block is None]


def is_refused(path: str) -> bool:
    return any(path == refused or path.startswith(f"{refused}.") for refused in REFUSED)


@pytest.mark.parametrize("path", leaves())
def test_a_field_is_either_honoured_or_refused(path: str) -> None:
    if path in ONE_VALUE:
        assert path in REFUSED
    else:
        assert (path in HONOURED) is not is_refused(path)


def test_the_table_names_no_field_that_is_gone() -> None:
    assert set(HONOURED) <= set(leaves())
    assert set(REFUSED) <= {dotted(path) for path in all_fields()}
    assert set(VALUES) == set(REFUSED)


@pytest.mark.parametrize(("path", "file"), HONOURED.items(), ids=HONOURED)
def test_the_file_that_honours_a_field_reads_it(path: str, file: str) -> None:
    name = re.sub(r"([A-Z])", lambda match: f"_{match[1].lower()}", path.rpartition(".")[2])
    text = (PACKAGE / file).read_text(encoding="utf-8")
    declared = rf"\n    {name}: " if file == "api/job.py" else r"(?!)"
    assert re.search(rf"\.{name}\b|[\"']{name}[\"']|{declared}", text)


def job(path: str, value: object) -> FineTuneJob:
    values: dict[str, object] = {
        "apiVersion": "tunefleet.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "a"},
        "spec": {
            "task": "text-classification",
            "model": {"name": "b"},
            "data": {"train": {"uri": "c.csv"}},
        },
    }
    given = {path: value}
    if path == "spec.budget.onExceeded":
        given["spec.budget.maxDuration"] = "6h"
    if isinstance(value, tuple):
        given = dict(zip(("spec.workers.min", "spec.workers.max"), value, strict=True))
    for name, each in given.items():
        block, *steps = values, *name.split(".")
        for step in steps[:-1]:
            block = block.setdefault(step, {})  # type: ignore[assignment]
        block[steps[-1]] = each
    return FineTuneJob.model_validate(values)


@pytest.mark.parametrize("path", REFUSED)
def test_a_refused_field_is_named_with_what_to_do_instead(path: str) -> None:
    found = {problem.where: problem for problem in unsupported(job(path, VALUES[path]))}
    assert path in found
    assert path.rpartition(".")[2] in found[path].message
    assert "not supported in this version" in found[path].message
    assert found[path].remedy == REFUSED[path]


@pytest.mark.parametrize(
    "path",
    [
        "spec.model.uri",
        "spec.model.from",
        "spec.data.train.uri",
        "spec.data.validation.uri",
        "spec.data.test.uri",
        "spec.checkpoints.uri",
    ],
)
@pytest.mark.parametrize("scheme", ["memory", "http", "https", "hf", "S3", "pvc"])
def test_a_location_elsewhere_is_refused(path: str, scheme: str) -> None:
    uri = f"{scheme}://a/b"
    if path == "spec.model.from":
        values: object = {"bundle": uri}
    elif path.startswith("spec.data"):
        path, values = path.removesuffix(".uri"), {"uri": uri}
    else:
        values = uri
    if path.startswith("spec.model"):
        key = path.rpartition(".")[2]
        path, values = "spec.model", {key: values}
    (problem,) = unsupported(job(path, values))
    assert f"`{scheme}` locations are not supported" in problem.message
    assert ("in a cluster only" if scheme == "pvc" else "file:///") in problem.remedy


@pytest.mark.parametrize("uri", ["s3://bucket/a-*.csv", "gs://bucket/b", "az://container/c"])
def test_runs_data_and_models_may_lie_in_an_object_store(uri: str) -> None:
    assert unsupported(job("spec.checkpoints", {"uri": uri})) == []
    assert unsupported(job("spec.data.train", {"uri": [uri, f"{uri}2"]})) == []
    assert unsupported(job("spec.data.validation", {"uri": uri})) == []
    assert unsupported(job("spec.model", {"uri": uri})) == []
    assert unsupported(job("spec.model", {"from": {"bundle": uri}})) == []


@pytest.mark.parametrize(
    "uri",
    [
        "a.csv",
        "../a.csv",
        "/a/b.csv",
        "file:///a/b.csv",
        "a:b.csv",
        "C:\\data\\a.csv",
        "data/*.csv",
    ],
)
def test_a_location_on_this_machine_is_taken(uri: str) -> None:
    assert unsupported(job("spec.data.train", {"uri": uri})) == []


def test_a_gate_a_hub_name_and_lora_are_honoured() -> None:
    assert unsupported(job("spec.serving", {"gate": {"metric": "accuracy", "min": 0.8}})) == []
    assert unsupported(job("spec.data.train", {"hub": {"name": "imdb"}})) == []
    assert unsupported(job("spec.model.method", {"type": "lora", "lora": {}})) == []
