"""A profile fills in what a job leaves open and holds it to its limits."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from pydantic import ValidationError

from tunefleet.api.job import FineTuneJob
from tunefleet.api.profile import ProfileSpec, beyond_limits, waits_for_gpus, with_defaults

STORED = {"uri": "s3://team/rows.csv"}


def job(spec: Mapping[str, object]) -> FineTuneJob:
    base = {
        "task": "text-classification",
        "model": {"name": "a"},
        "data": {"train": STORED},
        "checkpoints": {"uri": "s3://team/runs"},
    }
    return FineTuneJob.model_validate(
        {
            "apiVersion": "tunefleet.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "a", "namespace": "team"},
            "spec": {**base, **spec},
        }
    )


def profile(spec: Mapping[str, object]) -> ProfileSpec:
    return ProfileSpec.model_validate(spec)


@pytest.mark.parametrize(
    ("asked", "given", "found"),
    [
        ({}, {"gpu": 1, "cpu": 4.0, "memory": "16Gi"}, (1, 4.0, "16Gi")),
        ({"cpu": 2.0}, {"gpu": 1, "cpu": 4.0}, (1, 2.0, None)),
        ({"gpu": 0}, {"gpu": 1}, (0, None, None)),
        ({"memory": "8Gi"}, {}, (None, None, "8Gi")),
    ],
    ids=["all of it", "the rest", "none is an answer", "nothing"],
)
def test_resources_come_from_the_job_then_from_the_profile(
    asked: Mapping[str, object], given: Mapping[str, object], found: tuple[object, ...]
) -> None:
    filled = with_defaults(job({"workers": {"resources": asked}}), profile({"resources": given}))
    resources = filled.spec.workers.resources
    assert (resources.gpu, resources.cpu, resources.memory) == found
    assert filled.metadata == job({}).metadata


GPU = {"resources": {"gpu": 1}}
BEYOND: dict[str, tuple[Mapping[str, object], Mapping[str, object], str, str]] = {
    "too many workers": (
        {"workers": {"count": 3}},
        {"limits": {"maxWorkers": 2}},
        "spec.workers",
        "asks for 3 workers; the profile l4 allows 2",
    ),
    "a range that ends above the limit": (
        {"workers": {"min": 1, "max": 3}},
        {"limits": {"maxWorkers": 2}},
        "spec.workers",
        "asks for 3 workers; the profile l4 allows 2",
    ),
    "the GPUs of a range's end": (
        {"workers": {"min": 1, "max": 3}},
        {**GPU, "limits": {"maxGpus": 2}},
        "spec.workers",
        "asks for 3 GPUs; the profile l4 allows 2",
    ),
    "too many GPUs, which the profile itself gives": (
        {"workers": {"count": 3}},
        {**GPU, "limits": {"maxGpus": 2}},
        "spec.workers",
        "asks for 3 GPUs; the profile l4 allows 2",
    ),
    "a GPU where there is none to have": (
        {"workers": {"resources": {"gpu": 1}}},
        {"limits": {"maxGpus": 0}},
        "spec.workers",
        "asks for 1 GPUs; the profile l4 allows 0",
    ),
    "more GPUs than a namespace has": (
        {"workers": {"count": 3}},
        {**GPU, "limits": {"maxGpusPerNamespace": 2}},
        "spec.workers",
        "asks for 3 GPUs; the profile l4 allows 2 to all jobs of a namespace",
    ),
    "a location of somebody else": (
        {"data": {"train": {"uri": "s3://others/rows.csv"}}},
        {"limits": {"locations": ["s3://team/", "gs://team/"]}},
        "spec",
        "`s3://others/rows.csv` is not among the locations of the profile l4",
    ),
    "a bucket that begins alike": (
        {"checkpoints": {"uri": "s3://team-b/runs"}},
        {"limits": {"locations": ["s3://team/"]}},
        "spec",
        "`s3://team-b/runs` is not among the locations of the profile l4",
    ),
    "a service account that is not allowed": (
        {"credentials": {"serviceAccountName": "admin"}},
        {"limits": {"serviceAccounts": ["trainer", "default"]}},
        "spec.credentials.serviceAccountName",
        "the profile l4 does not allow the service account admin",
    ),
    "no service account where one is to be named": (
        {},
        {"limits": {"serviceAccounts": ["trainer"]}},
        "spec.credentials.serviceAccountName",
        "the profile l4 does not allow the service account default",
    ),
    "a secret that is not allowed": (
        {"credentials": {"secretRefs": ["bucket", "payroll"]}},
        {"limits": {"secrets": ["bucket"]}},
        "spec.credentials.secretRefs",
        "the profile l4 does not allow the secret payroll",
    ),
    "any secret where there is to be none": (
        {"credentials": {"secretRefs": ["bucket"]}},
        {"limits": {"secrets": []}},
        "spec.credentials.secretRefs",
        "the profile l4 does not allow the secret bucket",
    ),
    "another namespace": (
        {},
        {"limits": {"namespaces": ["research"]}},
        "spec.profile",
        "the profile l4 is not for jobs of the namespace team",
    ),
}


@pytest.mark.parametrize(("asked", "given", "where", "message"), BEYOND.values(), ids=BEYOND)
def test_what_is_beyond_a_limit_is_named_with_the_limit(
    asked: Mapping[str, object], given: Mapping[str, object], where: str, message: str
) -> None:
    (problem,) = beyond_limits(job(asked), "l4", profile(given))
    assert (problem.where, problem.message) == (where, message)
    assert problem.remedy


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({"workers": {"count": 4096}}, {}),
        ({"workers": {"count": 2}}, {**GPU, "limits": {"maxWorkers": 2, "maxGpus": 2}}),
        ({"workers": {"min": 1, "max": 2}}, {**GPU, "limits": {"maxWorkers": 2, "maxGpus": 2}}),
        ({}, {"limits": {"locations": ["s3://team/"], "namespaces": ["team"]}}),
        ({"workers": {"resources": {"gpu": 0}}}, {**GPU, "limits": {"maxGpus": 0}}),
        (
            {"credentials": {"serviceAccountName": "trainer", "secretRefs": ["bucket"]}},
            {"limits": {"serviceAccounts": ["trainer"], "secrets": ["bucket", "hub"]}},
        ),
    ],
    ids=[
        "no limits",
        "at the limits",
        "a range that ends at the limits",
        "among the allowed",
        "no GPU asked where one is usual",
        "rights that are allowed",
    ],
)
def test_a_job_within_the_limits_has_no_problem(
    asked: Mapping[str, object], given: Mapping[str, object]
) -> None:
    assert beyond_limits(job(asked), "l4", profile(given)) == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"limits": {"locations": ["s3://team"]}}, "locations"),
        ({"environment": {"A-B": "x"}}, "environment"),
        ({"tolerations": [{"operator": "Exists", "value": "x"}]}, "tolerations"),
        ({"accelerator": {"name": "L4", "memory": "24GB"}}, "memory"),
        ({"image": "a b"}, "image"),
        ({"nodeSelector": {"pool": "-"}}, "nodeSelector"),
        ({"limit": {}}, "limit"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_wrong_profile_is_refused_with_its_field(spec: Mapping[str, object], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        profile(spec)


@pytest.mark.parametrize(
    ("workers", "in_use", "waits"),
    [
        pytest.param({"count": 2}, 0, False, id="nobody has any"),
        pytest.param({"count": 2}, 2, False, id="there are just enough"),
        pytest.param({"count": 2}, 3, True, id="one is missing"),
        pytest.param({"count": 2, "resources": {"gpu": 0}}, 9, False, id="it needs none"),
    ],
)
def test_a_job_waits_for_what_others_of_its_namespace_have(
    workers: Mapping[str, object], in_use: int, waits: bool
) -> None:
    given = profile({**GPU, "limits": {"maxGpusPerNamespace": 4}})
    asked = job({"profile": "l4", "workers": workers})
    told = waits_for_gpus(asked, given, 2, in_use)
    assert told == (
        "waiting for 2 GPUs: the profile l4 allows 4 to all jobs of the namespace team, and others "
        "have 3"
        if waits
        else ""
    )
    assert waits_for_gpus(asked, profile(GPU), 2, in_use) == ""
