"""A real API server holds a new job to the limits of its profile, in the controller's words."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from docs.reference.generate import CRDS
from tests.cluster.api import Answer, Api, administrator
from tests.cluster.installed import installed
from tests.cluster.language import RIGHT, Values
from tests.testbed.clusters import Cluster
from tunefleet.api.base import in_one_line
from tunefleet.api.crd.resources import GROUP, KINDS, PROFILES, VERSION
from tunefleet.api.job import FineTuneJob
from tunefleet.api.profile import ProfileSpec, beyond_limits

ROOT = f"/apis/{GROUP}/{VERSION}"
PROFILE: dict[str, object] = {
    "resources": {"gpu": 1, "cpu": 4, "memory": "16Gi"},
    "accelerator": {"name": "L4", "memory": "24Gi", "bf16": True},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "limits": {
        "maxWorkers": 4,
        "maxGpus": 2,
        "locations": ["s3://bucket/"],
        "serviceAccounts": ["default", "trainer"],
        "secrets": ["bucket"],
    },
}


SHARED: dict[str, object] = {"resources": {"gpu": 1}, "limits": {"maxGpusPerNamespace": 2}}


@dataclass(frozen=True, slots=True)
class Home:
    """A namespace, a profile for it and one for another."""

    api: Api
    namespace: str
    profile: str

    @property
    def limits(self) -> dict[str, object]:
        """What the profile is made of, here."""
        limits = {**PROFILE["limits"], "namespaces": [self.namespace]}  # type: ignore[dict-item]
        return {**PROFILE, "limits": limits}

    def job(self, spec: Values, profile: str | None = None) -> dict[str, object]:
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "FineTuneJob",
            "metadata": {"name": "made", "namespace": self.namespace},
            "spec": {**RIGHT, "profile": profile or self.profile, **spec},
        }

    def tried(self, body: object) -> Answer:
        where = f"{ROOT}/namespaces/{self.namespace}/finetunejobs?dryRun=All&fieldValidation=Strict"
        return self.api.call("POST", where, body)


@pytest.fixture(scope="module")
def home(cluster: Cluster) -> Iterator[Home]:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    cluster.kubectl("wait", "--for=condition=Established", *(f"crd/{kind.name}" for kind in KINDS))
    with (
        cluster.namespace() as namespace,
        administrator(cluster) as api,
        installed(cluster),
    ):
        found = Home(api, namespace, f"l4-{secrets.token_hex(3)}")
        others = {"limits": {"namespaces": ["nobody"]}}
        _make(found, found.profile, found.limits)
        _make(found, f"{found.profile}-others", others)
        _make(found, f"{found.profile}-shared", SHARED)
        try:
            _wait_until_in_force(found)
            yield found
        finally:
            for end in ("", "-others", "-shared"):
                api.call("DELETE", f"{ROOT}/{PROFILES.plural}/{found.profile}{end}")


def _make(home: Home, name: str, spec: Values) -> None:
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "ComputeProfile",
        "metadata": {"name": name},
        "spec": spec,
    }
    answer = home.api.call("POST", f"{ROOT}/{PROFILES.plural}?fieldValidation=Strict", body)
    assert answer.code == 201, answer.message


def _wait_until_in_force(home: Home) -> None:
    deadline = time.monotonic() + 60
    while home.tried(home.job({"workers": {"count": 5}})).code != 422:
        assert time.monotonic() < deadline, "the policy is not enforced"
        time.sleep(0.5)


BEYOND: dict[str, Values] = {
    "too many workers": {"workers": {"count": 5, "resources": {"gpu": 0}}},
    "too many GPUs of the profile": {"workers": {"count": 3}},
    "too many workers at the end of a range": {
        "workers": {"min": 1, "max": 5, "resources": {"gpu": 0}}
    },
    "too many GPUs at the end of a range": {"workers": {"min": 1, "max": 3}},
    "rows of another bucket": {"data": {"train": {"uri": "s3://other/rows.csv"}}},
    "held-out rows of another bucket": {
        "data": {"train": {"uri": "s3://bucket/a.csv"}, "test": {"uri": "gs://bucket/b.csv"}}
    },
    "a model of another bucket": {"model": {"uri": "s3://bucket-b/m"}},
    "a bundle of another bucket": {"model": {"from": {"bundle": "s3://bucketb/m"}}},
    "a service account that is not allowed": {"credentials": {"serviceAccountName": "admin"}},
    "a secret that is not allowed": {"credentials": {"secretRefs": ["bucket", "payroll"]}},
    "runs in another bucket": {"checkpoints": {"uri": "s3://elsewhere"}},
}


@pytest.mark.parametrize("spec", BEYOND.values(), ids=BEYOND)
def test_a_job_beyond_a_limit_is_told_the_same_by_server_and_controller(
    home: Home, spec: Values
) -> None:
    body = home.job(spec)
    told = beyond_limits(
        FineTuneJob.model_validate(body), home.profile, ProfileSpec.model_validate(home.limits)
    )
    answer = home.tried(body)
    assert answer.code == 422
    (problem,) = told
    sentence = in_one_line(problem.message, problem.remedy)
    assert answer.message.endswith(f"denied request: {problem.where}: {sentence}")


@pytest.mark.parametrize(
    "spec",
    [
        {"workers": {"count": 2}},
        {"workers": {"count": 4, "resources": {"gpu": 0}}},
        {"workers": {"min": 1, "max": 2}},
        {"data": {"train": {"uri": "s3://bucket/a.csv"}, "validation": {"fraction": 0.2}}},
        {"model": {"from": {"bundle": "s3://bucket/earlier"}}},
        {"credentials": {"serviceAccountName": "trainer", "secretRefs": ["bucket"]}},
    ],
    ids=[
        "at the limit of GPUs",
        "at the limit of workers",
        "a range that ends at the limit",
        "own bucket",
        "an earlier bundle",
        "rights that are allowed",
    ],
)
def test_a_job_within_the_limits_is_taken(home: Home, spec: Values) -> None:
    answer = home.tried(home.job(spec))
    assert answer.code == 201, answer.message


def test_the_profile_of_another_namespace_is_not_to_be_had(home: Home) -> None:
    answer = home.tried(home.job({}, f"{home.profile}-others"))
    assert answer.code == 422
    assert f"is not for jobs of the namespace {home.namespace} → name another" in answer.message


def test_a_job_that_needs_more_gpus_than_a_namespace_has_is_told_so_by_both(home: Home) -> None:
    name = f"{home.profile}-shared"
    body = home.job({"workers": {"count": 3}}, name)
    given = ProfileSpec.model_validate(SHARED)
    (problem,) = beyond_limits(FineTuneJob.model_validate(body), name, given)
    answer = home.tried(body)
    assert answer.code == 422
    sentence = in_one_line(problem.message, problem.remedy)
    assert answer.message.endswith(f"denied request: {problem.where}: {sentence}")
    assert home.tried(home.job({"workers": {"count": 2}}, name)).code == 201


def test_a_job_without_a_profile_is_held_by_none_unless_one_is_required(
    home: Home, cluster: Cluster
) -> None:
    body = home.job({"workers": {"count": 9}})
    del body["spec"]["profile"]  # type: ignore[attr-defined]
    assert home.tried(body).code == 201
    with installed(cluster, "--set=admission.profileRequired=true"):
        deadline = time.monotonic() + 60
        while (answer := home.tried(body)).code == 201:
            assert time.monotonic() < deadline, "the policy is not enforced"
            time.sleep(0.5)
    assert "spec.profile: is missing; every job of this cluster has one" in answer.message


def test_a_profile_is_required_where_a_release_looks_after_jobs_and_not_beside_it(
    home: Home, cluster: Cluster
) -> None:
    body = home.job({})
    del body["spec"]["profile"]  # type: ignore[attr-defined]
    options = (f"--set=onlyNamespace={home.namespace}", "--set=admission.profileRequired=true")
    with cluster.namespace() as elsewhere, installed(cluster, *options):
        beside = replace(home, namespace=elsewhere)
        stranger = {**body, "metadata": {"name": "made", "namespace": elsewhere}}
        deadline = time.monotonic() + 60
        while (answer := home.tried(body)).code == 201:
            assert time.monotonic() < deadline, "the policy is not enforced"
            time.sleep(0.5)
        assert "spec.profile: is missing; every job of this namespace has one" in answer.message
        assert beside.tried(stranger).code == 201


def test_profiles_are_listed_with_what_they_give(home: Home, cluster: Cluster) -> None:
    shown = cluster.kubectl("get", "cprofile", home.profile, "--no-headers").split()
    assert shown[:5] == [home.profile, "L4", "4", "16Gi", "4"]
