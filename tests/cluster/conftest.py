"""A real API server for the tests of this folder, and a namespace for each of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.commands import define
from tests.cluster.players import Players, players
from tests.testbed import clusters
from tests.testbed import kuberay as operator
from tests.testbed.bed import chosen_name
from tests.testbed.clusters import Cluster
from tests.testbed.processes import Processes


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster of ``KUBECONFIG``, or a bed that is up, or a bed for this session (15 s).

    Where tests run beside each other (``pytest -n``), each process has a bed of its own.
    """
    beside = os.environ.get("PYTEST_XDIST_WORKER")
    name = f"{chosen_name()}-{beside}" if beside else chosen_name()
    with clusters.cluster(name=name, say=_say(request)) as found:
        yield found


@pytest.fixture(scope="session")
def kuberay(cluster: Cluster, request: pytest.FixtureRequest) -> Cluster:
    """The cluster, with the KubeRay operator at work on it."""
    clusters.ensure_kuberay(cluster, say=_say(request))
    return cluster


@pytest.fixture
def unplayed(kuberay: Cluster) -> Cluster:
    """The cluster with the operator, where nothing runs its pods: a bed without a node."""
    if kuberay.bed is None or Processes(kuberay.bed.run).pid(operator.PROCESS) is None:
        pytest.skip("pods are played on a bed without a node only")
    return kuberay


@pytest.fixture
def stage(unplayed: Cluster, namespace: str) -> Iterator[Players]:
    """Players of the namespace's pods and of Ray's dashboard."""
    with players(unplayed, namespace) as found:
        yield found


@pytest.fixture(scope="module")
def definitions(kuberay: Cluster) -> None:
    """Our kinds beside KubeRay's."""
    define(kuberay)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace for this test alone."""
    with cluster.namespace() as name:
        yield name


def _say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Tells what is being started, past pytest's capture: it can take minutes, once."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(what: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n  testbed: {what}", flush=True)

    return say
