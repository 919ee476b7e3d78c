"""Which cluster is meant, and how its refusals are told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunefleet.api.errors import ClusterError, MachineError
from tunefleet.kube.errors import ApiError
from tunefleet.verbs.cluster.connect import Cluster, Where, on, told

CONFIG = """\
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u, namespace: research}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: u, user: {token: secret}}]
"""
CAUSES = {
    "name": "reviews",
    "causes": [
        {"field": "spec.task", "message": 'Invalid value: "object": is wrong → write it right'},
        {"field": "spec.model", "message": "Required value"},
    ],
}


async def _namespace(cluster: Cluster) -> str:
    return cluster.namespace


async def _jobs(cluster: Cluster) -> object:
    from tunefleet.verbs.cluster.status import list_jobs

    return await list_jobs(cluster)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "config"
    path.write_text(CONFIG)
    return path


def test_the_namespace_is_the_contexts_unless_it_is_named(config: Path) -> None:
    assert on(Where(config), _namespace) == "research"
    assert on(Where(config, "other"), _namespace) == "other"
    config.write_text(CONFIG.replace(", namespace: research", ""))
    assert on(Where(config), _namespace) == "default"


def test_a_cluster_that_does_not_answer_is_named(config: Path) -> None:
    with pytest.raises(ClusterError, match=r"no answer from http://127\.0\.0\.1:9") as caught:
        on(Where(config), _jobs)
    assert "--kubeconfig" in caught.value.remedy


@pytest.mark.usefixtures("config")
def test_without_any_kubeconfig_it_is_said_how_to_name_one() -> None:
    with pytest.raises(ClusterError, match="no cluster to talk to") as caught:
        on(Where(), _namespace)
    assert "KUBECONFIG" in caught.value.remedy
    with pytest.raises(ClusterError, match="there is no file nowhere"):
        on(Where(Path("nowhere")), _namespace)


def test_a_machine_without_the_clients_packages_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tunefleet.kube.access", None)
    with pytest.raises(MachineError) as caught:
        on(Where(), _namespace)
    assert caught.value.remedy == "pip install 'tunefleet[control]'"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        pytest.param(ApiError(401, "Unauthorized", ""), "does not know who asks", id="nobody"),
        pytest.param(ApiError(403, "Forbidden", "no"), "the role `edit`", id="no right"),
        pytest.param(
            ApiError(404, "NotFound", "404 page not found"), "helm install", id="a missing kind"
        ),
        pytest.param(
            ApiError(404, "NotFound", 'namespaces "x" not found', {"name": "x"}),
            'namespaces "x" not found',
            id="a missing namespace",
        ),
        pytest.param(
            ApiError(422, "Invalid", "long", CAUSES),
            "spec.task: is wrong\n    → write it right\n  spec.model: Required value",
            id="an invalid job",
        ),
        pytest.param(ApiError(500, "", "oh"), "the cluster refuses: oh", id="anything else"),
    ],
)
def test_refusals_are_told_with_their_remedy(error: ApiError, says: str) -> None:
    assert says in str(told(error, "https://cluster.test"))
