"""An OCI image layout of a bundle, in the CNCF ModelPack form: a folder any registry takes.

Decides media types, that every file is a layer of its own under its own digest (so that a
registry keeps the same weights once), and that nothing in it depends on when it was made.
Imports ``api`` and ``storage.bundle``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tunefleet.api.errors import SpecError, StorageError
from tunefleet.export.result import Progress

_MODEL = "application/vnd.cncf.model"
ARTIFACT = f"{_MODEL}.manifest.v1+json"
CONFIG = f"{_MODEL}.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
FILEPATH = "org.cncf.model.filepath"
_TITLE = "org.opencontainers.image.title"
_REGISTRY_SCHEMES = ("oci://", "docker://", "registry://")

Descriptor = dict[str, object]


def refuse_registry(out: str) -> None:
    """Raise ``SpecError`` for an address of a registry, with the command that pushes."""
    scheme = next((s for s in _REGISTRY_SCHEMES if out.startswith(s)), None)
    if scheme is None:
        return
    raise SpecError(
        f"{out} is a registry: --to oci writes a folder",
        remedy="export to a folder and push that: oras cp --from-oci-layout FOLDER:latest "
        f"{out.removeprefix(scheme)}",
    )


def write_layout(
    bundle: Path, draft: Path, names: Sequence[str], *, job: str, digest: str, progress: Progress
) -> str:
    """Write the layout; returns the manifest's digest."""
    blobs = draft / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layers = []
    for done, name in enumerate(names, 1):
        layers.append(_layer(blobs, bundle / name, name))
        progress("copying", done, len(names))
    config = _blob(blobs, _config(job, layers), CONFIG)
    manifest = _blob(
        blobs,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTIFACT,
            "config": config,
            "layers": layers,
            "annotations": {"dev.tunefleet.bundle.digest": digest},
        },
        MANIFEST,
    )
    entry = manifest | {
        "artifactType": ARTIFACT,
        "annotations": {"org.opencontainers.image.ref.name": "latest"},
    }
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    (draft / "index.json").write_bytes(_bytes(index))
    (draft / "oci-layout").write_bytes(_bytes({"imageLayoutVersion": "1.0.0"}))
    return str(manifest["digest"])


def check_layout(folder: Path) -> int:
    """Read a layout back, every byte of it; returns how many blobs there are.

    Raises ``StorageError`` when a descriptor and its blob do not agree.
    """
    index = json.loads((folder / "index.json").read_bytes())
    count = 0
    for entry in index["manifests"]:
        manifest = json.loads(_read(folder, entry))
        for descriptor in (manifest["config"], *manifest["layers"]):
            _read(folder, descriptor)
            count += 1
        count += 1
    return count


def _config(job: str, layers: Sequence[Descriptor]) -> dict[str, object]:
    return {
        "descriptor": {"name": job},
        "modelfs": {"type": "layers", "diffIds": [layer["digest"] for layer in layers]},
        "config": {"format": "safetensors"},
    }


def _layer(blobs: Path, path: Path, name: str) -> Descriptor:
    sha, size = _hash(path)
    shutil.copyfile(path, blobs / sha)
    return {
        "mediaType": f"{_MODEL}.{_kind(name)}.v1.raw",
        "digest": f"sha256:{sha}",
        "size": size,
        "annotations": {FILEPATH: name, _TITLE: name},
    }


def _kind(name: str) -> str:
    if name.endswith(".safetensors") and "/" not in name:
        return "weight"
    return "doc" if name.endswith(".md") else "weight.config"


def _blob(blobs: Path, value: Mapping[str, object], media_type: str) -> Descriptor:
    body = _bytes(value)
    sha = hashlib.sha256(body).hexdigest()
    (blobs / sha).write_bytes(body)
    return {"mediaType": media_type, "digest": f"sha256:{sha}", "size": len(body)}


def _read(folder: Path, descriptor: Mapping[str, object]) -> bytes:
    """A small blob's bytes (of a layer: none), after digest and size were checked."""
    digest = str(descriptor["digest"])
    path = folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
    sha, size = _hash(path) if path.is_file() else ("", -1)
    if f"sha256:{sha}" != digest or size != descriptor["size"]:
        raise StorageError(
            f"{path} is not what its descriptor says", remedy="export again; is the disk sound?"
        )
    return path.read_bytes() if str(descriptor["mediaType"]).endswith("+json") else b""


def _hash(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        sha = hashlib.file_digest(file, "sha256").hexdigest()
        return sha, file.tell()


def _bytes(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
