"""A cluster to test on: the user's own, or a bed.

Decides that ``KUBECONFIG`` wins, that a bed which is up is used as it is, and that only what was
started here is taken down again. Imports the bed's own modules.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import image, kuberay, life
from tests.testbed.bed import Bed, BedError, chosen_name
from tests.testbed.parts import KUBERNETES
from tests.testbed.processes import output


@dataclass(frozen=True, slots=True)
class Cluster:
    """A way into a cluster as its administrator; ``bed`` is None where a user brought it."""

    kubeconfig: Path
    program: str
    bed: Bed | None = None

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 120) -> str:
        """What kubectl printed; an error with its words if it failed."""
        command = [self.program, f"--kubeconfig={self.kubeconfig}", *arguments]
        return output(command, stdin=stdin, seconds=seconds)

    def apply(self, *documents: Mapping[str, object], namespace: str | None = None) -> None:
        """Apply objects on the server's side."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        where = ["--namespace", namespace] if namespace else []
        self.kubectl("apply", "--server-side", *where, "--filename", "-", stdin=json.dumps(items))

    @contextlib.contextmanager
    def namespace(self) -> Iterator[str]:
        """A namespace of its own, which is gone afterwards with all that is in it."""
        name = f"test-{secrets.token_hex(4)}"
        self.kubectl("create", "namespace", name)
        try:
            yield name
        finally:
            # Not waited for: a pod may take its whole grace time.
            self.kubectl("delete", "namespace", name, "--wait=false")


@contextlib.contextmanager
def cluster(
    kind: life.Kind = "cp", *, name: str | None = None, say: Callable[[str], None]
) -> Iterator[Cluster]:
    """The cluster that ``KUBECONFIG`` names, else a bed with as much as ``kind`` says."""
    if named := os.environ.get("KUBECONFIG"):
        program = shutil.which("kubectl") or str(KUBERNETES.path("kubectl"))
        yield Cluster(Path(named), program, _bed_of(Path(named)))
        return
    bed = Bed(name or chosen_name())
    found = life.kind_of(bed)
    try:
        if found not in (kind, "node"):
            life.up(bed, kind, say=say)
        yield Cluster(bed.kubeconfig, str(KUBERNETES.path("kubectl")), bed)
    finally:
        if found is None:
            life.down(bed, say=say)


def ensure_kuberay(cluster: Cluster, *, say: Callable[[str], None]) -> None:
    """Install the operator on a bed; a user's cluster has to have it."""
    if cluster.bed is not None:
        kuberay.up(cluster.bed, say=say)
        return
    try:
        cluster.kubectl("get", "crd", *kuberay.CRDS)
    except BedError as error:
        raise BedError(
            f"{cluster.kubeconfig} leads to a cluster without KubeRay: install its operator, "
            f"version 1.6 or newer ({error})"
        ) from error


def ensure_image(cluster: Cluster, target: image.Target, *, say: Callable[[str], None]) -> str:
    """Have the project's image on a bed's node; a user names the one their nodes can pull."""
    if cluster.bed is not None:
        return image.ensure(cluster.bed, target, say=say)
    variable = f"TUNEFLEET_{target.upper()}_IMAGE"
    if not (named := os.environ.get(variable)):
        raise BedError(
            f"which image do the nodes of {cluster.kubeconfig} run? Build the Dockerfile's "
            f"target {target}, push it where they can pull it, and set {variable}"
        )
    return named


def _bed_of(kubeconfig: Path) -> Bed | None:
    bed = Bed(chosen_name())
    return bed if kubeconfig.resolve() == bed.kubeconfig.resolve() else None
