"""The project's own images, built without a daemon and loaded into the node.

Decides the base (a Debian of its own, made once: nothing here needs a registry), the tag (a
digest of everything that goes into an image, so that what has a tag is never built again) and
what pip may use. A folder of wheels named in ``PIP_FIND_LINKS`` serves the build as it serves
``make``. Imports the bed's own modules.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from tests.testbed import images, machine
from tests.testbed.bed import Bed, BedError, cache
from tests.testbed.processes import output, succeeds

Target = Literal["runtime", "controller"]
_ROOT = Path(__file__).parents[2]
_SOURCES = ("Dockerfile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "platform")
_SUITE = "bookworm"
_BASE_PACKAGES = "python3,python3-venv,ca-certificates,wget"
_BASE = f"localhost/tunefleet-base:{_SUITE}"
_WHEELS = "/tmp/wheels"
_CERTIFICATES = "/tmp/pip-ca.crt"
_LAYERS_OF_CODE = 2  # the last ones of the Dockerfile


def tag(target: Target) -> str:
    """The image's name: what it is, and a digest of what it is made of."""
    digest = hashlib.sha256()
    for path in _files():
        digest.update(str(path.relative_to(_ROOT)).encode() + b"\0" + path.read_bytes())
    return f"localhost/tunefleet-{target}:{digest.hexdigest()[:12]}"


def ensure(bed: Bed, target: Target, *, say: Callable[[str], None]) -> str:
    """Build the image and load it into the bed's node, as far as that is still to do."""
    name = tag(target)
    with _alone():
        if name not in images.present(bed):
            _build(name, target, say)
            say(f"loading {name}")
            size = images.load_layout(bed, _layout(target), name)
            say(f"loaded {size / 1e6:.0f} MB")
    return name


def build(target: Target, *, say: Callable[[str], None]) -> str:
    """Build the image into an OCI layout, unless it is there."""
    name = tag(target)
    with _alone():
        _build(name, target, say)
    return name


def _build(name: str, target: Target, say: Callable[[str], None]) -> None:
    layout = _layout(target)
    written = layout / "written"  # which image the layout holds, once it is whole
    if written.exists() and written.read_text() == name:
        return
    _ensure_base(say)
    if not _is_there(name):
        say(f"building {name}")
        _bud(name, target)
    say(f"writing {name}")
    layout.mkdir(parents=True, exist_ok=True)
    written.unlink(missing_ok=True)
    (layout / "index.json").unlink(missing_ok=True)
    _write(name, layout)
    images.drop_unused(layout)
    written.write_text(name)


def _write(name: str, layout: Path) -> None:
    """Write the image into the layout, where layers that are there already stay as they are.

    buildah compresses what it writes into a layout, which takes longer than everything else
    together and has to be undone by containerd. A plain folder it writes uncompressed, and a
    layout takes layers that were moved there; only the few small ones of a change of the code
    are left to it.
    """
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    known = {f"sha256:{blob.name}" for blob in blobs.iterdir()}
    described = json.loads(output(_buildah("inspect", "--type", "image", name), seconds=300))
    layers = described["OCIv1"]["rootfs"]["diff_ids"]
    if len(set(layers) - known) > _LAYERS_OF_CODE:
        plain = layout / "plain"
        shutil.rmtree(plain, ignore_errors=True)
        options = ("--quiet", "--disable-compression", "--format=oci")
        output(_buildah("push", *options, name, f"dir:{plain}"), seconds=1800)
        for layer in set(layers):
            (plain / layer.removeprefix("sha256:")).replace(blobs / layer.removeprefix("sha256:"))
        shutil.rmtree(plain)
    output(_buildah("push", "--quiet", name, f"oci:{layout}:image"), seconds=1800)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One build at a time on a machine: builds share a store."""
    path = cache() / "images" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            machine.unmount(cache() / "buildah")  # buildah leaves its layers mounted


def _bud(name: str, target: Target) -> None:
    command = _buildah("bud", "--layers", "--network", "host", "--target", target, "--tag", name)
    command += ["--build-arg", f"BASE_IMAGE={_BASE}", *_for_pip()]
    done = subprocess.run([*command, str(_ROOT)], check=False, env=_environment())
    if done.returncode:
        raise BedError(f"the {target} image was not built (its words are above)")


def _ensure_base(say: Callable[[str], None]) -> None:
    if _is_there(_BASE):
        return
    say(f"making a Debian {_SUITE} to build on (once)")
    root = cache() / "base.part"
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    options = ["--variant=minbase", f"--include={_BASE_PACKAGES}"]
    output(["debootstrap", *options, _SUITE, root], seconds=1800)
    for rest in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / rest)
        (root / rest / "partial").mkdir(parents=True)
    container = output(_buildah("from", "scratch")).strip()
    output(_buildah("add", "--quiet", container, str(root), "/"), seconds=600)
    output(_buildah("commit", "--quiet", container, _BASE), seconds=600)
    output(_buildah("rm", container))
    shutil.rmtree(root)


def _is_there(name: str) -> bool:
    return succeeds(_buildah("inspect", "--type", "image", name), seconds=300)


def _for_pip() -> list[str]:
    """The options by which a build's pip finds what this machine's pip finds."""
    options: list[str] = []
    folders = [Path(link) for link in os.environ.get("PIP_FIND_LINKS", "").split()]
    for number, folder in enumerate(folder for folder in folders if folder.is_dir()):
        options += ["--volume", f"{folder.resolve()}:{_WHEELS}/{number}:ro"]
    found = [f"{_WHEELS}/{number}" for number in range(len(options) // 2)]
    if found:
        options += ["--build-arg", f"PIP_FIND_LINKS={' '.join(found)}"]
    if certificates := os.environ.get("PIP_CERT"):
        options += ["--volume", f"{Path(certificates).resolve()}:{_CERTIFICATES}:ro"]
        options += ["--build-arg", f"PIP_CERT={_CERTIFICATES}"]
    if index := os.environ.get("PIP_INDEX_URL"):
        options += ["--build-arg", f"PIP_INDEX_URL={index}"]
    # A node of a bed has no GPU: the CPU build where a folder of wheels has it.
    version = re.search(r"^torch==(\S+)$", (_ROOT / "constraints.txt").read_text(), re.MULTILINE)
    if version and any(folder.glob(f"torch-{version[1]}+cpu-*.whl") for folder in folders):
        options += ["--build-arg", f"TORCH=torch=={version[1]}+cpu"]
    return options


def _buildah(*arguments: str) -> list[str]:
    place = cache() / "buildah"
    return [
        "buildah",
        f"--root={place / 'storage'}",
        f"--runroot={place / 'run'}",
        "--storage-driver=overlay",
        *arguments,
    ]


def _environment() -> dict[str, str]:
    # The steps run in a chroot: no other namespace is needed to install packages.
    return {**os.environ, "BUILDAH_ISOLATION": "chroot"}


def _layout(target: Target) -> Path:
    return cache() / "images" / target


def _files() -> Iterator[Path]:
    for source in _SOURCES:
        path = _ROOT / source
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)
