"""What a cluster refuses of a job, in the words of its API server."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tunefleet.api.job import FineTuneJob
from tunefleet.api.support import REFUSED_ON_CLUSTER, unsupported_on_cluster

RIGHT: dict[str, object] = {
    "task": "text-classification",
    "model": {"name": "a"},
    "data": {"train": {"uri": "s3://b/a.csv"}},
    "checkpoints": {"uri": "s3://b/runs"},
}
STORED = {"uri": "s3://b/a.csv"}
HERE = "lies in no object store, so no cluster can read it"

REFUSED: dict[str, tuple[Mapping[str, object], str]] = {
    "spec.serving": ({"serving": {}}, "`serving` is not supported"),
    "spec.budget.maxCost": ({"budget": {"maxCost": "1"}}, "`maxCost` is not supported"),
    "spec.model.trustRemoteCode": (
        {"model": {"name": "a", "trustRemoteCode": True}},
        "`trustRemoteCode: true` is not supported",
    ),
    "spec.model.method.type": (
        {"model": {"name": "a", "method": {"type": "qlora"}}},
        "`type: qlora` is not supported",
    ),
    "spec.budget.onExceeded": (
        {"budget": {"maxDuration": "6h", "onExceeded": "Suspend"}},
        "`onExceeded: Suspend` is not supported",
    ),
    "spec.model.uri": ({"model": {"uri": "../m"}}, f"`../m` {HERE}"),
    "spec.model.from.bundle": ({"model": {"from": {"bundle": "/b"}}}, f"`/b` {HERE}"),
    "spec.data.train.uri": ({"data": {"train": {"uri": "a.csv"}}}, f"`a.csv` {HERE}"),
    "spec.data.validation.uri": (
        {"data": {"train": STORED, "validation": {"uri": "file:///a"}}},
        f"`file:///a` {HERE}",
    ),
    "spec.data.test.uri": (
        {"data": {"train": STORED, "test": {"uri": ["s3://b/a", "s3://b/b"]}}},
        "`uri` takes one text on a cluster",
    ),
    "spec.checkpoints.uri": ({"checkpoints": {"uri": "pvc://c/x"}}, f"`pvc://c/x` {HERE}"),
    "spec.checkpoints.uri of its own": ({"checkpoints": {}}, "is missing: a cluster keeps"),
    "metadata.name": ({}, "`7-days` cannot name a job's pods"),
}


def job(spec: Mapping[str, object], name: str = "a") -> FineTuneJob:
    return FineTuneJob.model_validate(
        {
            "apiVersion": "tunefleet.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": name},
            "spec": {**RIGHT, **spec},
        }
    )


@pytest.mark.parametrize(("where", "case"), REFUSED.items(), ids=REFUSED)
def test_what_a_cluster_refuses_is_named_with_the_remedy(
    where: str, case: tuple[Mapping[str, object], str]
) -> None:
    spec, words = case
    found = unsupported_on_cluster(job(spec, "7-days" if where == "metadata.name" else "a"))
    (problem,) = [each for each in found if each.where == where.partition(" ")[0]]
    assert problem.message.startswith(words)
    assert problem.remedy == REFUSED_ON_CLUSTER.get(where, problem.remedy) != ""


def test_every_field_that_is_not_offered_is_in_the_table() -> None:
    assert set(REFUSED_ON_CLUSTER) <= set(REFUSED)


def test_what_a_laptop_cannot_do_a_cluster_can() -> None:
    rights = {"serviceAccountName": "trainer", "secretRefs": ["s3-models"]}
    asked = {"credentials": rights, "profile": "l4", "workers": {"min": 1, "max": 2}}
    assert unsupported_on_cluster(job(asked)) == []
