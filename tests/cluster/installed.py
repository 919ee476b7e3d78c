"""The chart in a cluster, by the real helm, for as long as a test needs it.

Decides nothing but the release's name, which is new each time, so that two installations for two
tests never meet.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from tests.testbed.clusters import Cluster
from tests.testbed.parts import HELM, build
from tests.unit.house.tree import ROOT

CHART = ROOT / "helm" / "tunefleet"


def helm() -> str:
    """The helm of this machine, or the one that is built for the tests."""
    found = shutil.which("helm")
    if found is not None:
        return found
    build([HELM], say=print)
    return str(HELM.path("helm"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm and hand back what it said, well or ill."""
    return subprocess.run(
        [helm(), *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def rendered(*options: str, release: str = "tunefleet", namespace: str = "tunefleet-system") -> str:
    """All manifests of the chart."""
    done = run("template", release, str(CHART), f"--namespace={namespace}", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True, slots=True)
class Release:
    """An installation: its name, its namespace, and its controller's service account."""

    name: str
    namespace: str

    @property
    def lease(self) -> str:
        """The Lease of its leader."""
        return f"{self.name}-tunefleet-controller"

    @property
    def controller(self) -> str:
        """The name by which the API server knows the controller."""
        return f"system:serviceaccount:{self.namespace}:{self.name}-tunefleet-controller"


@contextlib.contextmanager
def installed(cluster: Cluster, *options: str) -> Iterator[Release]:
    """Install the chart, and take it away again."""
    with cluster.namespace() as namespace:
        release = Release(f"r{secrets.token_hex(3)}", namespace)
        way = (f"--kubeconfig={cluster.kubeconfig}", f"--namespace={namespace}")
        done = run("install", release.name, str(CHART), *way, "--skip-crds", *options)
        assert done.returncode == 0, done.stderr
        try:
            yield release
        finally:
            gone = run("uninstall", release.name, *way)
            assert gone.returncode == 0, gone.stderr
