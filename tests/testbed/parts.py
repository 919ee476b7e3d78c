"""What a bed is made of, and how each part comes onto this machine.

Decides which Go module every server is built from and which Debian package brings what is not
built. A build is kept under a key of its module's files, so that a changed version is another
folder and an unchanged one costs nothing. Imports the standard library and the bed's own
modules.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.bed import BedError, cache

_MODULES = Path(__file__).with_name("go")
_KUBERNETES = "v1.35.4"
_VERSION = "k8s.io/component-base/version"


@dataclass(frozen=True, slots=True)
class Part:
    """A binary: the module in ``go/`` that pins it, the package, the names it is called by.

    ``carries`` is a folder of the package's own module that is kept beside the binary.
    """

    module: str
    package: str
    names: tuple[str, ...]
    flags: str = ""
    carries: str = ""

    @property
    def source(self) -> Path:
        return _MODULES / self.module

    @property
    def folder(self) -> Path:
        """Where it is kept, by the content of what it is made from."""
        digest = hashlib.sha256(repr((self.package, self.flags, self.carries)).encode())
        for path in sorted(self.source.iterdir()):
            digest.update(path.name.encode() + path.read_bytes())
        return cache() / "bin" / f"{self.module}-{digest.hexdigest()[:12]}"

    def path(self, name: str) -> Path:
        """The binary under one of its names."""
        return self.folder / name


KUBERNETES = Part(
    "kube",
    ".",
    (
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
        "kubelet",
        "kubectl",
    ),
    flags=f"-X {_VERSION}.gitVersion={_KUBERNETES} -X {_VERSION}.gitMajor=1 "
    f"-X {_VERSION}.gitMinor={_KUBERNETES.split('.')[1]} -X {_VERSION}.gitTreeState=clean",
)
KUBERAY = Part(
    "kuberay",
    "github.com/ray-project/kuberay/ray-operator",
    ("kuberay-operator",),
    carries="config",
)
ETCD = Part("etcd", "go.etcd.io/etcd/server/v3", ("etcd",))
COREDNS = Part("coredns", "github.com/coredns/coredns", ("coredns",))
PAUSE = Part("pause", ".", ("pause",))
# Kubeflow's, for the benchmark that runs it beside ours: no bed needs it.
TRAINER = Part(
    "trainer",
    "github.com/kubeflow/trainer/v2/cmd/trainer-controller-manager",
    ("trainer-controller-manager",),
)
HELM = Part("helm", "helm.sh/helm/v4/cmd/helm", ("helm",))

# A file that a package brings, and the package's name in Debian and Ubuntu.
CONTROL_PLANE_FILES = {"ip": "iproute2", "nsenter": "util-linux"}
NODE_FILES = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "/bin/busybox": "busybox-static",
}
IMAGE_FILES = {"buildah": "buildah", "debootstrap": "debootstrap"}


def require(files: dict[str, str], *, install: bool, say: Callable[[str], None]) -> None:
    """Stop with the names of the missing packages, or install them."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise BedError(
            "a bed needs Linux and root, for its network namespace; "
            "with a cluster of your own, set KUBECONFIG instead"
        )
    missing = sorted({package for file, package in files.items() if shutil.which(file) is None})
    if not missing:
        return
    if not install:
        raise BedError(
            f"missing: {' '.join(missing)}; on Debian or Ubuntu: apt-get install --yes "
            f"--no-install-recommends {' '.join(missing)} (or add --install to this command)"
        )
    say(f"installing {' '.join(missing)}")
    subprocess.run(["apt-get", "update", "--quiet"], check=True)
    subprocess.run(
        ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing],
        check=True,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )


def build(parts: Iterable[Part], *, say: Callable[[str], None]) -> None:
    """Build what is not there yet."""
    for part in parts:
        if not part.folder.exists():
            say(f"building {', '.join(part.names)} (once)")
            _build(part)


def source_of(part: Part, module: str) -> Path:
    """Where the source lies of a module that a part is made from, as Go has fetched it."""
    return Path(_go(part, "list", "-m", "-f", "{{.Dir}}", module).strip())


def _build(part: Part) -> None:
    # Built beside its place and moved there whole, so that a folder which exists is complete.
    unfinished = part.folder.with_name(f".{part.folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    first, *others = part.names
    try:
        _go(
            part,
            "build",
            "-ldflags",
            f"-s -w {part.flags}",
            "-o",
            str(unfinished / first),
            part.package,
        )
        for name in others:
            (unfinished / name).symlink_to(first)
        if part.carries:
            source = source_of(part, part.package)
            shutil.copytree(source / part.carries, unfinished / part.carries)
        unfinished.rename(part.folder)
    except OSError:
        if not part.folder.exists():  # another build of the same was quicker
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _go(part: Part, *arguments: str) -> str:
    command: Sequence[str] = ["go", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=part.source,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise BedError("Go 1.21 or newer is needed to build the servers: go.dev/dl") from error
    if done.returncode:
        raise BedError(f"go {arguments[0]} failed for {part.module} (its words are above)")
    return done.stdout
