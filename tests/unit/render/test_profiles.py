"""What a profile changes in the objects of a job, and for which of its pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.plans import some_facts
from tunefleet.api.job import FineTuneJob
from tunefleet.api.profile import AcceleratorSpec, ProfileSpec
from tunefleet.plan.nodes import machine_of
from tunefleet.plan.planner import make_plan
from tunefleet.render.prepare_job import prepare_job
from tunefleet.render.ray_job import ray_job
from tunefleet.render.settings import Runtime

OURS = Runtime(image="tunefleet-runtime:1")


def job() -> FineTuneJob:
    return FineTuneJob.model_validate(
        {
            "apiVersion": "tunefleet.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "reviews", "namespace": "team"},
            "spec": {
                "task": "text-classification",
                "model": {"name": "a"},
                "data": {"train": {"uri": "s3://b/a.csv"}},
                "checkpoints": {"uri": "s3://b/runs"},
                "workers": {"count": 2, "resources": {"gpu": 1}},
            },
        }
    )


def pods(runtime: Runtime) -> dict[str, Any]:
    """The pod specs of what prepares and submits, of the head and of the workers."""
    prepares: Any = prepare_job(job(), "reviews-0a1b2-0", "u", runtime)
    plan = make_plan(job(), some_facts(), machine_of(job()))
    trains: Any = ray_job(job(), "reviews-0a1b2-1", "u", plan, runtime)
    cluster = trains["spec"]["rayClusterSpec"]
    return {
        "prepare": prepares["spec"]["template"]["spec"],
        "submits": trains["spec"]["submitterPodTemplate"]["spec"],
        "head": cluster["headGroupSpec"]["template"]["spec"],
        "workers": cluster["workerGroupSpecs"][0]["template"]["spec"],
    }


def under(spec: Mapping[str, object]) -> dict[str, Any]:
    return pods(OURS.under(ProfileSpec.model_validate(spec)))


def test_no_profile_changes_nothing() -> None:
    assert OURS.under(None) == OURS
    assert under({}) == pods(OURS)


@pytest.mark.parametrize("pod", ["prepare", "submits", "head", "workers"])
def test_every_pod_gets_the_image_its_secrets_and_the_sites_variables(pod: str) -> None:
    spec = {
        "image": "registry.example.com/ours@sha256:0",
        "imagePullSecrets": ["registry"],
        "environment": {"HTTPS_PROXY": "http://proxy:3128", "TUNEFLEET_ATTEMPT": "another"},
        "certificates": {"configMap": "site-ca", "key": "bundle.pem"},
    }
    found = under(spec)[pod]
    container = found["containers"][0]
    told = {each["name"]: each["value"] for each in container["env"]}
    assert container["image"] == "registry.example.com/ours@sha256:0"
    assert found["imagePullSecrets"] == [{"name": "registry"}]
    assert told["HTTPS_PROXY"] == "http://proxy:3128"
    assert told["TUNEFLEET_ATTEMPT"].startswith("reviews-0a1b2-")
    assert told["SSL_CERT_FILE"] == "/etc/tunefleet/certificates/bundle.pem"
    (volume,) = [each for each in found["volumes"] if each["name"] == "certificates"]
    assert volume["configMap"]["name"] == "site-ca"
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "certificates"]
    assert (
        f"{mount['mountPath']}/{volume['configMap']['items'][0]['path']}" == told["SSL_CERT_FILE"]
    )


def test_workers_alone_are_placed_on_the_profiles_machines() -> None:
    toleration = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    found = under({"nodeSelector": {"pool": "l4"}, "tolerations": [toleration]})
    assert found["workers"]["nodeSelector"] == {"pool": "l4"}
    assert found["workers"]["tolerations"] == [toleration]
    assert all("nodeSelector" not in found[pod] for pod in ("prepare", "submits", "head"))
    assert all("tolerations" not in found[pod] for pod in ("prepare", "submits", "head"))


def test_a_plan_is_made_for_the_profiles_gpus() -> None:
    accelerator = AcceleratorSpec(name="L4", memory="24Gi", bf16=True)
    known, assumed = machine_of(job(), accelerator).device, machine_of(job()).device
    assert (known.name, known.memory, known.bf16, known.count) == ("L4", 24 << 30, True, 2)
    assert (assumed.name, assumed.bf16) == ("GPU", False)
    assert assumed.memory < known.memory
