"""The jobs of a namespace have so many GPUs at a time as their profile says, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.cluster.actors import MortalClient, Players, everything
from tests.cluster.at_work import at_work, until
from tests.testbed.clusters import Cluster
from tests.unit.controller.world import a_cluster_job
from tunefleet.controller.kinds import ATTEMPTS, FINE_TUNE_JOBS

pytestmark = pytest.mark.usefixtures("definitions")

NAMES = ("first", "second", "third")


@pytest.fixture
def profile(kuberay: Cluster, namespace: str) -> Iterator[str]:
    """Three GPUs for all jobs of a namespace; each of ours needs two."""
    name = f"shared-{namespace}"
    spec = {
        "resources": {"gpu": 1},
        "accelerator": {"name": "L4", "memory": "24Gi", "bf16": True},
        "limits": {"maxGpusPerNamespace": 3},
    }
    kind = {"apiVersion": "tunefleet.dev/v1alpha1", "kind": "ComputeProfile"}
    kuberay.apply({**kind, "metadata": {"name": name}, "spec": spec})
    yield name
    kuberay.kubectl("delete", "computeprofile", name)


def test_jobs_that_begin_at_once_wait_for_each_others_gpus(
    kuberay: Cluster, namespace: str, profile: str
) -> None:
    async def test(user: MortalClient) -> None:
        players, jobs = Players(user, namespace), list[dict[str, Any]]()
        for name in NAMES:
            body = a_cluster_job(profile=profile) | {"metadata": {"name": name}}
            await user.create(FINE_TUNE_JOBS, namespace, body)
        held: set[str] = set()
        at_once: list[int] = []

        async def look() -> None:
            await players.act()
            jobs[:] = await everything(user, FINE_TUNE_JOBS, namespace)
            held.update(job["metadata"]["name"] for job in jobs if _waits(job))
            attempts = await everything(user, ATTEMPTS, namespace)
            at_once.append(len([each for each in attempts if _trains(each)]))

        async def over() -> bool:
            return all(_status(job).get("phase") == "Succeeded" for job in jobs)

        await until(over, meanwhile=look, seconds=240)
        assert max(at_once) == 1
        assert len(held) >= 2, "who was not the first has waited"
        accepted = [
            c for job in jobs for c in _status(job)["conditions"] if c["type"] == "Accepted"
        ]
        assert [c["status"] for c in accepted] == ["True"] * len(NAMES)

    async def main() -> None:
        async with (
            at_work(kuberay, namespace),
            await MortalClient.connect(kuberay.kubeconfig) as user,
        ):
            user.count()
            await test(user)

    asyncio.run(main())


def _status(job: dict[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", job.get("status", {}))


def _waits(job: dict[str, Any]) -> bool:
    reasons = {c["type"]: c["reason"] for c in _status(job).get("conditions", [])}
    return reasons.get("Accepted") == "NamespaceLimit"


def _trains(attempt: dict[str, Any]) -> bool:
    return attempt["spec"]["stage"] == "Train" and not _status(attempt).get("result")
