"""A range of workers on a real API server, its scheduler and the real KubeRay operator."""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.actors import BUNDLE, MortalClient, Players, everything
from tests.cluster.at_work import Watched, at_work, is_in, job_of, until
from tests.cluster.players import players
from tests.testbed import kuberay as operator
from tests.testbed.clusters import Cluster
from tests.testbed.processes import Processes
from tests.unit.controller.world import a_cluster_job
from tunefleet.controller.jobs import placing
from tunefleet.controller.kinds import ATTEMPTS, FINE_TUNE_JOBS, RAY_JOBS
from tunefleet.kube.client import Client
from tunefleet.kube.resources import Manifest, Resource

pytestmark = pytest.mark.usefixtures("definitions")


class OfKubeRay(Watched):
    """A client whose RayJobs are the operator's."""

    async def create(
        self, resource: Resource, namespace: str | None, body: Manifest
    ) -> dict[str, object]:
        """As a controller makes them."""
        return await Client.create(self, resource, namespace, body)


class Driver(Players):
    """The prepare pod, and a driver that has its say once KubeRay has let it begin."""

    async def _train(self, name: str, command: str) -> None:
        for found in await everything(self.client, RAY_JOBS, self.namespace):
            running = found.get("status", {}).get("jobStatus") == "RUNNING"
            if found["metadata"]["name"] == name and running:
                result = {"phase": "Succeeded", "step": 30, "bundle": BUNDLE}
                await self.say(ATTEMPTS, name, {"result": result})


def test_a_job_is_gone_on_with_by_the_workers_that_had_a_place(
    kuberay: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kuberay.bed is None or Processes(kuberay.bed.run).pid(operator.PROCESS) is None:
        pytest.skip("pods are played on a bed without a node only")

    async def main() -> None:
        async with (
            at_work(kuberay, namespace, by=OfKubeRay),
            await MortalClient.connect(kuberay.kubeconfig) as user,
        ):
            user.count()
            body = a_cluster_job(workers={"min": 1, "max": 3}, retry={"maxFailures": 0})
            await user.create(FINE_TUNE_JOBS, namespace, body)
            driver = Driver(user, namespace)
            await until(
                lambda: is_in(user, namespace, "Succeeded"), meanwhile=driver.act, seconds=240
            )
            job = await job_of(user, namespace)
            assert job is not None
            told = [
                (a["number"], a.get("workers"), a.get("placed"), a.get("failure"))
                for a in job["status"]["attempts"]
            ]
            assert told == [(0, None, None, None), (1, 3, 1, "unplaced"), (2, 1, None, None)]
            why = job["status"]["attempts"][1]["message"]
            assert why.startswith("1 of 3 workers had a place after 3 s; ")
            assert why.endswith("no nodes available to schedule pods"), "the scheduler's own words"
            left = await everything(user, RAY_JOBS, namespace)
            assert [each["metadata"]["name"][-2:] for each in left] == ["-2"]
            (group,) = left[0]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
            assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (1, 1, 1)

    monkeypatch.setattr(placing, "PATIENCE_SECONDS", 3.0)
    with players(kuberay, namespace) as stage:
        stage.room = 1
        asyncio.run(main())
