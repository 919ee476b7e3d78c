"""What the storage tests share: stores that die on command, and damage by hand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from tunefleet.storage.checkpoints import CheckpointWriter, Manifest
from tunefleet.storage.run import RunStore, StartRecord
from tunefleet.storage.store import Store
from tunefleet.storage.writer import Writer

_names = itertools.count()
# (One name sorts before MANIFEST.json: no order of deletes is right by accident.)
FILES: Mapping[str, bytes] = {"ADAM.safetensors": b"moments" * 9, "rank/0.json": b"{}"}
DATA_FILES = sorted(FILES)


class Killed(BaseException):
    """The process is gone: nothing after this runs, no handler may clean up."""


class MortalStore(Store):
    """A store whose process dies at a chosen write or delete (``fuse`` more succeed)."""

    fuse: int | None = None
    held: tuple[str, bytes] | None = None
    hold_manifests = False

    def _spend(self) -> None:
        if self.fuse is None:
            return
        if self.fuse == 0:
            raise Killed
        self.fuse -= 1

    def write(self, key: str, body: bytes | memoryview | Path) -> tuple[int, str]:
        self._spend()
        return super().write(key, body)

    def create(self, key: str, body: bytes) -> bool:
        self._spend()
        if self.hold_manifests and key.endswith("/MANIFEST.json"):
            self.held = (key, body)  # the writer sleeps between its last check and its write
            raise Killed
        return super().create(key, body)

    def delete(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            self._spend()
            super().delete([key])


def mortal_memory() -> MortalStore:
    return MortalStore(f"memory://storage-tests-{next(_names)}")


def new_run(store: Store) -> RunStore:
    return RunStore.create(store, "default", "reviews")


def begin(run: RunStore, *, attempt: bool = True, workers: int = 2) -> StartRecord:
    """Claim (an attempt and) a start."""
    if attempt:
        run.claim_attempt(Writer.here())
    claim = run.newest_claim()
    assert claim is not None
    return run.claim_start(claim.attempt, workers)


def writer_of(run: RunStore, *, attempt: bool = True) -> CheckpointWriter:
    return CheckpointWriter(run, begin(run, attempt=attempt))


def commit(writer: CheckpointWriter, step: int, metric: float | None = None) -> Manifest:
    files = {name: body + str(step).encode() for name, body in FILES.items()}
    return writer.commit(step, files, metric=metric, chain=f"chain-{step}", digests={"code": "1"})


def overwrite(run: RunStore, key: str, body: bytes) -> None:
    Store(run.store.uri).put(run.key(key), body)


def remove(run: RunStore, key: str) -> None:
    Store(run.store.uri).delete([run.key(key)])


def rewritten(run: RunStore, manifest: Manifest, **changes: object) -> None:
    """Replace a manifest by a changed one whose seal is right."""
    overwrite(run, manifest.key, manifest.model_copy(update=changes).sealed().to_json().encode())


def damage(run: RunStore, manifest: Manifest, kind: str) -> None:
    """Break a checkpoint in one of the ways disks, people and zombies break them."""
    file = f"checkpoints/{manifest.name}/{DATA_FILES[0]}"
    body = Store(run.store.uri).get(run.key(file))
    text = Store(run.store.uri).get(run.key(manifest.key))
    match kind:
        case "a data file cut short":
            overwrite(run, file, body[:-1])
        case "a bit flipped in a data file":
            overwrite(run, file, bytes([body[0] ^ 1]) + body[1:])
        case "a data file deleted":
            remove(run, file)
        case "an empty manifest":
            overwrite(run, manifest.key, b"")
        case "a manifest cut short":
            overwrite(run, manifest.key, text[: len(text) // 2])
        case "a manifest of no text":
            overwrite(run, manifest.key, b"\xff\xfe\x00" + text)
        case "a step altered in the manifest":
            record = json.loads(text)
            overwrite(run, manifest.key, json.dumps(record | {"step": 7}).encode())
        case "another checkpoint's manifest":
            rewritten(run, manifest, name="00000099-9.9.9-abcdef")
        case "the manifest deleted":
            remove(run, manifest.key)
        case _:
            raise AssertionError(kind)


DAMAGES = (
    "a data file cut short",
    "a bit flipped in a data file",
    "a data file deleted",
    "an empty manifest",
    "a manifest cut short",
    "a manifest of no text",
    "a step altered in the manifest",
    "another checkpoint's manifest",
    "the manifest deleted",
)
