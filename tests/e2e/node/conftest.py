"""A node that runs pods, the KubeRay operator, and the project's own image on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.testbed import clusters
from tests.testbed.clusters import Cluster


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Tells what is being started, past pytest's capture: it can take minutes, once."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def told(what: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n  testbed: {what}", flush=True)

    return told


@pytest.fixture(scope="session")
def cluster(say: Callable[[str], None]) -> Iterator[Cluster]:
    """The cluster of ``KUBECONFIG``, or a bed with a node and KubeRay for this session (40 s)."""
    with clusters.cluster("node", say=say) as found:
        clusters.ensure_kuberay(found, say=say)
        yield found


@pytest.fixture(scope="session")
def runtime_image(cluster: Cluster, say: Callable[[str], None]) -> str:
    """The image that prepares and trains, built and loaded where that is still to do."""
    return clusters.ensure_image(cluster, "runtime", say=say)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace for this test alone, in which pods are held to the strictest standard."""
    with cluster.namespace() as name:
        label = "pod-security.kubernetes.io/enforce=restricted"
        cluster.kubectl("label", "namespace", name, label)
        yield name
