"""Versions that are too old are known by what the cluster says, and told with what to do."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.kube.fake_server import Answer, DirectClient, FakeServer, status
from tunefleet.controller.versions import Kubernetes, kuberay_too_old, kubernetes_too_old


@pytest.mark.parametrize(
    ("major", "minor", "enough"),
    [
        pytest.param("1", "31", True, id="the oldest that is promised"),
        pytest.param("1", "31+", True, id="as some clouds write it"),
        pytest.param("1", "35", True, id="a newer one"),
        pytest.param("2", "0", True, id="the next major version"),
        pytest.param("1", "30", False, id="one minor version before"),
        pytest.param("1", "30+", False, id="that, as some clouds write it"),
        pytest.param("1", "9", False, id="a number and not a text"),
        pytest.param("", "", True, id="no version at all"),
        pytest.param(None, None, True, id="nothing"),
    ],
)
def test_kubernetes(major: str | None, minor: str | None, enough: bool) -> None:
    told = kubernetes_too_old({"major": major, "minor": minor, "gitVersion": "v1.35.4"})
    assert (told == "") is enough
    assert enough or "upgrade it to 1.31 or newer" in told


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        pytest.param(
            'RayJob in version "v1" cannot be handled as a RayJob: strict decoding error: '
            'unknown field "spec.preRunningDeadlineSeconds", unknown field "spec.x"',
            "this cluster's KubeRay does not know a RayJob's spec.preRunningDeadlineSeconds and "
            "spec.x: upgrade its operator and its definitions to 1.6 or newer",
            id="fields that it does not know",
        ),
        pytest.param("exceeded quota: none", "", id="a quota"),
        pytest.param("", "", id="no word"),
    ],
)
def test_kuberay(refusal: str, told: str) -> None:
    assert kuberay_too_old(refusal) == told


def test_a_server_is_asked_until_it_is_upgraded_and_not_again() -> None:
    async def main() -> None:
        server = FakeServer()
        kubernetes = Kubernetes(DirectClient(server))
        for minor in ("29", "30", "31"):
            server.answers.append(Answer(200, {"major": "1", "minor": minor}))
        assert "Kubernetes 1.29" in await kubernetes.too_old()
        assert "Kubernetes 1.30" in await kubernetes.too_old()
        for _ in range(3):
            assert await kubernetes.too_old() == ""
        assert [request.path for request in server.requests] == ["/version"] * 3

    asyncio.run(main())


def test_a_server_that_does_not_tell_its_version_is_taken_for_enough() -> None:
    async def main() -> None:
        server = FakeServer()
        server.answers.append(Answer(403, status(403, "Forbidden")))
        assert await Kubernetes(DirectClient(server)).too_old() == ""

    asyncio.run(main())
