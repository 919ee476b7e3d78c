"""One bed: its name, its folders and its addresses.

A bed is a Kubernetes of real servers on this machine, in a network namespace of its own from
which nothing leads out. Decides where everything of a bed is kept: what can be built again at
once in ``cache``, what one life of the bed writes in ``run`` (gone after ``down``), sockets in
``sockets``. Every bed has the same addresses, because every bed has its own namespace. Imports
the standard library alone.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

NODE = "node1"
NODE_ADDRESS = "10.200.0.1"
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
CLUSTER_RANGE = "10.244.0.0/16"
POD_RANGE = "10.244.0.0/24"
API_PORT = 6443
DEFAULT_NAME = "k8s"


def chosen_name() -> str:
    """The bed that is meant where none is named."""
    return os.environ.get("TUNEFLEET_BED") or DEFAULT_NAME


class BedError(RuntimeError):
    """Something of the bed did not work; the text says what, and what to do."""


def cache() -> Path:
    """What beds share and what survives them: binaries, the base image, built images."""
    named = os.environ.get("TUNEFLEET_TESTBED")
    return Path(named) if named else Path.home() / ".cache" / "tunefleet-testbed"


@dataclass(frozen=True, slots=True)
class Bed:
    """A bed by its name, whether it is up or not."""

    name: str = DEFAULT_NAME

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,11}", self.name):
            raise BedError(
                f"{self.name!r} cannot name a bed: take up to 12 lower-case letters and digits"
            )

    @property
    def folder(self) -> Path:
        """All files of this bed."""
        return cache() / "beds" / self.name

    @property
    def run(self) -> Path:
        """What one life of the bed writes; its end removes it."""
        return self.folder / "run"

    @property
    def images(self) -> Path:
        """containerd's store. It is kept, so that the next life has its images at once."""
        return self.folder / "containerd"

    @property
    def keys(self) -> Path:
        """Certificates, keys and the kubeconfigs made from them."""
        return self.run / "keys"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's way in, from outside the namespace."""
        return self.run / "kubeconfig"

    @property
    def audit(self) -> Path:
        """What the API server was asked, one JSON object a line."""
        return self.run / "logs" / "audit.jsonl"

    @property
    def sockets(self) -> Path:
        """A short path: a socket's address holds 107 characters."""
        return Path("/run") / f"tunefleet-bed-{self.name}"

    @property
    def containerd(self) -> Path:
        """containerd's socket."""
        return self.sockets / "containerd.sock"

    @property
    def namespace(self) -> Path:
        """The network namespace, as ``ip netns`` mounts it."""
        return Path("/run/netns") / self.name

    def inside(self, *command: str | Path) -> list[str]:
        """The command, entering the namespace first; its pid stays that of the command.

        Not ``ip netns exec``, which puts an empty /sys over the cgroups' mounts.
        """
        return ["nsenter", f"--net={self.namespace}", *map(str, command)]
