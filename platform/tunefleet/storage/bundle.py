"""Bundles: a folder that can be served, under the digest of what affects its answers.

Decides what the digest covers: every file except the model card (``README.md``), the seal
itself (``tunefleet/bundle.json``) and hidden files, which no loader reads and file managers
leave behind. Imports ``api`` and its siblings below it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tunefleet.api.errors import ModelError, StorageError
from tunefleet.storage.digests import digest_of_file
from tunefleet.storage.folder import RunFolder
from tunefleet.storage.records import refuse_newer
from tunefleet.storage.store import Store

SEAL = "tunefleet/bundle.json"
CARD = "README.md"
_SHORT = 12


@dataclass(frozen=True, slots=True)
class Bundle:
    """A sealed bundle: where it is, its digest, its size in bytes.

    ``path`` is the local folder, empty when the bundle lies in a remote store.
    """

    uri: str
    path: str
    digest: str
    bytes: int


def seal(folder: Path, facts: Mapping[str, object]) -> str:
    """Write ``tunefleet/bundle.json``, last of all files; returns ``sha256:<hex>``.

    ``facts`` are carried along and not covered by the digest.
    """
    measured = _measure(folder)
    if not measured:
        raise ModelError(f"{folder} holds no files to make a bundle of")
    taken = {"version", "digest", "files"} & facts.keys()
    if taken:
        raise ValueError(f"facts may not be named {', '.join(sorted(taken))}")
    digest = "sha256:" + _digest({name: sha for name, (_, sha) in measured.items()})
    record = {
        "version": 1,
        "digest": digest,
        "files": {name: {"size": size, "sha256": sha} for name, (size, sha) in measured.items()},
        **facts,
    }
    path = folder / SEAL
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    part.replace(path)
    return digest


def open_bundle(location: str | Path) -> Path:
    """A bundle's local folder, after every file was checked against the seal."""
    folder = _folder(location)
    record = _seal_of(folder)
    expected = _expected(folder, record)
    found = {name: sha for name, (_, sha) in _measure(folder).items()}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise _changed(folder, f"{name} is missing")
        if name not in expected:
            raise _changed(folder, f"{name} was added")
        if found[name] != expected[name]:
            raise _changed(folder, name)
    if record.get("digest") != "sha256:" + _digest(expected):
        raise _changed(folder, SEAL)
    return folder


def bundle_digest(folder: Path) -> str:
    """The digest a sealed folder states (checked by :func:`open_bundle`)."""
    return str(_seal_of(folder)["digest"])


def publish(run: RunFolder, folder: Path) -> Bundle:
    """Put a sealed folder under ``<run>/bundle/<digest>/`` and read it back.

    The seal goes last, so a kill leaves no folder that looks like a bundle; publishing the
    same bundle again mends what such a kill left.
    """
    open_bundle(folder)
    digest = bundle_digest(folder)
    prefix = run.key("bundle", digest.removeprefix("sha256:")[:_SHORT])
    measured = {name: sha for name, (_, sha) in _measure(folder).items()}
    cards = [CARD] if (folder / CARD).is_file() else []
    for name in [*measured, *cards, SEAL]:
        run.store.put(f"{prefix}/{name}", folder / name)
    run.store.flush(f"{prefix}/{name}" for name in [*measured, *cards, SEAL])
    for name, sha in measured.items():
        if run.store.digest(f"{prefix}/{name}")[1] != sha:
            raise StorageError(
                f"{prefix}/{name} in {run.store.uri} is not what was written",
                remedy="run again; the checkpoint it was made from is kept",
            )
    path = run.store.local_path(prefix)
    return Bundle(
        uri=path.as_uri() if path else f"{run.store.uri.rstrip('/')}/{prefix}",
        path=str(path) if path else "",
        digest=digest,
        bytes=_size(run.store, prefix),
    )


def _folder(location: str | Path) -> Path:
    text = str(location)
    if "://" in text:
        parts = urlsplit(text)
        if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
            raise ModelError(
                f"{text} is not on this machine", remedy="copy the bundle into a local folder"
            )
        return Path(unquote(parts.path))
    return Path(text).expanduser()


def _seal_of(folder: Path) -> dict[str, object]:
    path = folder / SEAL
    if not path.is_file():
        raise ModelError(
            f"{folder} is no bundle: it has no {SEAL}"
            if folder.is_dir()
            else f"{folder}: there is no such folder",
            remedy="give the folder that `tunefleet run` names at its end",
        )
    body = path.read_bytes()
    refuse_newer(body, str(path))
    try:
        record = json.loads(body)
    except ValueError as error:
        raise _changed(folder, SEAL) from error
    if not isinstance(record, dict) or not isinstance(record.get("digest"), str):
        raise _changed(folder, SEAL)
    return record


def _expected(folder: Path, record: Mapping[str, object]) -> dict[str, str]:
    files = record.get("files")
    if not isinstance(files, dict):
        raise _changed(folder, SEAL)
    found = {}
    for name, entry in files.items():
        sha = entry.get("sha256") if isinstance(entry, dict) else None
        if not isinstance(sha, str):
            raise _changed(folder, SEAL)
        found[str(name)] = sha
    return found


def _measure(folder: Path) -> dict[str, tuple[int, str]]:
    """Size and sha256 of every file the digest covers, by path, sorted."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such folder")
    names = (path.relative_to(folder).as_posix() for path in _files(folder))
    covered = sorted(name for name in names if name not in {CARD, SEAL} and not _hidden(name))
    return {name: digest_of_file(folder / name) for name in covered}


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _digest(shas: Mapping[str, str]) -> str:
    lines = (f"{name}\0{sha}\n" for name, sha in sorted(shas.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _size(store: Store, prefix: str) -> int:
    return sum(size for _, size in store.list(prefix))


def _changed(folder: Path, what: str) -> ModelError:
    return ModelError(
        f"{folder} was changed after it was made: {what}",
        remedy="copy the bundle again from the run it belongs to, or make it anew",
    )
