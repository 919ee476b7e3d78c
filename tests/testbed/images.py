"""Images in the node's containerd, without a registry.

Decides how an image gets there: as an OCI layout streamed into ``ctr``, without the layers that
containerd has already. Small images (pause, busybox, the operator) are made here of one layer
each. Imports the bed's own modules.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.testbed.bed import Bed, BedError
from tests.testbed.parts import PAUSE
from tests.testbed.processes import output

PAUSE_IMAGE = "localhost/pause:1"
BUSYBOX_IMAGE = "localhost/busybox:1"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def ctr(bed: Bed, *arguments: str) -> list[str]:
    """A ctr command for the images and containers of the node's pods."""
    return ["ctr", f"--address={bed.containerd}", "--namespace=k8s.io", *arguments]


def present(bed: Bed) -> set[str]:
    """The names of the node's images."""
    return set(output(ctr(bed, "images", "list", "--quiet")).split())


# -- from a layout on disk -------------------------------------------------------------


def load_layout(bed: Bed, layout: Path, name: str) -> int:
    """Load the one image of an OCI layout under ``name``; how many bytes that took."""
    manifest, document = _read(layout)
    known = set(output(ctr(bed, "content", "list", "--quiet")).split())
    digests = [manifest["digest"], document["config"]["digest"]]
    digests += [layer["digest"] for layer in document["layers"] if layer["digest"] not in known]
    blobs = {digest: _blob(layout, digest) for digest in digests}

    def write(stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="w|") as archive:
            _add_index(archive, name, manifest["digest"], manifest["size"])
            for digest, path in blobs.items():
                archive.add(path, arcname=_blob_name(digest))

    _import(bed, write)
    return sum(path.stat().st_size for path in blobs.values())


def drop_unused(layout: Path) -> None:
    """Remove the blobs that are not of the layout's image."""
    manifest, document = _read(layout)
    used = {manifest["digest"], document["config"]["digest"]}
    used |= {layer["digest"] for layer in document["layers"]}
    for blob in (layout / "blobs" / "sha256").iterdir():
        if f"sha256:{blob.name}" not in used:
            blob.unlink()


def _read(layout: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The one manifest's entry in the index, and the manifest."""
    [entry] = json.loads((layout / "index.json").read_text())["manifests"]
    return entry, json.loads(_blob(layout, entry["digest"]).read_text())


# -- of one layer ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Small:
    """An image of a few files: contents by path, links by path, and how it starts."""

    name: str
    files: Mapping[str, Path | bytes]
    links: Mapping[str, str]
    command: Sequence[str]
    folders: Sequence[str] = ()

    def load(self, bed: Bed) -> None:
        """Load it into the node."""
        _import(bed, self.write)

    def write(self, stream: IO[bytes]) -> None:
        """Write it as an OCI archive."""
        layer = self._layer()
        diff = _digest(layer)
        config = _json(
            {
                "architecture": "arm64" if platform.machine() == "aarch64" else "amd64",
                "os": "linux",
                "config": {"Env": [_PATH], "Entrypoint": list(self.command)},
                "rootfs": {"type": "layers", "diff_ids": [diff]},
            }
        )
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _described(_CONFIG, config),
                "layers": [_described(_LAYER, layer)],
            }
        )

        with tarfile.open(fileobj=stream, mode="w|") as archive:
            _add_index(archive, self.name, _digest(manifest), len(manifest))
            for blob in (manifest, config, layer):
                _add(archive, _blob_name(_digest(blob)), blob)

    def _layer(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for folder in self.folders:
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
                archive.addfile(entry)
            for path, content in self.files.items():
                data = content if isinstance(content, bytes) else content.read_bytes()
                _add(archive, path, data, mode=0o755)
            for path, target in self.links.items():
                entry = tarfile.TarInfo(path)
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                archive.addfile(entry)
        return buffer.getvalue()


def load_small(bed: Bed) -> None:
    """Load the images that a node needs before any other."""
    there = present(bed)
    for image in (_pause(), _busybox()):
        if image.name not in there:
            image.load(bed)


def _pause() -> Small:
    return Small(PAUSE_IMAGE, {"pause": PAUSE.path("pause")}, {}, ["/pause"])


def _busybox() -> Small:
    program = Path("/bin/busybox")
    applets = [name for name in output([program, "--list"]).split() if name != "busybox"]
    return Small(
        BUSYBOX_IMAGE,
        {"bin/busybox": program, "etc/passwd": b"root:x:0:0:root:/:/bin/sh\n"},
        {f"bin/{name}": "busybox" for name in applets},
        ["/bin/sh"],
        folders=("tmp",),
    )


# -- inside ----------------------------------------------------------------------------


def _import(bed: Bed, write: Callable[[IO[bytes]], None]) -> None:
    command = ctr(bed, "images", "import", "-")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            write(process.stdin)
            process.stdin.close()
        except BrokenPipeError:
            pass  # its own words say more
        said = process.stdout.read().decode(errors="replace")
    if process.returncode:
        raise BedError(f"containerd did not take the image: {said.strip()[-1000:]}")


def _add_index(archive: tarfile.TarFile, name: str, digest: str, size: int) -> None:
    annotations = {"io.containerd.image.name": name}
    entry = {"mediaType": _MANIFEST, "digest": digest, "size": size, "annotations": annotations}
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}
    _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    _add(archive, "index.json", _json(index))


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def _described(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _blob(layout: Path, digest: str) -> Path:
    return layout / _blob_name(digest)
